//! Open files of consume queues, bounded in number: many thousand queues share a few descriptors.
//! Never closes a file that somebody is using; a forgotten file is simply opened again.

use std::{collections::HashMap, io, sync::Arc};

use parking_lot::Mutex;

use crate::disk::File;

const SHARDS: usize = 16;

/// Names a segment file: the queue's id in this process and the segment's number.
pub(crate) type FileKey = (u64, u64);

/// Second-chance cache of open files.
pub(crate) struct Handles {
    shards: [Mutex<Shard>; SHARDS],
}

struct Shard {
    places: HashMap<FileKey, usize>,
    slots: Vec<Slot>,
    hand: usize,
    capacity: usize,
}

struct Slot {
    key: FileKey,
    file: Arc<dyn File>,
    used: bool,
}

impl Handles {
    /// Keeps at most about `capacity` files open.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.div_ceil(SHARDS).max(1);
        let shard = || Shard { places: HashMap::new(), slots: Vec::new(), hand: 0, capacity };
        Self { shards: std::array::from_fn(|_| Mutex::new(shard())) }
    }

    /// The open file, opened by `open` if need be.
    pub(crate) fn get(
        &self,
        key: FileKey,
        open: impl FnOnce() -> io::Result<Arc<dyn File>>,
    ) -> io::Result<Arc<dyn File>> {
        let mut shard = self.shard(key).lock();
        if let Some(file) = shard.find(key) {
            return Ok(file);
        }
        let file = open()?;
        shard.insert(key, file.clone());
        Ok(file)
    }

    /// Forgets a file that is being deleted.
    pub(crate) fn forget(&self, key: FileKey) {
        self.shard(key).lock().remove(key);
    }

    fn shard(&self, (queue, segment): FileKey) -> &Mutex<Shard> {
        let mixed = queue.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ segment;
        &self.shards[(mixed >> 7) as usize % SHARDS]
    }
}

impl Shard {
    fn find(&mut self, key: FileKey) -> Option<Arc<dyn File>> {
        let slot = &mut self.slots[*self.places.get(&key)?];
        slot.used = true;
        Some(slot.file.clone())
    }

    fn insert(&mut self, key: FileKey, file: Arc<dyn File>) {
        let slot = Slot { key, file, used: true };
        if self.slots.len() < self.capacity {
            self.places.insert(key, self.slots.len());
            self.slots.push(slot);
            return;
        }
        let victim = self.victim();
        self.places.remove(&self.slots[victim].key);
        self.places.insert(key, victim);
        self.slots[victim] = slot;
    }

    fn victim(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.slots.len();
            if !std::mem::take(&mut self.slots[self.hand].used) {
                return self.hand;
            }
        }
    }

    fn remove(&mut self, key: FileKey) {
        if let Some(place) = self.places.remove(&key) {
            self.slots.swap_remove(place);
            if let Some(moved) = self.slots.get(place) {
                self.places.insert(moved.key, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, RealDisk};

    #[test]
    fn stays_within_its_bound_and_returns_the_right_file() {
        let dir = tempfile::tempdir().unwrap();
        let handles = Handles::new(16);
        for round in 0..3 {
            for number in 0..200u64 {
                let key = (number, number % 3);
                let file = handles.get(key, || RealDisk.open(&dir.path().join(number.to_string()), true)).unwrap();
                if round == 0 {
                    file.write_all_at(0, &number.to_be_bytes()).unwrap();
                }
                let mut found = [0; 8];
                file.read_exact_at(0, &mut found).unwrap();
                assert_eq!(u64::from_be_bytes(found), number);
                if number % 5 == 0 {
                    handles.forget(key);
                }
            }
        }
        let open: usize = handles.shards.iter().map(|shard| shard.lock().slots.len()).sum();
        assert!(open <= 16, "{open}");
    }
}
