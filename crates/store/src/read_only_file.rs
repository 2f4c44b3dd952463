//! A [`File`] that cannot be written. It says why; it never tries.

use std::{io, sync::Arc};

use crate::disk::File;

/// Lets reads through and refuses the rest.
pub(crate) struct ReadOnlyFile {
    file: Arc<dyn File>,
    why: String,
}

impl ReadOnlyFile {
    /// `why` is the text of every error.
    pub(crate) fn new(file: Arc<dyn File>, why: impl Into<String>) -> Self {
        Self { file, why: why.into() }
    }

    fn refused<T>(&self) -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, self.why.clone()))
    }
}

impl File for ReadOnlyFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn write_all_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        self.refused()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        self.refused()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.refused()
    }

    fn will_read(&self, offset: u64, len: u64) {
        self.file.will_read(offset, len);
    }
}
