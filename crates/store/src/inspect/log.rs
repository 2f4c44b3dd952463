//! The commit log, for reading: segments as they lie in the directory, whatever is wrong with them, and a scanner that
//! reads them in large pieces and finds its way past damage.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use wire::record::{AT_PHYSICAL_OFFSET, BLANK_HEAD, Check, MAGIC_V1, MAGIC_V2, MIN_RECORD, RecordView, Verify, check};

use crate::{
    disk::Disk,
    error::{IoContext, StoreError},
    handles::Handles,
    queue::{get_i32, get_i64},
    segments::{self, Found},
    walk::{Stop, looks_torn, walk},
};

/// Bytes that the scanner reads at once.
const CHUNK: usize = 1 << 20;
/// Longest record that is believed: no broker lets a body grow beyond it.
const MAX_RECORD: usize = 256 << 20;
/// Longest record that is believed when its body is damaged.
const MAX_LAYOUT: i32 = 64 << 20;

/// Where a file lies, which is asked only for an error.
struct RealPath<'a>(&'a dyn Disk, &'a Path);

impl From<RealPath<'_>> for PathBuf {
    fn from(RealPath(disk, path): RealPath<'_>) -> Self {
        disk.real_path(path)
    }
}

/// The segments of the log.
pub(crate) struct LogFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    size: i64,
    segments: RwLock<Vec<Found>>,
    handles: Handles,
}

