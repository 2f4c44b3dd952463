//! Bytes of whoever answers a slave: only whole records that stand where they say are appended, in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use replica::{SlaveAction, SlaveSession, SlaveSettings};
use wire::record::{Check, check};

fuzz_target!(|data: &[u8]| {
    let settings = SlaveSettings { segment_size: 65_536, record_limit: 65_536, ..SlaveSettings::default() };
    let mut end = 0;
    let mut session = SlaveSession::connected(settings, 0, end);
    for (now, part) in data.chunks(97).enumerate() {
        session.on_bytes(now as u64, part);
        while let Some(action) = session.poll() {
            match action {
                SlaveAction::Append { offset, bytes } => {
                    assert!(offset == end || end == 0);
                    if let Check::Record(view) = check(&bytes, true) {
                        assert_eq!(view.physical_offset(), offset);
                    }
                    end = offset + bytes.len() as i64;
                    session.on_appended(now as u64, end);
                }
                SlaveAction::Report { offset } => assert_eq!(offset, end),
                SlaveAction::Close { .. } => return,
            }
        }
        assert!(session.held_back() <= 65_536 + 97);
    }
});
