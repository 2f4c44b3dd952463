//! A commit log that lies in several directories (`storePathCommitLog=a,b`), seen as one: a [`Disk`] over another that shows
//! the segments of all of them in the first. Where a new segment goes is decided here and nowhere else.
//! Source: `MultiPathMappedFileQueue.java`; reference store 2.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{DirEntry, Disk, File, FileSystem, LockGuard, Usage},
    read_only_file::ReadOnlyFile,
};

/// What separates directories in `storePathCommitLog` and `readOnlyCommitLogStorePaths`.
pub const SEPARATOR: char = ',';

/// The directories of a commit log, each once; the first is the one that stands for all.
#[derive(Clone, Debug, PartialEq)]
pub struct LogDirs {
    dirs: Vec<PathBuf>,
    /// So many at the start of `dirs` may get new segments.
    writable: usize,
    full_above: f64,
}

impl LogDirs {
    /// One directory.
    pub fn one(dir: impl Into<PathBuf>) -> Self {
        Self { dirs: vec![dir.into()], writable: 1, full_above: 1.0 }
    }

    /// From `storePathCommitLog` and `readOnlyCommitLogStorePaths`; `None` where neither names a directory. No segment is
    /// made in a directory that only the second, or both, name.
    ///
    /// # Errors
    /// No directory is left for new segments.
    pub fn parse(paths: &str, read_only: &str) -> Result<Option<Self>, String> {
        let split = |list: &str| -> Vec<PathBuf> {
            list.split(SEPARATOR).map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from).collect()
        };
        let (paths, closed) = (split(paths), split(read_only));
        if paths.is_empty() && closed.is_empty() {
            return Ok(None);
        }
        let mut dirs: Vec<PathBuf> = Vec::new();
        for dir in paths.iter().filter(|dir| !closed.contains(dir)).chain(&closed) {
            if !dirs.contains(dir) {
                dirs.push(dir.clone());
            }
        }
        let writable = dirs.iter().filter(|dir| !closed.contains(dir)).count();
        if writable == 0 {
            return Err("storePathCommitLog must name a directory that is not in readOnlyCommitLogStorePaths".into());
        }
        Ok(Some(Self { dirs, writable, full_above: 1.0 }))
    }

    /// New segments go elsewhere while the used part of a directory's disk is above `ratio`.
    pub fn full_above(self, ratio: f64) -> Self {
        Self { full_above: ratio, ..self }
    }

    /// The directory that stands for all.
    pub fn first(&self) -> &Path {
        &self.dirs[0]
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[PathBuf] {
        &self.dirs
    }

    fn writable(&self) -> &[PathBuf] {
        &self.dirs[..self.writable]
    }

    /// True for a directory on a disk used so that may get a segment.
    fn has_room(&self, usage: Usage, segment_size: u64) -> bool {
        usage.used_ratio() <= self.full_above && usage.available >= segment_size
    }

    /// `disk`, showing all of them in the first.
    pub(crate) fn over(&self, disk: Arc<dyn Disk>, segment_size: u64) -> Arc<dyn Disk> {
        match self.dirs.len() {
            1 => disk,
            _ => Arc::new(MultiPathDisk { below: disk, dirs: self.clone(), segment_size }),
        }
    }
}

struct MultiPathDisk {
    below: Arc<dyn Disk>,
    dirs: LogDirs,
    segment_size: u64,
}

impl MultiPathDisk {
    fn is_shown(&self, path: &Path) -> bool {
        path.parent() == Some(self.dirs.first())
    }

    fn found(&self, path: &Path) -> Option<PathBuf> {
        let name = path.file_name().filter(|_| self.is_shown(path))?;
        self.dirs.dirs.iter().map(|dir| dir.join(name)).find(|path| self.below.exists(path))
    }

    /// Where a new file goes: writable directories that have room for it get segments in turns, by name.
    fn place_for(&self, path: &Path) -> PathBuf {
        let Some(name) = path.file_name().filter(|_| self.is_shown(path)) else { return path.to_path_buf() };
        let mut writable: Vec<&PathBuf> = self.dirs.writable().iter().collect();
        writable.sort();
        let with_room: Vec<&PathBuf> = writable.iter().copied().filter(|dir| self.has_room(dir)).collect();
        let dirs = if with_room.is_empty() { writable } else { with_room };
        let base = name.to_str().and_then(|name| name.parse::<u64>().ok()).unwrap_or(0);
        dirs[(base / self.segment_size.max(1)) as usize % dirs.len()].join(name)
    }