impl LogFiles {
    /// Lists `dir`. Without `size` the files tell it: the step between the first two names, else the longest file.
    pub(crate) fn load(disk: Arc<dyn Disk>, dir: PathBuf, size: Option<u64>) -> Result<Self, StoreError> {
        let found = segments::find(&*disk, &dir)?;
        let size = size.map_or_else(|| size_of(&found), |size| size as i64).max(1);
        Ok(Self { disk, dir, size, segments: RwLock::new(found), handles: Handles::new(16) })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes of a segment.
    pub(crate) fn size(&self) -> i64 {
        self.size
    }

    /// Segments by base.
    pub(crate) fn segments(&self) -> Vec<Found> {
        self.segments.read().clone()
    }

    /// First byte that is there; 0 without a segment.
    pub(crate) fn min(&self) -> i64 {
        self.segments.read().first().map_or(0, |first| first.base)
    }

    /// First byte behind the last file.
    pub(crate) fn files_end(&self) -> i64 {
        self.segments.read().last().map_or(0, |last| last.base + self.size)
    }

    /// First byte behind the segment that holds `offset`.
    pub(crate) fn next_base(&self, offset: i64) -> i64 {
        offset - offset % self.size + self.size
    }

    /// Lists the directory again: a broker may have made or removed segments.
    pub(crate) fn refresh(&self) -> Result<(), StoreError> {
        let found = segments::find(&*self.disk, &self.dir)?;
        *self.segments.write() = found;
        Ok(())
    }

    /// Fills `buf` from `offset` on, at most to the end of the segment; returns how much was there.
    pub(crate) fn read(&self, offset: i64, buf: &mut [u8]) -> Result<usize, StoreError> {
        let base = offset - offset % self.size;
        if offset < 0 || self.segments.read().binary_search_by_key(&base, |found| found.base).is_err() {
            return Ok(0);
        }
        let path = segments::path(&self.dir, base);
        let file = match self.handles.get((0, (base / self.size) as u64), || self.disk.open_read(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.at("open", RealPath(&*self.disk, &path))?,
        };
        let wanted = buf.len().min((base + self.size - offset) as usize);
        let mut done = 0;
        while done < wanted {
            let read = file.read_at((offset - base) as u64 + done as u64, &mut buf[done..wanted]);
            match read.at("read", RealPath(&*self.disk, &path))? {
                0 => break,
                read => done += read,
            }
        }
        Ok(done)
    }

    /// The whole record at `offset`, its CRC checked.
    pub(crate) fn record(&self, offset: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut bytes = vec![0; 2048];
        let mut read = self.read(offset, &mut bytes)?;
        let total = if read < 4 { return Ok(None) } else { get_i32(&bytes, 0) };
        let Some(total) = usize::try_from(total).ok().filter(|total| (MIN_RECORD..=MAX_RECORD).contains(total)) else {
            return Ok(None);
        };
        if total as i64 > self.size {
            return Ok(None);
        }
        let with_next = total + BLANK_HEAD;
        if with_next > read {
            bytes.resize(with_next, 0);
            read = self.read(offset, &mut bytes)?;
        }
        bytes.truncate(read);
        let whole = read >= total && is_record(&bytes[..total], offset, &bytes[total..]);
        bytes.truncate(total);
        Ok(whole.then_some(bytes))
    }

    /// What lies at `offset`, if its lengths fit together and it carries its own place; its body may be damaged.
    pub(crate) fn layout(&self, offset: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut head = [0; 4];
        self.read(offset, &mut head)?;
        let total = i32::from_be_bytes(head).clamp(0, MAX_LAYOUT);
        let mut bytes = vec![0; total as usize];
        let read = self.read(offset, &mut bytes)?;
        let fits = matches!(check(&bytes[..read], false), Check::Record(record) if record.physical_offset() == offset);
        Ok(fits.then_some(bytes))
    }
}

fn size_of(found: &[Found]) -> i64 {
    match found {
        [first, second, ..] if second.base - first.base >= 1024 => {
            // The smallest step: where a segment is missing the step is a multiple.
            found.windows(2).map(|pair| pair[1].base - pair[0].base).min().unwrap_or(1)
        }
        [..] => found.iter().map(|found| found.len as i64).max().unwrap_or(1),
    }
}

/// True for exactly one whole record of its own place; `behind` is what follows it.
fn is_record(bytes: &[u8], offset: i64, behind: &[u8]) -> bool {
    matches!(check(bytes, true), Check::Record(record)
        if record.physical_offset() == offset && record.size() == bytes.len() && !looks_torn(&record, behind))
}

/// How a step of a scan ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// Go on.
    More,
    /// No segment holds the place.
    NoSegment,
    /// Zeros where a record's head would be.
    Zeros,
    /// Something that is no record.
    Bad(String),
}

/// Reads records in order, in large pieces.
pub(crate) struct Scanner<'a> {
    log: &'a LogFiles,
    buf: Vec<u8>,
    /// The next record begins here.
    pub(crate) at: i64,
    /// The last step ended at a filler.
    pub(crate) after_blank: bool,
}

impl<'a> Scanner<'a> {
    /// Begins at `at`, the start of a record or of a segment.
    pub(crate) fn new(log: &'a LogFiles, at: i64) -> Self {
        Self { log, buf: Vec::new(), at, after_blank: false }
    }

