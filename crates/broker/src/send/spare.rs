//! What runs of sends work with, between their uses: a run takes it and gives it back, so that its memory is there already.
//! Holds few, and none that grew large; never one with messages in it.

use parking_lot::Mutex;

use super::Memory;

/// As many as threads send at once, on most machines.
const MOST: usize = 8;

/// Bytes that a batch may hold on to.
const LARGEST: usize = 512 * 1024;
/// The same of each other part.
const LARGEST_PART: usize = 64 * 1024;

/// Empty memory.
#[derive(Default)]
pub struct Spare(Mutex<Vec<Memory>>);

impl Spare {
    /// Empty memory.
    pub(super) fn take(&self) -> Memory {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Empties memory and keeps it, unless that would be much.
    pub(super) fn give_back(&self, mut memory: Memory) {
        memory.clear();
        let mut spare = self.0.lock();
        if memory.is_moderate() && spare.len() < MOST {
            spare.push(memory);
        }
    }
}

impl Memory {
    fn clear(&mut self) {
        self.batch.clear();
        self.waiting.clear();
        self.ids.clear();
    }

    fn is_moderate(&self) -> bool {
        let sends = self.waiting.capacity() * size_of::<super::Accepted>();
        let parts = [sends, self.ids.capacity(), self.text.capacity()];
        self.batch.capacity() <= LARGEST && parts.iter().all(|bytes| *bytes <= LARGEST_PART)
    }
}

#[cfg(test)]
mod tests {
    use store::Batch;
    use wire::record_encode::NewRecord;

    use super::*;

    fn filled(body: usize) -> Memory {
        let mut batch = Batch::new();
        let record = NewRecord {
            topic: "T",
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:2".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            properties: b"",
            body: &vec![1; body],
        };
        batch.push(&record).unwrap();
        Memory { batch, ..Memory::default() }
    }

    #[test]
    fn comes_back_empty_with_its_memory() {
        let spare = Spare::default();
        spare.give_back(filled(1000));
        let batch = spare.take().batch;
        assert!(batch.is_empty() && batch.size() == 0 && batch.capacity() >= 1000);
        assert_eq!(spare.take().batch.capacity(), 0, "there was one");
    }

    #[test]
    fn keeps_little() {
        let spare = Spare::default();
        spare.give_back(filled(LARGEST));
        assert_eq!(spare.take().batch.capacity(), 0, "too large to keep");
        (0..2 * MOST).for_each(|_| spare.give_back(filled(10)));
        assert_eq!(spare.0.lock().len(), MOST);
    }
}
