//! Batches between their uses: a run of sends takes one and gives it back, so that its memory is there already. Holds
//! few, and none that grew large; never one with messages in it.

use parking_lot::Mutex;
use store::Batch;

/// As many as threads send at once, on most machines.
const MOST: usize = 8;

/// Bytes that a batch may hold on to.
const LARGEST: usize = 512 * 1024;

/// Empty batches.
#[derive(Default)]
pub struct Spare(Mutex<Vec<Batch>>);

impl Spare {
    /// An empty batch.
    pub fn take(&self) -> Batch {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Empties a batch and keeps it, unless that would keep much memory.
    pub fn give_back(&self, mut batch: Batch) {
        batch.clear();
        let mut spare = self.0.lock();
        if batch.capacity() <= LARGEST && spare.len() < MOST {
            spare.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::record_encode::NewRecord;

    use super::*;

    fn filled(body: usize) -> Batch {
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
        batch
    }

    #[test]
    fn comes_back_empty_with_its_memory() {
        let spare = Spare::default();
        spare.give_back(filled(1000));
        let batch = spare.take();
        assert!(batch.is_empty() && batch.size() == 0 && batch.capacity() >= 1000);
        assert_eq!(spare.take().capacity(), 0, "there was one");
    }

    #[test]
    fn keeps_little() {
        let spare = Spare::default();
        spare.give_back(filled(LARGEST));
        assert_eq!(spare.take().capacity(), 0, "too large to keep");
        (0..2 * MOST).for_each(|_| spare.give_back(filled(10)));
        assert_eq!(spare.0.lock().len(), MOST);
    }
}
