//! A stretch of a commit log: what passes for a record lies within the bytes, and every part of it can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{
    property,
    record::{Check, check},
};

fuzz_target!(|data: &[u8]| {
    for verify_crc in [false, true] {
        let mut at = 0;
        while let Check::Record(record) = check(&data[at..], verify_crc) {
            assert!(record.size() <= data.len() - at && record.size() >= wire::record::MIN_RECORD);
            assert_eq!(record.bytes(), &data[at..at + record.size()]);
            let parts = record.body().len() + record.topic_bytes().len() + record.properties().len();
            assert!(parts < record.size());
            let _ = (record.topic(), record.born_host(), record.store_host(), record.store_timestamp());
            let _ = (record.reconsume_times(), record.prepared_transaction_offset());
            let count = property::iter(record.properties()).count();
            assert!(count <= record.properties().len());
            if verify_crc && !record.body().is_empty() {
                assert_eq!(wire::record::body_crc(record.body()), record.stored_body_crc());
            }
            at += record.size();
        }
    }
});