    /// Calls `each` for the records of one piece of the log and moves on behind them. Stops without having moved, or
    /// says [`Halt::More`].
    pub(crate) fn step(&mut self, mut each: impl FnMut(&RecordView<'_>)) -> Result<Halt, StoreError> {
        let mut needed = CHUNK;
        self.after_blank = false;
        loop {
            let segment_end = self.log.next_base(self.at);
            let wanted = needed.min((segment_end - self.at) as usize);
            self.buf.resize(wanted.max(self.buf.len()), 0);
            let filled = self.log.read(self.at, &mut self.buf[..wanted])?;
            if filled == 0 {
                return Ok(Halt::NoSegment);
            }
            let (next, stop) = walk(&self.buf[..filled], self.at, Verify::Body, &mut each);
            if stop == Stop::Blank {
                self.at = segment_end;
                self.after_blank = true;
                return Ok(Halt::More);
            }
            if next > self.at {
                self.at = next;
                return Ok(Halt::More);
            }
            if self.buf[..filled.min(BLANK_HEAD)].iter().all(|byte| *byte == 0) {
                return Ok(Halt::Zeros);
            }
            match stop {
                Stop::Short(size) if size > MAX_RECORD => {
                    return Ok(Halt::Bad(format!("a record of {size} bytes, longer than any broker takes")));
                }
                Stop::Short(size) if size > needed && filled == wanted && self.at + size as i64 <= segment_end => {
                    needed = size;
                }
                Stop::Short(_) if filled < wanted => return Ok(Halt::Bad("the file ends inside a record".into())),
                Stop::Short(_) => return Ok(Halt::Bad("a record would reach beyond its segment".into())),
                Stop::Invalid(reason) => return Ok(Halt::Bad(reason)),
                Stop::Blank => return Ok(Halt::More),
            }
        }
    }

    /// Looks for the next whole record behind the place, in this segment and the later ones, and moves there. False
    /// when there is none; the place is the same then.
    pub(crate) fn resync(&mut self) -> Result<bool, StoreError> {
        let mut from = self.at + 1;
        for segment in self.log.segments() {
            let end = segment.base + self.log.size();
            if end <= from {
                continue;
            }
            if let Some(found) = self.find_in(from.max(segment.base), end)? {
                self.at = found;
                return Ok(true);
            }
            from = end;
        }
        Ok(false)
    }

    fn find_in(&mut self, from: i64, end: i64) -> Result<Option<i64>, StoreError> {
        const HEAD: usize = AT_PHYSICAL_OFFSET + 8;
        let mut at = from;
        while at < end {
            let wanted = CHUNK.min((end - at) as usize);
            self.buf.resize(wanted.max(self.buf.len()), 0);
            let filled = self.log.read(at, &mut self.buf[..wanted])?;
            if filled < HEAD {
                return Ok(None);
            }
            for place in 0..=filled - HEAD {
                let offset = at + place as i64;
                if looks_like_head(&self.buf[place..place + HEAD], offset) && self.log.record(offset)?.is_some() {
                    return Ok(Some(offset));
                }
            }
            at += (filled - HEAD + 1) as i64;
        }
        Ok(None)
    }

    /// Offset of the first byte at or behind `from` that is not zero, in its segment.
    pub(crate) fn first_byte(&mut self, from: i64) -> Result<Option<i64>, StoreError> {
        let (mut at, end) = (from, self.log.next_base(from));
        while at < end {
            let wanted = CHUNK.min((end - at) as usize);
            self.buf.resize(wanted.max(self.buf.len()), 0);
            let filled = self.log.read(at, &mut self.buf[..wanted])?;
            if filled == 0 {
                break;
            }
            if let Some(place) = self.buf[..filled].iter().position(|byte| *byte != 0) {
                return Ok(Some(at + place as i64));
            }
            at += filled as i64;
        }
        Ok(None)
    }
}

/// True for the magic of a record and its own place.
fn looks_like_head(head: &[u8], offset: i64) -> bool {
    // The first byte of both magics decides most places.
    head[4] == (MAGIC_V1 >> 24) as u8
        && matches!(get_i32(head, 4) as u32, MAGIC_V1 | MAGIC_V2)
        && get_i64(head, AT_PHYSICAL_OFFSET) == offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    /// A gigabyte would be read, and held, for one flipped bit.
    #[test]
    fn no_size_is_believed_that_no_record_has() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join(format!("{:020}", 0)), true).unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(0, &[&(1_000_000_000i32).to_be_bytes()[..], &MAGIC_V1.to_be_bytes()].concat()).unwrap();
        let log = LogFiles::load(Arc::new(RealDisk), dir.path().to_path_buf(), None).unwrap();
        let mut scanner = Scanner::new(&log, 0);
        let halt = scanner.step(|_| panic!("no record")).unwrap();
        assert!(matches!(&halt, Halt::Bad(why) if why.contains("1000000000 bytes")), "{halt:?}");
        assert!(scanner.buf.capacity() <= 2 * CHUNK);
    }
}
