//! The timer log: one unit for each timer message, in the order of the timer topic's queue; the units of one tick are a
//! chain that leads back from the last one. Source: `store/.../timer/TimerLog.java`; reference store 22.3.
//! It knows no message and no wheel, and never reads the commit log.

use std::{path::Path, sync::Arc};

use wire::record::MAGIC_BLANK;

use crate::{
    disk::Disk,
    error::StoreError,
    log::{HEAD, Kind, Log},
    queue::{get_i32, get_i64},
};

/// Bytes of a unit.
pub(super) const UNIT: i64 = 52;
/// Bytes of the filler that ends a segment.
const BLANK: i64 = 16;
const DEFAULT: i32 = 1;
const ROLL: i32 = 2;
const DELETE: i32 = 4;
const READ: usize = 64 * 1024;
/// No time, offset or position is as great: what says so is damaged, and sums with it would not fit.
const FAR: i64 = i64::MAX / 2;
/// Units of a chain that lie closer than this are read together, bytes.
const NEAR: i64 = 4096;

const TIMER_LOG: Kind = Kind { key: "mappedFileSizeTimerLog", begins };

/// One timer message in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Position of the unit before it in the same slot, -1 for the first.
    pub(super) previous: i64,
    magic: i32,
    /// When it was written, ms.
    pub(super) write_ms: i64,
    delay_ms: i32,
    /// Where the message is in the commit log.
    pub(super) physical: i64,
    /// Bytes of the message.
    pub(super) size: i32,
    topic_hash: i32,
    reserved: i64,
}

impl Unit {
    /// A unit for the slot of `slot_ms`. Of one that is further from now than a unit can tell, 24 days, the time of writing is
    /// not told: a new slave takes such messages up, and the slot counts.
    pub(super) fn new(slot_ms: i64, write_ms: i64, kind: UnitKind, physical: i64, size: i32, topic_hash: i32) -> Self {
        let magic = DEFAULT | if kind.roll { ROLL } else { 0 } | if kind.delete { DELETE } else { 0 };
        let delay = |write_ms: i64| i32::try_from(slot_ms - write_ms).map(|delay_ms| (write_ms, delay_ms));
        let (write_ms, delay_ms) = delay(write_ms).or_else(|_| delay(slot_ms.max(1))).unwrap_or((write_ms, 0));
        Self { previous: -1, magic, write_ms, delay_ms, physical, size, topic_hash, reserved: 0 }
    }

    /// Time of its slot, ms.
    pub(super) fn slot_ms(&self) -> i64 {
        self.write_ms + i64::from(self.delay_ms)
    }

    /// Java's hash of the real topic.
    pub(super) fn topic_hash(&self) -> i32 {
        self.topic_hash
    }

    /// What it is for.
    pub(super) fn kind(&self) -> UnitKind {
        UnitKind { roll: self.magic & ROLL != 0, delete: self.magic & DELETE != 0 }
    }

    /// True for one that takes another message back in the slot where it is.
    pub(super) fn takes_back(&self) -> bool {
        let kind = self.kind();
        kind.delete && !kind.roll
    }

    /// What it adds to the number of messages that wait.
    pub(super) fn count(&self) -> i32 {
        if self.kind().delete { -1 } else { 1 }
    }

    fn encode(&self) -> [u8; UNIT as usize] {
        let mut bytes = [0; UNIT as usize];
        bytes[..4].copy_from_slice(&(UNIT as i32).to_be_bytes());
        bytes[4..12].copy_from_slice(&self.previous.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.magic.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.write_ms.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.delay_ms.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.physical.to_be_bytes());
        bytes[36..40].copy_from_slice(&self.size.to_be_bytes());
        bytes[40..44].copy_from_slice(&self.topic_hash.to_be_bytes());
        bytes[44..52].copy_from_slice(&self.reserved.to_be_bytes());
        bytes
    }

    /// A valid unit at the start of `bytes`.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let magic = get_i32(bytes, 12);
        if get_i32(bytes, 0) != UNIT as i32 || magic & !0xF != 0 || magic & DEFAULT == 0 {
            return None;
        }
        let unit = Self {
            previous: get_i64(bytes, 4),
            magic,
            write_ms: get_i64(bytes, 16),
            delay_ms: get_i32(bytes, 24),
            physical: get_i64(bytes, 28),
            size: get_i32(bytes, 36),
            topic_hash: get_i32(bytes, 40),
            reserved: get_i64(bytes, 44),
        };
        let is_in_bounds = (0..FAR).contains(&unit.physical) && (1..FAR).contains(&unit.write_ms);
        (unit.size > 0 && is_in_bounds && (-1..FAR).contains(&unit.previous)).then_some(unit)
    }
}

