//! The bytes of the log that both stores have. Where they differ, the records around the place are named, and the
//! comparison goes on where both have the start of a record again. What a filler holds behind its head is nobody's.

use wire::record::BLANK_HEAD;

use crate::{
    error::StoreError,
    inspect::{
        diff::{Compared, LogContent, LogDifference, LogPlace, Part, Places, Weight},
        verify::Watch,
        view::StoreView,
    },
};

/// Bytes that are compared at once.
const CHUNK: usize = 1 << 20;
/// Differences that are kept for the caller.
const KEPT: usize = 100;

struct Walk<'a, 'o> {
    views: [&'a StoreView; 2],
    places: [Places<'a>; 2],
    bufs: [Vec<u8>; 2],
    out: &'o mut Compared,
}

/// Compares the common stretches.
pub(super) fn compare(views: [&StoreView; 2], watch: &mut dyn Watch, out: &mut Compared) -> Result<(), StoreError> {
    let total: i64 = out.common.iter().map(|(from, to)| to - from).sum();
    let places = [0, 1].map(|side| Places::new(&views[side].log, out.sides[side].end));
    let common = out.common.clone();
    let mut walk = Walk { views, places, bufs: [vec![0; CHUNK], vec![0; CHUNK]], out };
    for (from, to) in common {
        let mut at = from;
        while at < to {
            let next = walk.step(at, to)?;
            walk.out.bytes += (next - at) as u64;
            at = next;
            watch.progress(walk.out.bytes, total as u64);
        }
    }
    Ok(())
}

impl Walk<'_, '_> {
    /// Compares one piece and returns where to go on.
    fn step(&mut self, at: i64, to: i64) -> Result<i64, StoreError> {
        let mut wanted = CHUNK.min((to - at) as usize);
        for side in 0..2 {
            wanted = self.views[side].log.read(at, &mut self.bufs[side][..wanted])?;
            if wanted == 0 {
                return self.gone(side, at, to);
            }
        }
        let [a, b] = &self.bufs;
        if a[..wanted] == b[..wanted] {
            return Ok(at + wanted as i64);
        }
        let same = a[..wanted].iter().zip(&b[..wanted]).take_while(|(a, b)| a == b).count();
        self.differ(at + same as i64, to)
    }

    /// A segment has gone since the directory was listed: retention of a running broker took it.
    fn gone(&mut self, side: usize, at: i64, to: i64) -> Result<i64, StoreError> {
        let log = &self.views[side].log;
        log.refresh()?;
        let next = log.segments().iter().map(|found| found.base).find(|base| *base > at).unwrap_or(to).min(to);
        let texts = [0, 1].map(|number| if number == side { "removed meanwhile" } else { "not compared" }.to_owned());
        self.out.add(Part::Range, Weight::Note, format!("{at} to {next}"), texts);
        Ok(next)
    }

    /// Names what is around the byte `first`.
    fn differ(&mut self, first: i64, to: i64) -> Result<i64, StoreError> {
        let [mut a, mut b] = [self.places[0].at(first)?, self.places[1].at(first)?];
        if is_inside_filler(&a, first) && is_inside_filler(&b, first) {
            return Ok(a.to.min(b.to).min(to));
        }
        let places = [a.clone(), b.clone()];
        while a.to != b.to && a.to.min(b.to) < to {
            match a.to < b.to {
                true => a = self.places[0].at(a.to)?,
                false => b = self.places[1].at(b.to)?,
            }
        }
        let next = a.to.max(b.to).min(to);
        self.tell(first, next, places);
        Ok(next)
    }

    /// What follows the difference before it at once is the same one.
    fn tell(&mut self, first: i64, to: i64, [a, b]: [LogPlace; 2]) {
        if let Some(last) = self.out.log.last_mut()
            && last.to == a.from
            && last.to == b.from
        {
            last.to = to;
            return;
        }
        if self.out.log.len() < KEPT {
            self.out.log.push(LogDifference { first, to, a: a.clone(), b: b.clone() });
        }
        self.out.add(Part::Log, Weight::Different, format!("byte {first}"), [told(&a), told(&b)]);
    }
}

fn is_inside_filler(place: &LogPlace, offset: i64) -> bool {
    place.what == LogContent::Filler && offset >= place.from + BLANK_HEAD as i64
}

fn told(place: &LogPlace) -> String {
    let (from, to) = (place.from, place.to);
    match &place.what {
        LogContent::Record(name) | LogContent::Damaged(name) => {
            let damaged = if matches!(place.what, LogContent::Damaged(_)) { "DAMAGED " } else { "" };
            format!(
                "{damaged}record {from} to {to}: topic {}, queue {}, offset {}, time {}",
                name.topic, name.queue_id, name.queue_offset, name.store_timestamp
            )
        }
        LogContent::Filler => format!("end of a segment, {from} to {to}"),
        LogContent::Nothing(why) => format!("no record, {from} to {to}: {why}"),
    }
}
