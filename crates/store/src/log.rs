//! The commit log: segment files of one size, written at one end by positioned writes, read anywhere below it.
//! It knows no topic and no queue. Source: `CommitLog.java`; reference store 2, 3 and 9.

use std::{
    collections::VecDeque,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use wire::record::{AT_PHYSICAL_OFFSET, BLANK_HEAD, MAGIC_BLANK, store_timestamp_at};

use crate::{
    disk::{Disk, File},
    error::{IoContext, StoreError},
    mark::Mark,
    pieces::{ColdReads, Pieces},
    queue::{get_i32, get_i64},
    segments,
};

/// The files of the log. Who may write is decided above (the append lock).
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_size: i64,
    segments: RwLock<VecDeque<Arc<Segment>>>,
    /// Names were made or removed since the directory was last synced.
    names_changed: AtomicBool,
    pieces: Pieces,
    failures: Mutex<Failures>,
}

/// Reads that failed and counted as absent.
#[derive(Default)]
struct Failures {
    first: Option<StoreError>,
    /// When one was logged.
    told: Option<Instant>,
}

/// Failed reads are logged once in this time: every consumer meets them, again and again.
const TELL: Duration = Duration::from_secs(1);

/// What tells the segments of one log from those of another.
pub(crate) struct Kind {
    /// Configuration key of their size.
    pub(crate) key: &'static str,
    /// True when the first bytes of a segment, and its offset, say that it holds something.
    pub(crate) begins: fn(&[u8; HEAD], i64) -> bool,
}

/// Bytes of a segment that [`Kind::begins`] looks at.
pub(crate) const HEAD: usize = 36;

const COMMIT_LOG: Kind = Kind { key: "mappedFileSizeCommitLog", begins: begins_with_record };

/// One file of the log.
pub(crate) struct Segment {
    pub(crate) base: i64,
    path: PathBuf,
    file: OnceLock<Arc<dyn File>>,
}

impl Segment {
    fn file(&self, disk: &dyn Disk) -> Result<&Arc<dyn File>, StoreError> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = disk.open(&self.path, false).at("open", &self.path)?;
        Ok(self.file.get_or_init(|| file))
    }
}

impl Log {
    /// Loads the segments in `dir`. A log made with another segment size keeps it.
    pub(crate) fn load(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        configured_size: u64,
        clean: bool,
    ) -> Result<Self, StoreError> {
        Self::load_kind(disk, dir, configured_size, clean, &COMMIT_LOG)
    }

    /// Same, for segments of another kind.
    pub(crate) fn load_kind(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        configured_size: u64,
        clean: bool,
        kind: &Kind,
    ) -> Result<Self, StoreError> {
        disk.create_dir_all(&dir).at("create", &dir)?;
        let mut found = segments::find(&*disk, &dir)?;
        let size = effective_size(&dir, &found, configured_size, clean, kind.key);
        segments::mend(&*disk, &dir, size, clean, &mut found, |last| begins_valid(&*disk, &dir, last, kind))?;
        segments::check_row(&dir, &found, size, kind.key)?;
        let segments: VecDeque<_> = found.iter().map(|found| Arc::new(Segment::at(&*disk, &dir, found.base))).collect();
        // One that belongs to somebody else is none that is not there.
        segments.iter().try_for_each(|segment| disk.open(&segment.path, false).at("open", &segment.path).map(drop))?;
        let segments = RwLock::new(segments);
        let names_changed = AtomicBool::new(true);
        let pieces = Pieces::new(ColdReads::NONE);
        let failures = Mutex::default();
        Ok(Self { disk, dir, segment_size: size as i64, segments, names_changed, pieces, failures })
    }

    /// The same, with pieces for [`Log::read_shared`].
    pub(crate) fn with_pieces(self, config: ColdReads) -> Self {
        Self { pieces: Pieces::new(config), ..self }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn segment_size(&self) -> i64 {
        self.segment_size
    }

    /// First byte that is still there; `None` for a log without segments.
    pub(crate) fn min(&self) -> Option<i64> {
        self.segments.read().front().map(|segment| segment.base)
    }

    /// Bases of all segments.
    pub(crate) fn bases(&self) -> Vec<i64> {
        self.segments.read().iter().map(|segment| segment.base).collect()
    }

    /// First byte of the segment that holds `offset`.
    pub(crate) fn base_of(&self, offset: i64) -> i64 {
        offset - offset % self.segment_size
    }

    /// First byte after the segment that holds `offset`.
    pub(crate) fn next_base(&self, offset: i64) -> i64 {
        self.base_of(offset).saturating_add(self.segment_size)
    }

    fn segment(&self, offset: i64) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let first = segments.front()?.base;
        let number = usize::try_from(offset.checked_sub(first)?.checked_div_euclid(self.segment_size)?).ok()?;
        segments.get(number).cloned()
    }

