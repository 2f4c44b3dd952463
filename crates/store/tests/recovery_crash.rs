//! A crash at every single call within a start, a roll, a deletion, a truncation and a stop: as a kill and as a power
//! cut. After the next start nothing acknowledged is missing and nothing is there that was not written.

mod common;
mod sim;

use std::sync::{Arc, atomic::Ordering::SeqCst};

use common::{clock_at, message};
use sim::{
    disk::Fault,
    life::Life,
    model::{BATCH_TOPIC, TOPICS, Verdict},
};
use store::{Batch, Disk, Retention, Store};
use wire::{record_encode::NewRecord, sys_flag};

/// Retention that takes every segment but the last one.
const ALL: Retention = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 1000 };

/// Runs `act` again and again, with a crash at its first call, its second one, and so on to its last.
fn crash_at_every_call(appends: usize, at_least: u64, act: impl Fn(&mut Life, &Store) -> Verdict) {
    for power_cut in [false, true] {
        for seed in [7, 8, 11] {
            let calls = (0..).find(|after| ends_before(*after, power_cut, seed, appends, &act)).unwrap();
            assert!(calls >= at_least, "only {calls} calls: it did not do what it should");
        }
    }
}

/// True when the whole of `act` took no more calls than `after`.
fn ends_before(
    after: u64,
    power_cut: bool,
    seed: u64,
    appends: usize,
    act: &impl Fn(&mut Life, &Store) -> Verdict,
) -> bool {
    let mut life = Life::new(seed);
    let store = life.start().unwrap();
    life.prepare(&store, appends).unwrap();
    life.disk.plan(after, Fault::Crash);
    let done = act(&mut life, &store);
    let crashed = life.disk.is_dead();
    if !crashed {
        done.unwrap();
    }
    life.model.durable = life.model.durable.max(store.marks().flushed.get());
    drop(store);
    life.restart(power_cut);
    let told = |life: &Life, why| format!("seed {seed}, call {after}, power cut {power_cut}: {why}\n{}", life.story());
    let again = life.start().unwrap_or_else(|why| panic!("{}", told(&life, why)));
    // What a start has put right stays so, also when the log that tells of it is gone.
    (0..6).for_each(|_| life.append(&again).unwrap());
    life.close(&again).unwrap();
    drop(again);
    // And what it left as it was is durable after a clean stop, whoever wrote it.
    life.restart(true);
    let again = life.start().unwrap_or_else(|why| panic!("after a clean stop, {}", told(&life, why)));
    again.delete_expired(ALL).unwrap();
    drop(again);
    life.restart(true);
    life.start().unwrap_or_else(|why| panic!("after retention, {}", told(&life, why)));
    !crashed
}

#[test]
fn a_crash_at_every_call_of_a_roll() {
    // Enough appends to fill the segment and begin the next one.
    crash_at_every_call(9, 12, |life, store| {
        for _ in 0..8 {
            life.append(store)?;
            if life.disk.is_dead() {
                return Ok(());
            }
        }
        store.dispatch();
        life.flush(store)
    });
}

#[test]
fn a_crash_at_every_call_of_a_truncation() {
    crash_at_every_call(23, 30, |life, store| {
        let at = life.model.log[life.model.log.len() - 12].at;
        life.cut(store, at)
    });
}

#[test]
fn a_crash_at_every_call_of_retention() {
    crash_at_every_call(30, 20, |_, store| {
        store.delete_expired(Retention { max_segments: 3, ..ALL }).map(drop).map_err(|error| error.to_string())
    });
}

#[test]
fn a_crash_at_every_call_of_a_topic_deletion() {
    crash_at_every_call(20, 15, |life, store| {
        store.dispatch();
        life.delete_topic(store)
    });
}

#[test]
fn a_crash_at_every_call_of_a_clean_stop() {
    crash_at_every_call(20, 15, |life, store| life.close(store));
}

#[test]
fn a_crash_at_every_call_of_a_start() {
    for (first_cut, second_cut) in [(false, false), (false, true), (true, false), (true, true)] {
        for after in 0.. {
            let mut life = Life::new(11);
            let store = life.start().unwrap();
            life.prepare(&store, 25).unwrap();
            drop(store);
            life.restart(first_cut);
            life.disk.plan(after, Fault::Crash);
            let opened = Store::open(life.config.clone(), Arc::new(life.disk.clone()), clock_at(2_000_000));
            let crashed = life.disk.is_dead();
            drop(opened);
            life.restart(second_cut);
            let again = life.start();
            assert!(again.is_ok(), "call {after}, {first_cut}, {second_cut}: {:?}\n{}", again.err(), life.story());
            if !crashed {
                assert!(after > 150, "only {after} calls");
                break;
            }
        }
    }
}

