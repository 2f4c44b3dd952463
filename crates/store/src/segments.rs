//! Names and sizes of segment files, shared by the commit log and the consume queues. Source: `MappedFileQueue.java`,
//! `UtilAll.offset2FileName`; reference store 1 and 2.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{
    disk::{Disk, list_sorted},
    error::{IoContext, StoreError},
};

/// Shape of a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bytes of a unit.
    pub(crate) unit: usize,
    /// Bytes of a segment, a multiple of `unit`.
    pub(crate) segment: u64,
    /// Configuration key of the segment size.
    pub(crate) key: &'static str,
    /// Tells a written unit from zeros.
    pub(crate) is_valid: fn(&[u8]) -> bool,
}

/// Path of the segment whose first byte is `base`.
pub(crate) fn path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}"))
}

/// No log and no queue gets as far: what follows from a greater name does not fit the arithmetic.
const MOST_BASE: i64 = i64::MAX >> 1;

/// A segment file found on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) base: i64,
    pub(crate) len: u64,
}

/// Segment files of a directory by base. Other names are left alone with a warning.
pub(crate) fn find(disk: &dyn Disk, dir: &Path) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    for entry in list_sorted(disk, dir).at("list", dir)? {
        match entry.name.parse::<i64>() {
            Ok(base) if (0..=MOST_BASE).contains(&base) && entry.name.len() == 20 => {
                // What was in the file that belongs there is not known to be nothing.
                let is_file = if entry.is_dir { Err(ErrorKind::IsADirectory.into()) } else { Ok(()) };
                is_file.at("open", path(dir, base))?;
                found.push(Found { base, len: entry.len });
            }
            _ if entry.is_dir => {}
            _ => {
                tracing::warn!(file = %dir.join(&entry.name).display(), "no segment by its name: ignored; remove it, a Java broker would not start with it")
            }
        }
    }
    Ok(found)
}

/// The size of a row's segments as its files have it, where they tell: one is as long as it is to the next name, and none
/// longer, or the only one is not shorter than `configured`, or was left as it is by a clean stop. Sizes are multiples of `unit`.
pub(crate) fn size_of_row(found: &[Found], configured: u64, unit: u64, clean: bool) -> Option<u64> {
    let first = found.first()?;
    let longest = found.iter().map(|found| found.len).max().unwrap_or(0);
    let (size, told) = match found.windows(2).map(|pair| (pair[1].base - pair[0].base) as u64).min() {
        // A file that a power loss left short tells nothing; where one is missing the step is a multiple.
        Some(step) => (step, longest == step),
        None => (longest, longest >= configured || clean || first.base % configured as i64 != 0),
    };
    (told && size > 0 && size.is_multiple_of(unit) && first.base % size as i64 == 0).then_some(size)
}

/// Deletes empty files and short ones without content at the end of the row; extends a short one that holds data.
/// `has_data` looks at the start of a file. Such files come from a crash while a segment was being made. After an
/// unclean stop others may be short as well, when their size was not durable.
pub(crate) fn mend(
    disk: &dyn Disk,
    dir: &Path,
    segment_size: u64,
    clean: bool,
    found: &mut Vec<Found>,
    has_data: impl Fn(&Found) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    while let Some(last) = found.last().copied().filter(|last| last.len < segment_size) {
        // The only file stays: its name tells where the row goes on.
        if (found.len() == 1 && last.base > 0) || (last.len > 0 && has_data(&last)?) {
            break;
        }
        let path = path(dir, last.base);
        tracing::warn!(file = %path.display(), bytes = last.len, segment_size, "segment file without data at the end, left by a crash: deleted");
        disk.remove(&path).at("delete", &path)?;
        found.pop();
    }
    // Left by a crash while the row was to begin there; it goes on elsewhere.
    while let [first, second, ..] = found[..]
        && first.len == 0
        && second.base != first.base + segment_size as i64
    {
        let path = path(dir, first.base);
        tracing::warn!(file = %path.display(), "empty segment file before the first one: deleted");
        disk.remove(&path).at("delete", &path)?;
        found.remove(0);
    }
    let (first, last) = (found.first().map_or(0, |first| first.base), found.last().map_or(-1, |last| last.base));
    if found.iter().zip(0..).any(|(segment, number)| segment.base != first + number * segment_size as i64) {
        // Made with another size, or not all there: for the operator.
        return Ok(());
    }
    let may_be_short = |segment: &&mut Found| segment.len < segment_size && (!clean || segment.base == last);
    found.iter_mut().filter(may_be_short).try_for_each(|segment| extend(disk, dir, segment_size, segment))
}

fn extend(disk: &dyn Disk, dir: &Path, segment_size: u64, segment: &mut Found) -> Result<(), StoreError> {
    let path = path(dir, segment.base);
    tracing::warn!(file = %path.display(), bytes = segment.len, segment_size, "short segment file, left by a crash: extended with zeros");
    let file = disk.open(&path, false).at("open", &path)?;
    file.set_len(segment_size).at("extend", &path)?;
    file.sync().at("sync", &path)?;
    segment.len = segment_size;
    Ok(())
}

/// Refuses files of another size and holes in the row.
pub(crate) fn check_row(dir: &Path, found: &[Found], size: u64, key: &'static str) -> Result<(), StoreError> {
    for (number, segment) in found.iter().enumerate() {
        if segment.len != size {
            let path = path(dir, segment.base);
            return Err(StoreError::SegmentSize { path, found: segment.len, expected: size, key });
        }
        let expected = found[0].base + number as i64 * size as i64;
        if segment.base != expected {
            return Err(StoreError::MissingSegment { path: path(dir, expected) });
        }
    }
    Ok(())
}
