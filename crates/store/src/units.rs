//! A row of fixed-size units over segment files: the files of one consume queue, simple or batch. New units wait in memory
//! until some are written together. It knows positions, not messages. Source: `MappedFileQueue.java`; reference store 2 and 12.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicI64, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use parking_lot::Mutex;

use crate::{
    disk::{Disk, File, FileSystem},
    error::{IoContext, StoreError},
    ext::ExtConfig,
    gather::{Gathered, Room},
    handles::Handles,
    segments::{self, Found, Shape},
};

/// What all rows of a store share.
pub(crate) struct UnitContext {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) handles: Handles,
    pub(crate) next_id: AtomicU64,
    /// The last stop was clean.
    pub(crate) clean: bool,
    pub(crate) ext: ExtConfig,
    /// How many units may wait in memory.
    pub(crate) room: Room,
    /// Makes all files durable at once.
    pub(crate) file_system: Option<Arc<dyn FileSystem>>,
}

/// Units `start` to `end` of one queue; what a new unit needs comes first.
#[repr(C)]
pub(crate) struct Units {
    /// First unit that is not there; published after its predecessor was put.
    end: AtomicI64,
    id: u64,
    context: Arc<UnitContext>,
    /// The newest units; held while files change.
    gathered: Mutex<Gathered>,
    /// First unit of the first file.
    start: AtomicI64,
    /// Unit after the last file; equal to `start` when there is no file.
    limit: AtomicI64,
    /// First unit that may not be durable.
    unsynced: AtomicI64,
    names_changed: AtomicBool,
    /// After an unclean stop there may be units beyond the end that survived their predecessors; after a write that failed
    /// a part of it.
    tail_unknown: AtomicBool,
    shape: Shape,
    dir: PathBuf,
}

/// Bytes that are read of a file to find its end.
const LOOK: usize = 8192;
static NOTHING: [u8; LOOK] = [0; LOOK];

impl Units {
    /// An empty row; touches no disk.
    pub(crate) fn empty(context: &Arc<UnitContext>, dir: PathBuf, shape: Shape) -> Self {
        Self {
            id: context.next_id.fetch_add(1, SeqCst),
            context: context.clone(),
            dir,
            shape,
            start: AtomicI64::new(0),
            end: AtomicI64::new(0),
            limit: AtomicI64::new(0),
            unsynced: AtomicI64::new(0),
            names_changed: AtomicBool::new(false),
            tail_unknown: AtomicBool::new(false),
            gathered: Mutex::default(),
        }
    }

