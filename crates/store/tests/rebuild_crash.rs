//! A crash at every single call of a rebuild, as a kill and as a power cut: the store starts and holds all it held, and
//! the next rebuild or the start ends what was begun.

mod common;
mod sim;

use std::{path::Path, sync::Arc};

use common::Still;
use sim::{disk::Fault, life::Life};
use store::{
    Disk, RebuildError, RebuildOptions, Rebuilt, Retention,
    inspect::{StoreView, Verified, ViewOptions, verify},
    rebuild,
};

fn run(life: &Life) -> Result<Rebuilt, RebuildError> {
    let options = RebuildOptions { config: Some(life.config.clone()), ..RebuildOptions::default() };
    rebuild(Arc::new(life.disk.clone()), &life.config.root, &options, &mut Still)
}

fn check(life: &Life) -> Verified {
    let (max_hash_slots, max_index) = (Some(life.config.max_hash_slots), Some(life.config.max_index));
    let options = ViewOptions { max_hash_slots, max_index, ..ViewOptions::default() };
    let view = StoreView::open(Arc::new(life.disk.clone()), &life.config.root, options).unwrap();
    verify(&view, &mut Still).unwrap()
}

fn exists(life: &Life, name: &str) -> bool {
    life.disk.exists(&Path::new(&life.config.root).join(name))
}

/// A store of which only the last segment is left, so that most queues have lost all messages: only their counters are
/// left. Stopped cleanly, or killed.
fn prepared(seed: u64, clean: bool) -> Life {
    let mut life = Life::new(seed);
    life.timers = None;
    let store = life.start().unwrap();
    life.prepare(&store, 25).unwrap();
    life.flush(&store).unwrap();
    store.dispatch();
    store.flush_queues().and_then(|()| store.persist_checkpoint()).unwrap();
    let all = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 100 };
    store.delete_expired(all).unwrap();
    life.prepare(&store, 1).unwrap();
    if clean {
        life.close(&store).unwrap();
    }
    life.model.durable = life.model.durable.max(store.marks().flushed.get());
    drop(store);
    life.restart(false);
    life
}

/// True when the whole rebuild took no more calls than `after`.
fn ends_before(after: u64, seed: u64, clean: bool, power_cut: bool, again: bool) -> bool {
    let mut life = prepared(seed, clean);
    life.disk.plan(after, Fault::Crash);
    let made = run(&life);
    let crashed = life.disk.is_dead();
    assert!(crashed || made.is_ok(), "{:?}", made.err());
    life.restart(power_cut);
    let what = format!("seed {seed}, call {after}, clean {clean}, power cut {power_cut}, again {again}");
    if again {
        let made = run(&life).unwrap_or_else(|error| panic!("{what}: {error}\n{}", life.story()));
        assert!(!made.kept.is_empty(), "{what}: {made:?}");
        let found = check(&life);
        assert!(found.findings.is_empty(), "{what}: {:?}", found.findings.list());
    }
    let store = life.start().unwrap_or_else(|why| panic!("{what}: {why}\n{}", life.story()));
    let left = exists(&life, "rebuild.done") || (again && exists(&life, "rebuild"));
    assert!(!left, "{what}");
    drop(store);
    !crashed
}

fn crash_at_every_call(clean: bool, power_cut: bool) {
    // Lives of seed 33 have extensions.
    for (seed, again) in [(31, false), (32, true), (33, true)] {
        let calls = (0..).find(|after| ends_before(*after, seed, clean, power_cut, again)).unwrap();
        assert!(calls > 200, "only {calls} calls");
        println!("{calls} calls");
    }
}

#[test]
fn a_kill_at_every_call_of_a_rebuild() {
    crash_at_every_call(true, false);
    crash_at_every_call(false, false);
}

#[test]
fn a_power_cut_at_every_call_of_a_rebuild() {
    crash_at_every_call(true, true);
    crash_at_every_call(false, true);
}
