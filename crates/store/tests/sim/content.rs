//! What is in one file of the simulated disk: what is durable, and what only the page cache knows.

use std::collections::BTreeSet;

use crate::common::Random;

pub const SECTOR: usize = 512;

/// A change that is not synced.
#[derive(Clone, Debug)]
pub enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The last write may be torn within a sector as well.
    tears: bool,
    durable: Vec<u8>,
    changes: Vec<Change>,
    now: Vec<u8>,
}

impl Content {
    /// An empty file. With `tears` the last write may be torn within a sector.
    pub fn new(tears: bool) -> Self {
        Self { tears, ..Self::default() }
    }

    /// Nothing was ever written, and no size given.
    pub fn is_new(&self) -> bool {
        self.now.is_empty() && self.durable.is_empty() && self.changes.is_empty()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub fn len(&self) -> u64 {
        self.now.len() as u64
    }

    pub fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let rest = self.now.get(offset as usize..).unwrap_or(&[]);
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        length
    }

    pub fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.changes.push(change);
    }

    pub fn sync(&mut self) {
        self.changes.iter().for_each(|change| apply(&mut self.durable, change));
        self.changes.clear();
    }

    /// The disk did not take what it should; the page cache goes on as if nothing had been.
    pub fn fail_sync(&mut self, random: &mut Random) {
        self.lose_changes(random);
    }

    /// The power went.
    pub fn lose(&mut self, random: &mut Random) {
        if !self.changes.is_empty() || self.now.len() != self.durable.len() || self.now != self.durable {
            self.lose_changes(random);
            self.now = self.durable.clone();
        }
    }

    /// Of each sector one of its versions since the last sync is kept, sectors in no order; of the lengths the first
    /// ones. In the commit log the last write of all may be torn at any byte.
    fn lose_changes(&mut self, random: &mut Random) {
        let changes = std::mem::take(&mut self.changes);
        let (last, mut length_lost, mut lost) = (changes.len().saturating_sub(1), false, BTreeSet::new());
        let (calm, torn) = (random.below(3) == 0, random.below(4) == 0);
        for (number, change) in changes.into_iter().enumerate() {
            match change {
                Change::Length(_) => {
                    length_lost |= random.below(3) == 0;
                    if !length_lost {
                        apply(&mut self.durable, &change);
                    }
                }
                Change::Write(at, mut bytes) => {
                    if number == last && torn && self.tears {
                        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
                    }
                    self.keep_sectors(at, &bytes, &mut lost, if calm { 12 } else { 3 }, random);
                }
            }
        }
    }

    /// Keeps the sectors that are not lost; one in `odds` is, from here on.
    fn keep_sectors(&mut self, at: u64, bytes: &[u8], lost: &mut BTreeSet<usize>, odds: u64, random: &mut Random) {
        let mut from = 0;
        while from < bytes.len() {
            let place = at as usize + from;
            let to = (from + SECTOR - place % SECTOR).min(bytes.len());
            if random.below(odds) == 0 {
                lost.insert(place / SECTOR);
            }
            if !lost.contains(&(place / SECTOR)) {
                apply(&mut self.durable, &Change::Write(place as u64, bytes[from..to].to_vec()));
            }
            from = to;
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length as usize, 0),
        Change::Write(_, new) if new.is_empty() => {}
        Change::Write(at, new) => {
            let end = *at as usize + new.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*at as usize..end].copy_from_slice(new);
        }
    }
}