    /// Reads up to the buffer's length at `offset`, never across a segment's end. `None` where no segment is.
    pub(crate) fn read(&self, offset: i64, buf: &mut [u8]) -> Result<Option<usize>, StoreError> {
        let Some(segment) = self.segment(offset) else { return Ok(None) };
        let room = (segment.base + self.segment_size - offset) as usize;
        let wanted = buf.len().min(room);
        let file = match segment.file(&*self.disk) {
            // Deleted by retention meanwhile: gone, as for those who come later.
            Err(error) if error.is_not_found() && self.segment(offset).is_none() => return Ok(None),
            file => file?,
        };
        match file.read_exact_at((offset - segment.base) as u64, &mut buf[..wanted]) {
            Ok(()) => Ok(Some(wanted)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error).at("read", &segment.path),
        }
    }

    /// A read that fails is logged and counts as absent.
    pub(crate) fn told<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        let note = |error| {
            let mut failures = self.failures.lock();
            if failures.told.is_none_or(|told| told.elapsed() >= TELL) {
                tracing::error!(%error, "reading the store failed");
                failures.told = Some(Instant::now());
            }
            failures.first.get_or_insert(error);
        };
        result.map_err(note).ok()
    }

    /// The first read that failed and counted as absent since this was asked: what is decided from what is there must not be
    /// decided then.
    pub(crate) fn read_well(&self) -> Result<(), StoreError> {
        self.failures.lock().first.take().map_or(Ok(()), Err)
    }

    /// Appends `place` to `out` from a piece that others read too; false, and nothing is appended, where it is better read
    /// by itself. See [`Pieces::copy`].
    pub(crate) fn read_shared(
        &self,
        place: Range<i64>,
        appended: &Mark,
        soon: &dyn Fn(&Range<i64>) -> usize,
        out: &mut Vec<u8>,
    ) -> bool {
        self.pieces.copy(self, place, appended, soon, out)
    }

    /// Store time from the head of the record at `physical`; `None` where no record says that it is there.
    pub(crate) fn record_time(&self, physical: i64) -> Result<Option<i64>, StoreError> {
        let mut head = [0; 76];
        let read = self.read(physical, &mut head)?;
        let is_record = read == Some(head.len()) && get_i64(&head, AT_PHYSICAL_OFFSET) == physical;
        Ok(is_record.then(|| get_i64(&head, store_timestamp_at(get_i32(&head, 36)))))
    }

    /// The bytes from `offset` on will be read soon, to the end of the segment at most.
    pub(crate) fn will_read(&self, offset: i64, len: i64) {
        if let Some(segment) = self.segment(offset)
            && let Ok(file) = segment.file(&*self.disk)
        {
            let at = offset - segment.base;
            file.will_read(at as u64, len.min(self.segment_size - at) as u64);
        }
    }

    /// Writes at `offset` into its segment, which is made if it is the next one. Must not cross a segment's end.
    pub(crate) fn write(&self, offset: i64, bytes: &[u8]) -> Result<(), StoreError> {
        let segment = match self.segment(offset) {
            Some(segment) => segment,
            None => self.add_segment(self.base_of(offset))?,
        };
        debug_assert!(offset + bytes.len() as i64 <= segment.base + self.segment_size);
        let file = segment.file(&*self.disk)?;
        file.write_all_at((offset - segment.base) as u64, bytes).at("write", &segment.path)
    }

    /// Fills the rest of a segment: its head is written, what follows stays zero.
    pub(crate) fn write_blank(&self, offset: i64) -> Result<(), StoreError> {
        let left = self.next_base(offset) - offset;
        let mut head = [0; BLANK_HEAD];
        head[..4].copy_from_slice(&(left as i32).to_be_bytes());
        head[4..].copy_from_slice(&MAGIC_BLANK.to_be_bytes());
        self.write(offset, &head)
    }

    fn add_segment(&self, base: i64) -> Result<Arc<Segment>, StoreError> {
        let path = segments::path(&self.dir, base);
        let file = self.make_file(&path).inspect_err(|_| drop(self.disk.remove(&path)))?;
        let segment = Arc::new(Segment::at(&*self.disk, &self.dir, base));
        let _ = segment.file.set(file);
        self.names_changed.store(true, Ordering::SeqCst);
        self.segments.write().push_back(segment.clone());
        Ok(segment)
    }

    /// Sparse, as Java's segments are: a byte costs space when it is written.
    fn make_file(&self, path: &Path) -> Result<Arc<dyn File>, StoreError> {
        let file = self.disk.open(path, true).at("create", path)?;
        file.set_len(0).at("size", path)?;
        file.set_len(self.segment_size as u64).at("size", path)?;
        Ok(file)
    }

    /// Makes everything in [`from`, `to`) durable, new names included.
    pub(crate) fn sync(&self, from: i64, to: i64) -> Result<(), StoreError> {
        self.sync_files(from, to)?;
        if self.names_changed.swap(false, Ordering::SeqCst) {
            self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        }
        Ok(())
    }

    /// As [`Log::sync`], beside one that may be under way: leaves what that has to do as it is.
    pub(crate) fn settle(&self, from: i64, to: i64) -> Result<(), StoreError> {
        self.sync_files(from, to)?;
        self.disk.sync_dir(&self.dir).at("sync", &self.dir)
    }

    fn sync_files(&self, from: i64, to: i64) -> Result<(), StoreError> {
        let dirty: Vec<Arc<Segment>> = {
            let segments = self.segments.read();
            let holds = |segment: &&Arc<Segment>| segment.base < to && segment.base + self.segment_size > from;
            segments.iter().filter(holds).cloned().collect()
        };
        dirty.iter().try_for_each(|segment| segment.file(&*self.disk)?.sync().at("sync", &segment.path))
    }

    /// Makes `end` the end: everything after it reads as zeros or is gone, and that is durable. A log without bytes keeps
    /// one segment, unless it ends at 0: its name tells where the log goes on.
    pub(crate) fn cut(&self, end: i64) -> Result<(), StoreError> {
        self.pieces.forget_from(end);
        let keeps = |base: i64| base < end || (base == end && end > 0 && self.min() == Some(end));
        loop {
            let last = self.segments.read().back().cloned();
            let Some(last) = last.filter(|last| !keeps(last.base)) else { break };
            self.disk.remove(&last.path).at("delete", &last.path)?;
            self.names_changed.store(true, Ordering::SeqCst);
            self.segments.write().pop_back();
        }
        if let Some(segment) = self.segment(end) {
            let file = segment.file(&*self.disk)?;
            file.set_len((end - segment.base) as u64).at("cut", &segment.path)?;
            file.set_len(self.segment_size as u64).at("extend", &segment.path)?;
            file.sync().at("sync", &segment.path)?;
        }
        self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        self.names_changed.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Deletes the segment of a log without bytes.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        self.pieces.forget_from(0);
        while let Some(segment) = self.segments.write().pop_back() {
            self.names_changed.store(true, Ordering::SeqCst);
            self.disk.remove(&segment.path).at("delete", &segment.path)?;
        }
        Ok(())
    }

    /// Deletes the first segment, unless it is the last one. One that cannot be deleted stays: without those behind it the row
    /// would have a hole, with which no start goes on.
    pub(crate) fn delete_first(&self) -> Result<Option<i64>, StoreError> {
        let first = {
            let mut segments = self.segments.write();
            if segments.len() < 2 {
                return Ok(None);
            }
            segments.pop_front().expect("two or more")
        };
        self.pieces.forget_below(first.base + self.segment_size);
        match self.disk.remove(&first.path) {
            // Somebody was faster, by hand.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let path = first.path.clone();
                self.segments.write().push_front(first);
                return Err(error).at("delete", path);
            }
            _ => {}
        }
        self.names_changed.store(true, Ordering::SeqCst);
        Ok(Some(first.base))
    }

    /// When the first segment was last modified, before all times if somebody took it away; `None` if it is the only one.
    pub(crate) fn first_modified_ms(&self) -> Result<Option<i64>, StoreError> {
        let path = {
            let segments = self.segments.read();
            if segments.len() < 2 {
                return Ok(None);
            }
            segments[0].path.clone()
        };
        match self.disk.modified_ms(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some(i64::MIN)),
            modified => modified.at("read the age of", &path).map(Some),
        }
    }
}