/// A log that was never proven; five starts are killed halfway, one runs to its end.
#[test]
fn f18_starts_that_are_killed_go_on_from_proven_progress() {
    let begin = || {
        let mut life = Life::new(21);
        let store = life.start().unwrap();
        (0..400).for_each(|_| life.append(&store).unwrap());
        store.dispatch();
        drop(store);
        life.restart(false);
        life
    };
    let open = |life: &Life| Store::open(life.config.clone(), Arc::new(life.disk.clone()), clock_at(2_000_000));
    let whole = begin();
    let before = (whole.disk.steps(), whole.disk.log_bytes_read());
    open(&whole).unwrap();
    let calls = whole.disk.steps() - before.0;
    let mut life = begin();
    let read_before = life.disk.log_bytes_read();
    for kill in 0..5 {
        life.disk.plan((calls >> kill) / 2, Fault::Crash);
        assert!(open(&life).is_err());
        life.restart(false);
    }
    let store = open(&life).unwrap();
    let read = life.disk.log_bytes_read() - read_before;
    life.model.check_recovered(&store, false).unwrap();
    let log = store.max_phys() as u64;
    assert!(whole.disk.log_bytes_read() - before.1 >= log, "nothing was proven at first");
    assert!(log > 300_000 && read < 2 * log, "{read} bytes were read of a log of {log}");
}

/// A record is lost with what follows it, and nothing is put into the batch queue any more.
#[test]
fn a_batch_queue_that_a_start_shortened_is_durable_after_a_clean_stop() {
    for seed in 0..100 {
        let life = Life::new(seed);
        let open = || Store::open(life.config.clone(), Arc::new(life.disk.clone()), clock_at(2_000_000)).unwrap();
        let store = open();
        let put = |topic, sys_flag| {
            let mut batch = Batch::new();
            let record = message(TOPICS[topic], 0, b"INNER_NUM\x012\x02", b"two");
            batch.push(&NewRecord { sys_flag, ..record }).unwrap();
            store.append(&mut batch).unwrap();
            store.dispatch();
            store.flush().unwrap();
            batch.entries()[0].physical_offset
        };
        (0..8).for_each(|_| _ = put(BATCH_TOPIC, sys_flag::INNER_BATCH));
        put(BATCH_TOPIC + 1, 0);
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        let lost = put(BATCH_TOPIC, sys_flag::INNER_BATCH);
        // Into the next file.
        (0..5).for_each(|_| _ = put(BATCH_TOPIC, sys_flag::INNER_BATCH));
        store.flush_queues().unwrap();
        drop(store);
        let log = life.disk.open(&life.config.root.join("commitlog/00000000000000000000"), false).unwrap();
        log.write_all_at(lost as u64, &[0; 8]).unwrap();
        log.sync().unwrap();
        life.disk.restart(false);
        let store = open();
        assert_eq!(store.max_phys(), lost);
        store.close().unwrap();
        drop(store);
        life.disk.restart(true);
        assert_eq!(open().max_offset(TOPICS[BATCH_TOPIC], 0), 16, "seed {seed}");
    }
}

/// A queue is cut, the process is killed before it makes that durable, and the next one has nothing to put into the queue.
#[test]
fn what_a_killed_process_changed_of_a_queue_is_durable_after_the_next_clean_stop() {
    for seed in 0..100 {
        let life = Life::new(seed);
        let clock = clock_at(2_000_000);
        let open = || {
            let opened = Store::open(life.config.clone(), Arc::new(life.disk.clone()), clock.clone());
            opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"))
        };
        let store = open();
        let put = |topic: usize| {
            clock.0.fetch_add(10_000, SeqCst);
            let mut batch = Batch::new();
            batch.push(&message(TOPICS[topic], 0, b"KEYS\x01k\x02", b"body")).unwrap();
            store.append(&mut batch).unwrap();
            store.flush().unwrap();
            store.dispatch();
            store.flush_queues().unwrap();
            store.persist_checkpoint().unwrap();
            batch.entries()[0].end()
        };
        (0..3).for_each(|_| _ = put(0));
        let end = (0..60).map(|_| put(2)).max().unwrap();
        (0..5).for_each(|_| _ = put(0));
        // The start after the cut finds no record of the first queue in the log.
        assert_eq!(store.delete_expired(Retention { max_segments: 1, ..ALL }).unwrap(), 1);
        store.truncate(end).unwrap();
        drop(store);
        life.disk.restart(false);
        let store = open();
        store.close().unwrap();
        drop(store);
        life.disk.restart(true);
        assert_eq!(open().max_offset(TOPICS[0], 0), 3, "seed {seed}");
    }
}
