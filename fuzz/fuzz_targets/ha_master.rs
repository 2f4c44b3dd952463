//! Bytes of whoever connects to the replication port: no report beyond the master's end is an acknowledgement.
#![no_main]

use libfuzzer_sys::fuzz_target;
use replica::{MasterAction, MasterSession, MasterSettings};

fuzz_target!(|data: &[u8]| {
    let settings = MasterSettings { segment_size: 4096, ..MasterSettings::default() };
    let (min, max) = (4096, 40_000);
    let mut session = MasterSession::new(settings, 0, min, max);
    for (now, part) in data.chunks(5).enumerate() {
        session.on_bytes(now as u64, part);
        let acked = session.take_ack(|_| true);
        assert!(acked.is_none_or(|offset| (0..=max).contains(&offset)));
        let mut sent = 0;
        while let Some(action) = session.poll() {
            match action {
                MasterAction::Send { offset, len } => {
                    assert!(offset >= min && offset + i64::from(len) <= max);
                    assert!(offset / 4096 == (offset + i64::from(len) - 1) / 4096, "crosses a segment");
                    session.on_sent(now as u64, len);
                }
                MasterAction::Heartbeat { .. } => session.on_sent(now as u64, 0),
                MasterAction::Close { .. } => return,
            }
            sent += 1;
            assert!(sent < 10_000, "it never stops");
        }
    }
});