    /// Finds the files in `dir` and the end of the written units.
    pub(crate) fn load(context: &Arc<UnitContext>, dir: PathBuf, shape: Shape) -> Result<Self, StoreError> {
        let units = Self::empty(context, dir, shape);
        units.gathered.lock().begin_at(&context.room, i64::MAX);
        let disk = &*context.disk;
        let mut found = segments::find(disk, &units.dir)?;
        let cut_short = found.iter().any(|found| found.len < shape.segment);
        segments::mend(disk, &units.dir, shape.segment, context.clean, &mut found, |last| units.begins_valid(last))?;
        segments::check_row(&units.dir, &found, shape.segment, shape.key)?;
        if let (Some(first), Some(last)) = (found.first(), found.last()) {
            units.start.store(units.unit_at(first.base), SeqCst);
            units.limit.store(units.unit_at(last.base) + units.per_segment(), SeqCst);
        }
        let gathered = units.find_end()?;
        let end = gathered.first();
        *units.gathered.lock() = gathered;
        units.end.store(end, SeqCst);
        units.unsynced.store(end, SeqCst);
        units.tail_unknown.store(!context.clean || cut_short, SeqCst);
        // The process that made the files may have ended before it synced their names.
        units.names_changed.store(!context.clean, SeqCst);
        Ok(units)
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The stop was no clean one, or a file was shorter than it was made: units may be missing at the end.
    pub(crate) fn is_tail_unknown(&self) -> bool {
        self.tail_unknown.load(SeqCst)
    }

    pub(crate) fn context(&self) -> &Arc<UnitContext> {
        &self.context
    }

    pub(crate) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Looks at each line of where the next unit goes, and takes no lock.
    pub(crate) fn touch(&self) -> (i64, bool, i64) {
        (self.end.load(Relaxed), self.gathered.is_locked(), self.start.load(Relaxed))
    }

    /// First unit of the first file.
    pub(crate) fn start(&self) -> i64 {
        self.start.load(SeqCst)
    }

    /// First unit that is not there.
    pub(crate) fn end(&self) -> i64 {
        self.end.load(SeqCst)
    }

    /// True while there is neither a file nor a unit that will go to one.
    pub(crate) fn is_unused(&self) -> bool {
        self.has_no_file() && self.end() == self.start()
    }

    fn has_no_file(&self) -> bool {
        self.limit.load(SeqCst) == self.start()
    }

    /// Bytes of all files.
    pub(crate) fn file_bytes(&self) -> u64 {
        (self.limit.load(SeqCst) - self.start()) as u64 * self.shape.unit as u64
    }

    /// Units of a segment.
    pub(crate) fn per_segment(&self) -> i64 {
        self.shape.segment as i64 / self.shape.unit as i64
    }

    /// First unit of the segment that holds `unit`.
    pub(crate) fn segment_start(&self, unit: i64) -> i64 {
        unit - unit % self.per_segment()
    }

    /// Reads units from `from` on into `buf`, at most `count`, never across a segment's end. Returns how many.
    pub(crate) fn read(&self, from: i64, count: usize, buf: &mut Vec<u8>) -> Result<usize, StoreError> {
        buf.clear();
        let until = self.end().min(self.segment_start(from) + self.per_segment());
        if from < self.start() || from >= until {
            return Ok(0);
        }
        let count = count.min((until - from) as usize);
        buf.resize(count * self.shape.unit, 0);
        if !self.read_there(from, buf)? {
            buf.clear();
            return Ok(0);
        }
        Ok(count)
    }

    /// One unit into `buf`; false when it is not there.
    pub(crate) fn read_one(&self, unit: i64, buf: &mut [u8]) -> Result<bool, StoreError> {
        if unit < self.start() || unit >= self.end() {
            return Ok(false);
        }
        self.read_there(unit, buf)
    }

    /// The first unit in [`from`, `to`) for which `after` holds, or `to`; `after` must not turn false again.
    pub(crate) fn partition(
        &self,
        from: i64,
        to: i64,
        mut after: impl FnMut(i64, &[u8]) -> bool,
    ) -> Result<i64, StoreError> {
        let mut buf = [0; 64];
        let buf = &mut buf[..self.shape.unit];
        let (mut low, mut high) = (from, to.max(from));
        while low < high {
            let middle = low + (high - low) / 2;
            let is_after = self.read_there(middle, buf)? && after(middle, buf);
            if is_after { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }

    /// Lets an empty row begin at `unit`: what lies before it in its segment becomes `filler`.
    pub(crate) fn begin_at(&self, unit: i64, filler: &[u8]) -> Result<(), StoreError> {
        let first = self.segment_start(unit);
        self.gathered.lock().begin_at(&self.context.room, first);
        for mark in [&self.start, &self.end, &self.limit, &self.unsynced] {
            mark.store(first, SeqCst);
        }
        self.append(&filler.repeat((unit - first) as usize))
    }

    /// Puts whole units at the end. They go to the files when enough have come together; on an error none was put.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut gathered = self.gathered.lock();
        let end = self.end();
        if !gathered.add(&self.context.room, bytes) {
            match self.write_gathered(&mut gathered) {
                // Without space they may wait, as long as they are not too many.
                Err(error) if error.is_disk_full() && !self.context.room.is_short_of(0) => {}
                written => written.inspect_err(|_| gathered.cut(&self.context.room, end, self.shape.unit))?,
            }
        }
        self.end.store(end + (bytes.len() / self.shape.unit) as i64, SeqCst);
        Ok(())
    }

    /// Writes the units that wait in memory.
    pub(crate) fn write(&self) -> Result<(), StoreError> {
        self.write_gathered(&mut self.gathered.lock())
    }

    fn write_gathered(&self, gathered: &mut Gathered) -> Result<(), StoreError> {
        while !gathered.bytes().is_empty() {
            let at = gathered.first();
            self.clear_tail(at)?;
            let room = (self.segment_start(at) + self.per_segment() - at) as usize * self.shape.unit;
            let now = gathered.bytes().len().min(room);
            // Of a write that fails a part may be in the file.
            let written = self.write_file(at, &gathered.bytes()[..now]);
            written.inspect_err(|_| self.tail_unknown.store(true, SeqCst))?;
            gathered.written(&self.context.room, now, self.shape.unit);
        }
        Ok(())
    }

    /// Puts one unit again that is below the end.
    pub(crate) fn rewrite(&self, unit: i64, bytes: &[u8]) -> Result<(), StoreError> {
        let mut gathered = self.gathered.lock();
        if gathered.replace(unit, bytes) {
            return Ok(());
        }
        self.unsynced.fetch_min(unit, SeqCst);
        self.write_file(unit, bytes)
    }

    /// A unit that is right as it stands, but was written by a process that may have ended before it synced it.
    pub(crate) fn doubt(&self, unit: i64) {
        if !self.context.clean {
            self.unsynced.fetch_min(unit, SeqCst);
        }
    }

    /// Number of the first unit for which `ends` holds, looked at one after the other, or the end.
    pub(crate) fn first(&self, ends: impl Fn(&[u8]) -> bool) -> Result<i64, StoreError> {
        let (mut at, mut buf) = (self.start(), Vec::new());
        while at < self.end() {
            let read = self.read(at, 4096, &mut buf)?;
            if let Some(place) = buf.chunks_exact(self.shape.unit).position(&ends) {
                return Ok(at + place as i64);
            }
            at += read as i64;
        }
        Ok(at)
    }

    /// Makes `end` the end: later files go, the rest of the last one reads as zeros.
    pub(crate) fn truncate(&self, end: i64) -> Result<(), StoreError> {
        let mut gathered = self.gathered.lock();
        if end >= self.end() {
            return Ok(());
        }
        let (end, in_files) = (end.max(self.start()), gathered.first());
        self.end.store(end, SeqCst);
        gathered.cut(&self.context.room, end, self.shape.unit);
        if end >= in_files {
            return Ok(());
        }
        self.unsynced.fetch_min(end, SeqCst);
        self.zero_from(end)
    }

    /// Makes what is beyond the end read as zeros, once after an unclean stop. True when there was something to do.
    pub(crate) fn settle_tail(&self) -> Result<bool, StoreError> {
        let gathered = self.gathered.lock();
        self.clear_tail(gathered.first())
    }

    fn clear_tail(&self, end: i64) -> Result<bool, StoreError> {
        let unknown = self.tail_unknown.load(SeqCst);
        if unknown && !self.has_no_file() {
            self.unsynced.fetch_min(end, SeqCst);
            self.zero_from(end)?;
        }
        self.tail_unknown.store(false, SeqCst);
        Ok(unknown)
    }

    fn zero_from(&self, end: i64) -> Result<(), StoreError> {
        // The first file stays even if it is empty: its name keeps the queue's counter.
        let keep = self.segment_start(end.max(self.start())) + self.per_segment();
        let keep = if end > self.start() && end % self.per_segment() == 0 { end } else { keep };
        while self.limit.load(SeqCst) > keep {
            let first = self.limit.load(SeqCst) - self.per_segment();
            self.remove_file(first)?;
            self.limit.store(first, SeqCst);
        }
        if self.limit.load(SeqCst) > end {
            let first = self.segment_start(end);
            let path = segments::path(&self.dir, self.byte_at(first));
            let file = self.file(first, false)?;
            file.set_len(((end - first) * self.shape.unit as i64) as u64).at("cut", &path)?;
            file.set_len(self.shape.segment).at("extend", &path)?;
        }
        Ok(())
    }

    /// Deletes the files that lie wholly before `unit`, never the last one. One that cannot be deleted stays part of the row.
    pub(crate) fn drop_before(&self, unit: i64) -> Result<usize, StoreError> {
        let _writing = self.gathered.lock();
        let mut dropped = 0;
        while self.start() + self.per_segment() <= unit && self.start() + self.per_segment() < self.limit.load(SeqCst) {
            let first = self.start();
            self.start.store(first + self.per_segment(), SeqCst);
            self.remove_file(first).inspect_err(|_| self.start.store(first, SeqCst))?;
            dropped += 1;
        }
        Ok(dropped)
    }

    /// Makes durable what was written, and the names of the files.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let (from, end, names_changed) = self.take_unsynced();
        let mut first = self.segment_start(from);
        while first < end.max(from + 1) && first < self.limit.load(SeqCst) {
            self.file(first, false)?.sync().at("sync", segments::path(&self.dir, self.byte_at(first)))?;
            first += self.per_segment();
        }
        if names_changed {
            for dir in self.dir.ancestors().take(3) {
                self.context.disk.sync_dir(dir).at("sync", dir)?;
            }
        }
        Ok(())
    }

    /// Nothing of it counts as durable before the next sync.
    pub(crate) fn distrust(&self) {
        if !self.has_no_file() {
            self.unsynced.store(self.start(), SeqCst);
            self.names_changed.store(true, SeqCst);
        }
    }

    /// What was written counts as durable from here on: the caller makes it so, or ends. Returns what was not, first and
    /// end, and whether names were not.
    pub(crate) fn take_unsynced(&self) -> (i64, i64, bool) {
        let gathered = self.gathered.lock();
        let end = gathered.first();
        let from = self.unsynced.swap(end, SeqCst).min(end).max(self.start());
        (from, end, self.names_changed.swap(false, SeqCst))
    }

    /// Deletes all files and begins again at 0.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        let mut gathered = self.gathered.lock();
        gathered.begin_at(&self.context.room, 0);
        let (start, limit) = (self.start(), self.limit.load(SeqCst));
        for mark in [&self.end, &self.start, &self.limit, &self.unsynced] {
            mark.store(0, SeqCst);
        }
        let mut first = limit - self.per_segment();
        while first >= start {
            self.remove_file(first)?;
            first -= self.per_segment();
        }
        Ok(())
    }