/// What a unit is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UnitKind {
    /// The message goes back into the timer topic: its time is beyond the wheel's window.
    pub(super) roll: bool,
    /// The message takes another one back.
    pub(super) delete: bool,
}

/// A part of the log in memory.
#[derive(Default)]
struct Held {
    start: i64,
    bytes: Vec<u8>,
}

/// The files and their end.
pub(super) struct TimerLog {
    log: Arc<Log>,
    end: i64,
}

impl TimerLog {
    /// Loads the segments. The end is not known before [`TimerLog::cut`].
    pub(super) fn load(disk: Arc<dyn Disk>, root: &Path, segment_size: u64, clean: bool) -> Result<Self, StoreError> {
        let log = Log::load_kind(disk, root.join("timerlog"), segment_size, clean, &TIMER_LOG)?;
        Ok(Self { log: Arc::new(log), end: 0 })
    }

    /// First position that is still there.
    pub(super) fn min(&self) -> i64 {
        self.log.min().unwrap_or(0)
    }

    /// First position after all segments.
    pub(super) fn files_end(&self) -> i64 {
        self.log.bases().last().map_or(0, |base| base + self.log.segment_size())
    }

    /// Where the next unit goes.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Bytes of a segment.
    pub(super) fn segment_size(&self) -> i64 {
        self.log.segment_size()
    }

    /// First position of the segment that holds one.
    pub(super) fn base_of(&self, position: i64) -> i64 {
        self.log.base_of(position)
    }

    /// Makes `end` the end, durably; what lies behind it is gone.
    pub(super) fn cut(&mut self, end: i64) -> Result<(), StoreError> {
        if self.log.min().is_some() {
            self.log.cut(end)?;
        }
        self.end = end;
        Ok(())
    }

    /// Writes a unit and tells its position.
    pub(super) fn append(&mut self, unit: &Unit) -> Result<i64, StoreError> {
        if self.has_no_room(self.end) {
            let left = self.log.next_base(self.end) - self.end;
            let mut blank = [0; BLANK as usize];
            blank[..4].copy_from_slice(&(left as i32).to_be_bytes());
            blank[12..].copy_from_slice(&MAGIC_BLANK.to_be_bytes());
            self.log.write(self.end, &blank[..left.min(BLANK) as usize])?;
            self.end = self.log.next_base(self.end);
        }
        let position = self.end;
        self.log.write(position, &unit.encode())?;
        self.end += UNIT;
        Ok(position)
    }

    fn has_no_room(&self, position: i64) -> bool {
        position + UNIT + BLANK > self.log.next_base(position)
    }

    fn may_hold(&self, position: i64) -> bool {
        position >= self.min() && (0..FAR).contains(&position)
    }

    /// The unit at a position, if a valid one is there.
    pub(super) fn unit(&self, position: i64) -> Result<Option<Unit>, StoreError> {
        let mut bytes = [0; UNIT as usize];
        if !self.may_hold(position) {
            return Ok(None);
        }
        let read = self.log.read(position, &mut bytes)?;
        Ok(if read == Some(bytes.len()) { Unit::decode(&bytes) } else { None })
    }

    /// Goes through a slot's chain backwards, from the unit at `last` to the one behind `after`. A unit that cannot belong
    /// to the slot of `tick` ends it.
    pub(super) fn chain(
        &self,
        last: i64,
        after: i64,
        tick: i64,
        precision_ms: i64,
        mut each: impl FnMut(i64, &Unit) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (mut position, mut step, mut held) = (last, i64::MAX, Held::default());
        while position > after
            && let Some(unit) = self.unit_near(position, step, &mut held)?
            && unit.slot_ms() / precision_ms == tick
        {
            each(position, &unit)?;
            if unit.previous >= position {
                break;
            }
            step = position - unit.previous;
            position = unit.previous;
        }
        Ok(())
    }

    /// The unit at a position, read with those before it where the last step back was short.
    fn unit_near(&self, position: i64, step: i64, held: &mut Held) -> Result<Option<Unit>, StoreError> {
        if !self.may_hold(position) {
            return Ok(None);
        }
        let end = position + UNIT;
        if position < held.start || end > held.start + held.bytes.len() as i64 {
            let wanted = if step <= NEAR { READ as i64 } else { UNIT };
            held.start = (end - wanted).max(self.base_of(position));
            held.bytes.resize((end - held.start) as usize, 0);
            if self.log.read(held.start, &mut held.bytes)? != Some(held.bytes.len()) {
                held.bytes.clear();
                return Ok(None);
            }
        }
        Ok(Unit::decode(&held.bytes[(position - held.start) as usize..]))
    }

    /// Sets the unit before another one in its chain.
    pub(super) fn link(&self, position: i64, previous: i64) -> Result<(), StoreError> {
        self.log.write(position + 4, &previous.to_be_bytes())
    }

