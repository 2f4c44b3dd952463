//! Where the frames of a replication stream end: with a record. A Java slave stores whole frames as they come, so its log ends with a
//! record whenever the connection breaks, and one that does not has another log. Only a record that no frame can hold goes in
//! pieces. Knows no socket.

use std::ops::Range;

use bytes::Bytes;
use replica::frame::MAX_BODY_LEN;
use store::Store;

/// Of one slave.
#[derive(Clone, Default)]
pub struct Frames {
    /// The last record that was sent in pieces.
    in_pieces: Range<i64>,
}

impl Frames {
    /// The next frame, from `offset` on: about `planned` bytes, which are in the log. `None` where they cannot be read.
    pub fn next(&mut self, store: &Store, offset: i64, planned: usize) -> Option<Bytes> {
        let read = |len: usize| store.read_log(offset, len).filter(|bytes| bytes.len() == len);
        if self.in_pieces.start < offset
            && offset < self.in_pieces.end
            && let Some(piece) = read((MAX_BODY_LEN as usize).min((self.in_pieces.end - offset) as usize))
        {
            return Some(piece);
        }
        let bytes = read(planned)?;
        let record = match whole_records(&bytes) {
            Ok(len) => return Some(bytes.slice(..len)),
            Err(record) => record,
        };
        if record > MAX_BODY_LEN as usize {
            self.in_pieces = offset..offset + record as i64;
        }
        // Less is there where this is no record after all.
        Some(read(record.min(MAX_BODY_LEN as usize)).filter(|whole| whole.len() > planned).unwrap_or(bytes))
    }
}

/// Bytes of the records that are whole; without one the size of the first, 0 where that cannot be told.
fn whole_records(bytes: &[u8]) -> Result<usize, usize> {
    let mut end = 0;
    while let Some(size) = bytes[end..].first_chunk().map(|size| i32::from_be_bytes(*size)) {
        match usize::try_from(size).unwrap_or(0) {
            0 => break,
            size if size > bytes.len() - end => return if end > 0 { Ok(end) } else { Err(size) },
            size => end += size,
        }
    }
    if end > 0 { Ok(end) } else { Err(0) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::StoreClock;

    fn record(size: i32) -> Vec<u8> {
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.resize(size as usize, 7);
        bytes
    }

    #[test]
    fn whole_records_are_told_from_parts() {
        let two = [record(10), record(20)].concat();
        assert_eq!(whole_records(&two), Ok(30));
        assert_eq!(whole_records(&two[..29]), Ok(10));
        assert_eq!(whole_records(&two[..12]), Ok(10), "a part of a size");
        assert_eq!(whole_records(&two[..9]), Err(10));
        for nothing in [&[][..], &[0, 0], &[0; 8], &[0xff; 8]] {
            assert_eq!(whole_records(nothing), Err(0));
        }
    }

    /// What a damaged size says is no reason to send nothing any more.
    #[test]
    fn a_record_that_is_not_there_ends_no_stream() {
        let dir = tempfile::tempdir().unwrap();
        let config = store::StoreConfig {
            root: dir.path().to_path_buf(),
            segment_size: 1 << 20,
            ..store::StoreConfig::default()
        };
        let store = Store::open(config, Arc::new(store::RealDisk), Arc::new(StoreClock::default())).unwrap();
        // Sizes of five MiB, as a damaged record has them.
        let bytes = [&(5i32 << 20).to_be_bytes()[..], &[7; 96]].concat();
        store.append_raw(0, &bytes).unwrap();
        let mut frames = Frames::default();
        assert_eq!(frames.next(&store, 0, 100).unwrap().len(), 100);
        store.append_raw(100, &bytes).unwrap();
        assert_eq!(frames.next(&store, 100, 100).unwrap().len(), 100);
    }
}
