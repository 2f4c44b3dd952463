//! A crash at every single call within a start, a roll, a deletion, a truncation and a stop: as a kill and as a power
//! cut. After the next start nothing acknowledged is missing and nothing is there that was not written.

mod common;
mod sim;

use std::sync::Arc;

use common::clock_at;
use sim::{disk::Fault, life::Life, model::Verdict};
use store::{Retention, Store};

/// Runs `act` again and again, with a crash at its first call, its second one, and so on to its last.
fn crash_at_every_call(appends: usize, at_least: u64, act: impl Fn(&mut Life, &Store) -> Verdict) {
    for power_cut in [false, true] {
        for seed in [7, 8] {
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
    let again = life.start();
    assert!(again.is_ok(), "seed {seed}, call {after}, power cut {power_cut}: {:?}\n{}", again.err(), life.story());
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
        let all = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 3 };
        store.delete_expired(all).map(drop).map_err(|error| error.to_string())
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