    /// Goes through the units from a unit's position, or a segment's start, on, until `each` answers false or there is
    /// no valid one. Answers where that is.
    pub(super) fn scan(
        &self,
        from: i64,
        to: i64,
        mut each: impl FnMut(i64, &Unit) -> Result<bool, StoreError>,
    ) -> Result<i64, StoreError> {
        let (mut at, mut buf, mut held) = (from, vec![0; READ], 0..0i64);
        while at < to {
            if self.has_no_room(at) {
                at = self.log.next_base(at);
                continue;
            }
            if at + UNIT > held.end || at < held.start {
                let Some(read) = self.log.read(at, &mut buf)? else { break };
                held = at..at + read as i64;
            }
            let bytes = &buf[(at - held.start) as usize..];
            if bytes.len() >= UNIT as usize && get_i32(bytes, 12) as u32 == MAGIC_BLANK {
                at = self.log.next_base(at);
                continue;
            }
            let unit = bytes.get(..UNIT as usize).and_then(Unit::decode);
            let Some(unit) = unit else { break };
            if !each(at, &unit)? {
                break;
            }
            at += UNIT;
        }
        Ok(at)
    }

    /// The same log for one that only reads what is there now.
    pub(super) fn reader(&self) -> Self {
        Self { log: self.log.clone(), end: self.end }
    }

    /// The files, to make them durable without holding the log.
    pub(super) fn files(&self) -> Arc<Log> {
        self.log.clone()
    }

    /// Deletes leading segments whose messages have all left the commit log.
    pub(super) fn expire(&self, min_physical: i64) -> Result<usize, StoreError> {
        let mut deleted = 0;
        let last = (self.segment_size() - BLANK) / UNIT * UNIT - UNIT;
        while let Some(min) = self.log.min()
            && min + self.segment_size() <= self.end
            && self.unit(min + last)?.is_some_and(|unit| unit.physical < min_physical)
            && self.log.delete_first()?.is_some()
        {
            deleted += 1;
        }
        Ok(deleted)
    }
}

fn begins(head: &[u8; HEAD], _: i64) -> bool {
    get_i32(head, 0) == UNIT as i32 && get_i32(head, 12) & !0xF == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    fn load(root: &Path) -> TimerLog {
        TimerLog::load(Arc::new(RealDisk), root, 5200, true).unwrap()
    }

    fn unit(number: i64) -> Unit {
        Unit::new(9_000, 7_000, UnitKind::default(), number * 100, 100, 5)
    }

    #[test]
    fn as_java_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = load(dir.path());
        let roll_and_delete = UnitKind { roll: true, delete: true };
        log.append(&Unit {
            previous: 520,
            ..Unit::new(172_807_000, 7_000, roll_and_delete, 3_911_330, 649, 1_391_943_741)
        })
        .unwrap();
        let bytes = std::fs::read(dir.path().join("timerlog/00000000000000000000")).unwrap();
        let hex: String = bytes[..52].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "000000340000000000000208000000070000000000001b580a4cb80000000000003baea200000289\
             52f7603d0000000000000000"
        );
        assert_eq!(bytes.len(), 5200);
    }

    #[test]
    fn segments_end_with_a_blank_and_positions_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = load(dir.path());
        // 5200 - 16 = 99 units of 52 bytes and 36 bytes more.
        let positions: Vec<i64> = (0..150).map(|number| log.append(&unit(number)).unwrap()).collect();
        assert_eq!((positions[98], positions[99]), (98 * 52, 5200));
        let first = std::fs::read(dir.path().join("timerlog/00000000000000000000")).unwrap();
        assert_eq!(first[5148..5164], [0, 0, 0, 52, 0, 0, 0, 0, 0, 0, 0, 0, 0xCB, 0xD4, 0x31, 0x94]);
        let again = load(dir.path());
        let mut found = Vec::new();
        let end = again.scan(0, again.files_end(), |at, unit| {
            found.push((at, unit.physical / 100));
            Ok(true)
        });
        assert_eq!((end.unwrap(), found.len()), (positions[149] + 52, 150));
        assert!(found.iter().zip(&positions).all(|((at, _), want)| at == want));
        let mut again = again;
        again.cut(positions[120]).unwrap();
        assert_eq!(load(dir.path()).scan(5200, 10_400, |_, _| Ok(true)).unwrap(), positions[120]);
        assert_eq!(again.expire(9_900).unwrap(), 1);
        assert_eq!((again.min(), again.expire(i64::MAX).unwrap()), (5200, 0));
        assert_eq!(again.unit(0).unwrap(), None);
        assert_eq!(again.unit(5200).unwrap().unwrap().physical, 9_900);
    }
}