    fn has_room(&self, dir: &Path) -> bool {
        self.below.usage(dir).is_ok_and(|usage| self.dirs.has_room(usage, self.segment_size))
    }

    fn is_read_only(&self, path: &Path) -> bool {
        self.dirs.dirs[self.dirs.writable..].iter().any(|dir| path.parent() == Some(dir))
    }

    fn list_all(&self) -> io::Result<Vec<DirEntry>> {
        let mut found: BTreeMap<String, (DirEntry, &Path)> = BTreeMap::new();
        let mut missing = 0;
        for dir in &self.dirs.dirs {
            let entries = match self.below.list(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing += 1;
                    continue;
                }
                entries => entries?,
            };
            for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
                let name = entry.name.clone();
                if let Some((_, other)) = found.insert(name.clone(), (entry, dir)) {
                    return Err(in_two(&name, other, dir));
                }
            }
        }
        match missing == self.dirs.dirs.len() {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Ok(found.into_values().map(|(entry, _)| entry).collect()),
        }
    }
}

fn in_two(name: &str, one: &Path, other: &Path) -> io::Error {
    let (one, other) = (one.display(), other.display());
    io::Error::other(format!("{name} is in {one} and in {other}: find out which one is right and move the other away"))
}

impl Disk for MultiPathDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let path = match self.found(path) {
            None if create => self.place_for(path),
            found => found.unwrap_or_else(|| path.to_path_buf()),
        };
        match self.below.open(&path, create) {
            // What is read only may be so for the system too; reading is all that is needed there, unless the log ends there.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
                    && self.is_read_only(&path) =>
            {
                let why = format!(
                    "the log ends in a directory of readOnlyCommitLogStorePaths that cannot be written ({error})"
                );
                Ok(Arc::new(ReadOnlyFile::new(self.below.open_read(&path)?, why)))
            }
            opened => opened,
        }
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.below.open_read(&self.real_path(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        if dir == self.dirs.first() { self.list_all() } else { self.below.list(dir) }
    }

    fn exists(&self, path: &Path) -> bool {
        match path == self.dirs.first() {
            true => self.dirs.dirs.iter().any(|dir| self.below.exists(dir)),
            false => self.below.exists(&self.real_path(path)),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.below.remove(&self.real_path(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.below.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below.rename(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match path == self.dirs.first() {
            true => self.dirs.writable().iter().try_for_each(|dir| self.below.create_dir_all(dir)),
            false => self.below.create_dir_all(path),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match path == self.dirs.first() {
            true => {
                let mut there = self.dirs.dirs.iter().filter(|dir| self.below.exists(dir));
                there.try_for_each(|dir| self.below.sync_dir(dir))
            }
            false => self.below.sync_dir(path),
        }
    }

    fn file_system(&self, root: &Path, dirs: &[PathBuf]) -> io::Result<Option<Arc<dyn FileSystem>>> {
        self.below.file_system(root, dirs)
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        self.below.modified_ms(&self.real_path(path))
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        self.below.usage(path)
    }

    fn usages(&self, path: &Path) -> Vec<(PathBuf, io::Result<Usage>)> {
        match path == self.dirs.first() {
            true => self.dirs.writable().iter().map(|dir| (dir.clone(), self.below.usage(dir))).collect(),
            false => self.below.usages(path),
        }
    }

    fn real_path(&self, path: &Path) -> PathBuf {
        self.found(path).unwrap_or_else(|| path.to_path_buf())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.below.lock(path)
    }

    fn is_locked(&self, path: &Path) -> io::Result<Option<bool>> {
        self.below.is_locked(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    fn parsed(paths: &str, read_only: &str) -> (Vec<String>, usize) {
        let dirs = LogDirs::parse(paths, read_only).unwrap().unwrap();
        (dirs.dirs.iter().map(|dir| dir.display().to_string()).collect(), dirs.writable)
    }

    #[test]
    fn lists_of_directories() {
        let text = |dirs: &[&str]| dirs.iter().map(|dir| (*dir).to_owned()).collect::<Vec<_>>();
        assert_eq!(LogDirs::parse("", " "), Ok(None));
        assert_eq!(LogDirs::parse("/a", ""), Ok(Some(LogDirs::one("/a"))));
        assert_eq!(parsed("/a, /b,,/a", ""), (text(&["/a", "/b"]), 2));
        assert_eq!(parsed("/old,/a", "/old,/older"), (text(&["/a", "/old", "/older"]), 1));
        assert!(LogDirs::parse("/a", "/a").unwrap_err().contains("readOnlyCommitLogStorePaths"));
    }

    #[test]
    fn files_go_in_turns_and_are_found_wherever_they_are() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| root.path().join(name);
        let (a, b, old) = (dir("a"), dir("b"), dir("old"));
        let list = format!("{},{}", b.display(), a.display());
        let dirs = LogDirs::parse(&list, old.to_str().unwrap()).unwrap().unwrap();
        let disk = dirs.over(Arc::new(RealDisk), 1024);
        assert!(disk.list(&b).is_err() && !disk.exists(&b));
        disk.create_dir_all(&b).unwrap();
        assert!(a.is_dir() && b.is_dir() && !old.exists());
        std::fs::create_dir(&old).unwrap();
        std::fs::write(old.join("00000000000000000000"), [7; 1024]).unwrap();
        for name in ["00000000000000001024", "00000000000000002048", "00000000000000003072"] {
            disk.open(&b.join(name), true).unwrap().write_all_at(0, b"x").unwrap();
        }
        // By number of the segment, over the sorted directories.
        assert!(b.join("00000000000000001024").exists() && a.join("00000000000000002048").exists());
        assert!(b.join("00000000000000003072").exists());
        let mut names: Vec<String> = disk.list(&b).unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        assert_eq!(names.len(), 4);
        assert_eq!(disk.open_read(&b.join(&names[0])).unwrap().len().unwrap(), 1024);
        assert_eq!(disk.real_path(&b.join(&names[2])), a.join(&names[2]));
        disk.sync_dir(&b).unwrap();
        disk.remove(&b.join(&names[2])).unwrap();
        assert!(!a.join(&names[2]).exists() && !disk.exists(&b.join(&names[2])));
        assert!(disk.usage(&b).is_ok() && disk.usages(&b).len() == 2 && disk.usages(&old).len() == 1);
        std::fs::write(a.join("00000000000000003072"), b"").unwrap();
        let error = disk.list(&b).unwrap_err().to_string();
        assert!(error.contains("00000000000000003072 is in"), "{error}");
    }

    #[test]
    fn a_disk_has_room_below_its_ratio_and_for_a_whole_segment() {
        let dirs = LogDirs::one("/a").full_above(0.85);
        let room = |available| dirs.has_room(Usage { total: 1000, free: available, available }, 100);
        assert_eq!([1000, 150, 149, 99].map(room), [true, true, false, false]);
        let dirs = dirs.full_above(1.0);
        let room = |available| dirs.has_room(Usage { total: 1000, free: available, available }, 100);
        assert_eq!([100, 99].map(room), [true, false]);
    }

    #[test]
    fn a_full_directory_gets_no_new_segment() {
        let root = tempfile::tempdir().unwrap();
        let list = format!("{0}/a,{0}/b", root.path().display());
        let dirs = LogDirs::parse(&list, "").unwrap().unwrap();
        let placed = |dirs: LogDirs, segment: u64| {
            let disk = MultiPathDisk { below: Arc::new(RealDisk), dirs, segment_size: segment };
            disk.create_dir_all(&root.path().join("a")).unwrap();
            disk.place_for(&root.path().join("a").join(format!("{segment:020}"))).parent().unwrap().to_path_buf()
        };
        // Nothing has room: in turns over all, rather than nowhere.
        assert!(placed(dirs.clone().full_above(-1.0), 1024).ends_with("b"));
        assert!(placed(dirs.clone(), 1 << 62).ends_with("b"));
        std::fs::remove_dir(root.path().join("b")).unwrap();
        let disk = MultiPathDisk { below: Arc::new(RealDisk), dirs, segment_size: 1024 };
        // One that cannot be asked has none.
        assert!(disk.place_for(&root.path().join("a/00000000000000001024")).starts_with(root.path().join("a")));
    }
}