    fn remove_file(&self, first: i64) -> Result<(), StoreError> {
        let path = segments::path(&self.dir, self.byte_at(first));
        self.context.handles.forget(self.key(first));
        self.names_changed.store(true, SeqCst);
        match self.context.disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.at("delete", &path),
        }
    }

    /// Units that were there a moment ago; false when they were deleted meanwhile, and their file with them.
    fn read_there(&self, unit: i64, buf: &mut [u8]) -> Result<bool, StoreError> {
        match self.read_raw(unit, buf) {
            Err(_) if unit < self.start() => Ok(false),
            read => read.map(|()| true),
        }
    }

    fn read_raw(&self, unit: i64, buf: &mut [u8]) -> Result<(), StoreError> {
        let in_files = self.gathered.lock().copy(unit, self.shape.unit, buf);
        match &mut buf[..in_files * self.shape.unit] {
            [] => Ok(()),
            in_files => self.read_file(unit, in_files),
        }
    }

    fn read_file(&self, unit: i64, buf: &mut [u8]) -> Result<(), StoreError> {
        let first = self.segment_start(unit);
        let at = ((unit - first) * self.shape.unit as i64) as u64;
        let file = self.file(first, false)?;
        file.read_exact_at(at, buf).at("read", segments::path(&self.dir, self.byte_at(first)))
    }

    fn write_file(&self, unit: i64, bytes: &[u8]) -> Result<(), StoreError> {
        let first = self.segment_start(unit);
        let make = first >= self.limit.load(SeqCst);
        let file = self.file(first, make)?;
        let at = ((unit - first) * self.shape.unit as i64) as u64;
        file.write_all_at(at, bytes).at("write", segments::path(&self.dir, self.byte_at(first)))
    }

    fn file(&self, first: i64, make: bool) -> Result<Arc<dyn File>, StoreError> {
        if make {
            return self.make_file(first);
        }
        let path = || segments::path(&self.dir, self.byte_at(first));
        self.context.handles.get(self.key(first), || self.context.disk.open(&path(), false)).at("open", path())
    }

    fn make_file(&self, first: i64) -> Result<Arc<dyn File>, StoreError> {
        let disk = &self.context.disk;
        let path = segments::path(&self.dir, self.byte_at(first));
        if self.has_no_file() {
            disk.create_dir_all(&self.dir).at("create", &self.dir)?;
        }
        let file = disk.open(&path, true).at("create", &path)?;
        // Without its size it would be no part of the row, and nobody would delete it.
        file.set_len(self.shape.segment).at("size", &path).inspect_err(|_| drop(disk.remove(&path)))?;
        self.names_changed.store(true, SeqCst);
        self.limit.store(first + self.per_segment(), SeqCst);
        self.context.handles.forget(self.key(first));
        self.context.handles.get(self.key(first), || Ok(file.clone())).at("open", &path)
    }

    /// The last segment with a valid first unit decides; in it the valid ones come first. Returns what begins at the end.
    fn find_end(&self) -> Result<Gathered, StoreError> {
        let (is_valid, unit) = (self.shape.is_valid, self.shape.unit);
        let (mut gathered, mut look) = (Gathered::default(), [0; LOOK]);
        let look = &mut look[..LOOK.min(self.shape.segment as usize) / unit * unit];
        let mut first = self.limit.load(SeqCst) - self.per_segment();
        while first >= self.start() {
            self.read_file(first, look)?;
            let valid = look.chunks_exact(unit).take_while(|unit| is_valid(unit)).count();
            if valid > 0 {
                // Where zeros follow them, these are all; else a hole between them must not hide what is behind it.
                let rest = &look[valid * unit..];
                let are_all = !rest.is_empty() && *rest == NOTHING[..rest.len()];
                let end = match are_all {
                    true => first + valid as i64,
                    false => self.partition(first, first + self.per_segment(), |_, unit| !is_valid(unit))?,
                };
                gathered.begin_at(&self.context.room, end);
                if first == self.start() {
                    gathered.know(first, &look[..unit], false);
                }
                if let Some(last) = look.chunks_exact(unit).nth((end - 1 - first) as usize) {
                    gathered.know(end - 1, last, true);
                }
                return Ok(gathered);
            }
            first -= self.per_segment();
        }
        gathered.begin_at(&self.context.room, self.start());
        Ok(gathered)
    }

    fn begins_valid(&self, found: &Found) -> Result<bool, StoreError> {
        if found.len < self.shape.unit as u64 {
            return Ok(false);
        }
        let mut buf = vec![0; self.shape.unit];
        self.read_raw(self.unit_at(found.base), &mut buf)?;
        Ok((self.shape.is_valid)(&buf))
    }

    fn unit_at(&self, byte: i64) -> i64 {
        byte / self.shape.unit as i64
    }

    fn byte_at(&self, unit: i64) -> i64 {
        unit * self.shape.unit as i64
    }

    fn key(&self, first: i64) -> (u64, u64) {
        (self.id, (first / self.per_segment()) as u64)
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        self.gathered.get_mut().begin_at(&self.context.room, 0);
        let mut first = self.start();
        while first < self.limit.load(SeqCst) {
            self.context.handles.forget(self.key(first));
            first += self.per_segment();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    const SHAPE: Shape = Shape { unit: 20, segment: 200, key: "k", is_valid: |unit| unit[0] != 0 };

    fn context() -> Arc<UnitContext> {
        Arc::new(UnitContext {
            disk: Arc::new(RealDisk),
            handles: Handles::new(4),
            next_id: AtomicU64::new(1),
            clean: true,
            ext: ExtConfig { written: false, segment: 1000 },
            room: Room::new(0, 0),
            file_system: None,
        })
    }

    fn numbered(range: std::ops::Range<u8>) -> Vec<u8> {
        range.flat_map(|number| [number + 1; 20]).collect()
    }

    fn files(dir: &std::path::Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_retention_takes_meanwhile_is_gone_and_not_unreadable() {
        let dir = tempfile::tempdir().unwrap();
        let units = Units::empty(&context(), dir.path().join("t/0"), SHAPE);
        units.append(&numbered(0..35)).unwrap();
        units.sync().unwrap();
        assert_eq!(units.drop_before(20).unwrap(), 2);
        let mut unit = [0; 20];
        // As one finds it who looked at the start before.
        assert!(!units.read_there(5, &mut unit).unwrap());
        assert_eq!(units.partition(5, 35, |_, unit| unit[0] > 25).unwrap(), 25);
        std::fs::remove_file(dir.path().join("t/0").join(format!("{:020}", 400))).unwrap();
        units.context.handles.forget(units.key(20));
        assert!(units.read_there(20, &mut unit).is_err(), "nobody took this one");
    }

    #[test]
    fn append_read_truncate_reload() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("t/0");
        let units = Units::empty(&context(), at.clone(), SHAPE);
        assert!(units.has_no_file() && !at.exists());
        units.append(&numbered(0..25)).unwrap();
        let mut buf = Vec::new();
        assert_eq!(units.read(8, 100, &mut buf).unwrap(), 2);
        assert_eq!(buf, numbered(8..10));
        assert_eq!(units.read(25, 1, &mut buf).unwrap(), 0);
        units.sync().unwrap();
        units.truncate(13).unwrap();
        assert_eq!(files(&at).len(), 2);
        let again = Units::load(&context(), at.clone(), SHAPE).unwrap();
        assert_eq!((again.start(), again.end()), (0, 13));
        again.truncate(10).unwrap();
        assert_eq!(Units::load(&context(), at.clone(), SHAPE).unwrap().end(), 10);
        again.append(&numbered(10..11)).unwrap();
        assert_eq!(again.drop_before(10).unwrap(), 1);
        assert_eq!(files(&at), ["00000000000000000200"]);
        let again = Units::load(&context(), at.clone(), SHAPE).unwrap();
        assert_eq!((again.start(), again.end()), (10, 11));
        again.truncate(10).unwrap();
        assert_eq!(Units::load(&context(), at.clone(), SHAPE).unwrap().end(), 10);
        again.clear().unwrap();
        assert!(files(&at).is_empty() && again.has_no_file());
    }

    #[test]
    fn begins_in_the_middle_of_a_segment() {
        let dir = tempfile::tempdir().unwrap();
        let units = Units::empty(&context(), dir.path().join("t/0"), SHAPE);
        units.begin_at(27, &[99; 20]).unwrap();
        units.append(&numbered(0..5)).unwrap();
        assert_eq!((units.start(), units.end()), (20, 32));
        let mut buf = [0; 20];
        assert!(units.read_one(26, &mut buf).unwrap() && buf == [99; 20]);
        assert!(units.read_one(27, &mut buf).unwrap() && buf == [1; 20]);
        assert!(!units.read_one(19, &mut buf).unwrap());
    }

    #[test]
    fn empty_and_short_files_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("t/0");
        Units::empty(&context(), at.clone(), SHAPE).append(&numbered(0..10)).unwrap();
        std::fs::write(at.join("00000000000000000200"), numbered(10..14)).unwrap();
        std::fs::write(at.join("00000000000000000400"), [0; 80]).unwrap();
        std::fs::write(at.join("00000000000000000600"), []).unwrap();
        let units = Units::load(&context(), at.clone(), SHAPE).unwrap();
        assert_eq!((units.start(), units.end()), (0, 14));
        assert_eq!(files(&at).len(), 2);
    }
}
