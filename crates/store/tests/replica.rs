//! A master's bytes: the same log, the same queues.

mod common;

use common::{bodies, files::*, message, open, put, small};
use store::{AppendError, Batch, StoreConfig, StoreError};

#[test]
fn a_replica_gets_the_same_bytes_and_queues() {
    let dir = tempfile::tempdir().unwrap();
    let (master, config) = (open(&small(&dir.path().join("m"))), small(&dir.path().join("s")));
    fill(&master, "T", 150);
    let slave = open(&config);
    let mut at = 0;
    for step in (1..).map(|step: usize| step * 37 % 501 + 1) {
        let bytes = master.read_log(at, step).unwrap();
        if bytes.is_empty() {
            break;
        }
        at = slave.append_raw(at, &bytes).unwrap();
        slave.dispatch();
    }
    assert!(matches!(slave.append_raw(at + 1, b"x"), Err(StoreError::NotAtEnd { .. })));
    assert_eq!((slave.max_phys(), slave.marks().dispatched.get()), (at, at));
    for queue_id in 0..2 {
        assert_eq!(bodies(&slave, "T", queue_id), bodies(&master, "T", queue_id));
    }
    // Promoted in the middle of a record: that is cut first.
    let mut batch = Batch::new();
    batch.push(&message("T", 0, b"", b"torn")).unwrap();
    master.append(&mut batch).unwrap();
    slave.append_raw(at, &master.read_log(at, 50).unwrap()).unwrap();
    slave.dispatch();
    batch.clear();
    batch.push(&message("T", 0, b"", b"new")).unwrap();
    assert!(matches!(slave.append(&mut batch), Err(AppendError::NotDispatched { .. })));
    slave.truncate(slave.marks().dispatched.get()).unwrap();
    slave.append(&mut batch).unwrap();
    assert_eq!((batch.entries()[0].queue_offset, batch.entries()[0].physical_offset), (75, at));
}

#[test]
fn a_replica_may_begin_at_a_later_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (master, config) = (open(&small(&dir.path().join("m"))), small(&dir.path().join("s")));
    fill(&master, "T", 150);
    let slave = open(&config);
    assert!(matches!(slave.append_raw(100, b"x"), Err(StoreError::Misaligned { .. })));
    let mut at = 8192;
    while at < master.max_phys() {
        at = slave.append_raw(at, &master.read_log(at, 4096).unwrap()).unwrap();
    }
    assert!(slave.dispatch() > 0);
    let slave = open_again(slave, &config);
    assert_eq!((slave.min_phys(), slave.max_phys()), (8192, master.max_phys()));
    let min = slave.min_offset("T", 0);
    assert!(min > 0);
    assert_eq!(bodies(&slave, "T", 0), bodies(&master, "T", 0)[min as usize..]);
}

#[test]
fn a_replica_stopped_within_a_record_goes_on_from_the_last_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let (master, config) = (open(&small(&dir.path().join("m"))), small(&dir.path().join("s")));
    fill(&master, "T", 10);
    let whole = master.max_phys();
    put(&master, "T", 0, b"", b"cut");
    let slave = open(&config);
    slave.append_raw(0, &master.read_log(0, whole as usize + 60).unwrap()).unwrap();
    slave.close().unwrap();
    drop(slave);
    assert!(dir.path().join("s/abort").exists());
    let slave = open(&config);
    assert_eq!((slave.max_phys(), slave.max_offset("T", 0)), (whole, 5));
}

#[test]
fn a_topic_that_was_deleted_and_made_again_at_the_master() {
    let dir = tempfile::tempdir().unwrap();
    let (master, slave) = (open(&small(&dir.path().join("m"))), open(&small(&dir.path().join("s"))));
    fill(&master, "T", 40);
    master.delete_topic("T").unwrap();
    fill(&master, "T", 6);
    while slave.max_phys() < master.max_phys() {
        let at = slave.max_phys();
        slave.append_raw(at, &master.read_log(at, 4096).unwrap()).unwrap();
    }
    slave.dispatch();
    assert_eq!((slave.min_offset("T", 0), slave.max_offset("T", 0)), (0, 3));
    assert_eq!(bodies(&slave, "T", 0), bodies(&master, "T", 0));
}

/// Where another log may go on, and what a replica is compared by.
#[test]
fn records_and_blanks_begin_at_boundaries_and_the_last_record_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    assert!(store.last_record().is_none(), "an empty log");
    let mut starts = vec![];
    for size in [50, 1, 3000, 1000, 20, 2000] {
        starts.push(put(&store, "T", 0, b"", &vec![b'x'; size]));
        let last = store.last_record().expect("the log has records");
        let (_, start, end) = starts[starts.len() - 1];
        assert_eq!((start, &last), (end - last.len() as i64, &store.read_record(start).unwrap()));
    }
    let (end, min) = (store.max_phys(), store.min_phys());
    let blanks = starts.windows(2).filter(|pair| pair[0].2 != pair[1].1).map(|pair| pair[0].2);
    let mut wanted: Vec<i64> = starts.iter().map(|place| place.1).chain(blanks).chain([end]).collect();
    wanted.extend((min..end).step_by(4096));
    wanted.sort_unstable();
    wanted.dedup();
    assert!(wanted.len() > starts.len() + 1, "the log has rolled");
    let found: Vec<i64> = (min..=end + 8).filter(|offset| store.is_boundary(*offset)).collect();
    assert_eq!(found, wanted);
    let last = store.last_record();
    let store = open_again(store, &config);
    assert_eq!(store.last_record(), last, "a start knows it too");
}

/// Java 5.3.3 says in its checkpoint nothing of where the newest record is.
#[test]
fn a_start_knows_the_last_record_of_a_large_log_whose_checkpoint_does_not_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { segment_size: 80 << 20, ..small(dir.path()) };
    let store = open(&config);
    let body = vec![b'x'; 1 << 20];
    for _ in 0..66 {
        put(&store, "T", 0, b"", &body);
    }
    let last = store.last_record();
    assert!(last.is_some() && store.max_phys() > 64 << 20);
    store.close().unwrap();
    drop(store);
    write(&dir.path().join("checkpoint"), 40, &[0; 24]);
    assert!(open(&config).last_record() == last);
}