impl Segment {
    fn at(disk: &dyn Disk, dir: &Path, base: i64) -> Self {
        Self { base, path: disk.real_path(&segments::path(dir, base)), file: OnceLock::new() }
    }
}

/// Least bytes of a segment.
const LEAST_SEGMENT: u64 = 1024;

/// The size that the files have; else what is configured.
fn effective_size(dir: &Path, found: &[segments::Found], configured: u64, clean: bool, key: &str) -> u64 {
    let size = segments::size_of_row(found, configured, 1, clean).unwrap_or(configured);
    if size == configured || size < LEAST_SEGMENT {
        return configured;
    }
    tracing::warn!(dir = %dir.display(), found = size, configured, "segments have another size than {key}: theirs is used; set the key to it");
    size
}

fn begins_valid(disk: &dyn Disk, dir: &Path, found: &segments::Found, kind: &Kind) -> Result<bool, StoreError> {
    let path = segments::path(dir, found.base);
    let file = disk.open(&path, false).at("open", &path)?;
    let mut head = [0; HEAD];
    match file.read_exact_at(0, &mut head) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.at("read", &path).map(|()| (kind.begins)(&head, found.base)),
    }
}

/// True for the head of a record of its own place.
fn begins_with_record(head: &[u8; HEAD], base: i64) -> bool {
    let magic = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let record = matches!(magic, wire::record::MAGIC_V1 | wire::record::MAGIC_V2);
    record && crate::queue::get_i64(head, wire::record::AT_PHYSICAL_OFFSET) == base
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    fn open(dir: &Path, size: u64) -> Result<Log, StoreError> {
        Log::load(Arc::new(RealDisk), dir.to_path_buf(), size, true)
    }

    #[test]
    fn segments_are_made_in_order_and_reads_stop_at_their_ends() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), 1024).unwrap();
        assert_eq!((log.min(), log.read(0, &mut [0; 4]).unwrap()), (None, None));
        log.write(2048, &[7; 1024]).unwrap();
        log.write(3072, &[8; 10]).unwrap();
        assert_eq!(log.bases(), [2048, 3072]);
        let mut buf = [0; 100];
        assert_eq!(log.read(3062, &mut buf).unwrap(), Some(10));
        assert_eq!(buf[..11], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
        assert_eq!(log.read(4096, &mut buf).unwrap(), None);
        assert_eq!(log.read(100, &mut buf).unwrap(), None);
    }

    #[test]
    fn a_cut_leaves_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), 1024).unwrap();
        for number in 0..3 {
            log.write(number * 1024, &[9; 1024]).unwrap();
        }
        log.cut(1030).unwrap();
        assert_eq!(log.bases(), [0, 1024]);
        let mut buf = [1; 1024];
        log.read(1024, &mut buf).unwrap();
        assert!(buf[..6] == [9; 6] && buf[6..].iter().all(|byte| *byte == 0));
        log.cut(1024).unwrap();
        assert_eq!(log.bases(), [0]);
        log.write(1024, &[9; 1024]).unwrap();
        log.delete_first().unwrap();
        log.cut(1024).unwrap();
        assert_eq!(log.bases(), [1024]);
        log.read(1024, &mut buf).unwrap();
        assert_eq!(buf, [0; 1024]);
    }

    #[test]
    fn odd_files() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, len: usize| std::fs::write(dir.path().join(name), vec![0; len]).unwrap();
        make("00000000000000000000", 1024);
        make("00000000000000001024", 1024);
        make("00000000000000002048", 512);
        make("00000000000000003072", 0);
        make("note.txt", 3);
        make("09223372036854775807", 1024);
        assert_eq!(open(dir.path(), 1024).unwrap().bases(), [0, 1024]);
        assert_eq!(open(dir.path(), 4096).unwrap().segment_size(), 1024);
        make("00000000000000003072", 1024);
        assert!(matches!(open(dir.path(), 1024), Err(StoreError::MissingSegment { .. })));
        make("00000000000000002048", 2000);
        assert!(matches!(open(dir.path(), 1024), Err(StoreError::SegmentSize { found: 2000, .. })));
    }
}
