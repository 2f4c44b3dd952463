//! What a disk of a test leaves as the real disk does it.
#![allow(unused_macros, unused_imports)]

/// All methods of a [`store::Disk`] but `open` and `remove`.
macro_rules! rest_of_disk {
    () => {
        fn list(&self, dir: &std::path::Path) -> std::io::Result<Vec<store::DirEntry>> {
            store::RealDisk.list(dir)
        }

        fn exists(&self, path: &std::path::Path) -> bool {
            store::RealDisk.exists(path)
        }

        fn remove_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
            store::RealDisk.remove_dir(path)
        }

        fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
            store::RealDisk.rename(from, to)
        }

        fn create_dir_all(&self, path: &std::path::Path) -> std::io::Result<()> {
            store::RealDisk.create_dir_all(path)
        }

        fn sync_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
            store::RealDisk.sync_dir(path)
        }

        fn modified_ms(&self, path: &std::path::Path) -> std::io::Result<i64> {
            store::RealDisk.modified_ms(path)
        }

        fn usage(&self, path: &std::path::Path) -> std::io::Result<store::Usage> {
            store::RealDisk.usage(path)
        }

        fn lock(&self, path: &std::path::Path) -> std::io::Result<Option<Box<dyn store::LockGuard>>> {
            store::RealDisk.lock(path)
        }
    };
}

/// The sizes of a [`store::File`] that has another one in its field `file`.
macro_rules! sizes_of_file {
    () => {
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.file.set_len(len)
        }

        fn len(&self) -> std::io::Result<u64> {
            self.file.len()
        }
    };
}

pub(crate) use {rest_of_disk, sizes_of_file};
