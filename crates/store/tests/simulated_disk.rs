//! Millions of steps on the simulated disk: appends, raw appends, flushes, rolls, retention, topic deletions, truncations,
//! restarts with another configuration, rebuilt views, crashes at any call (also within recovery), failing writes and syncs,
//! and lack of space. After each start: nothing acknowledged is lost, nothing is found that was not written, queues, light
//! queues and index equal the log.
//!
//! Repeat a failure with the printed `TANDEM_SEED` and `TANDEM_STEPS=1`; a longer run: `TANDEM_STEPS=100000000`.
//! With `TANDEM_TALE=1` and `--nocapture` each life is told, with the store's files after each stop and
//! start, and the timer's after each start, cut and timer flush.

mod common;
mod sim;

use common::seed;
use sim::life::Life;

fn steps() -> u64 {
    std::env::var("TANDEM_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(1_000_000)
}

/// One store from its first start through many crashes. Returns the calls it made and their trace.
fn live(seed: u64) -> (u64, u64) {
    let mut life = Life::new(seed);
    life.tell(format!("TANDEM_SEED={seed}"));
    if let Err(why) = life.run() {
        panic!("TANDEM_SEED={seed} TANDEM_STEPS=1: {why}\n{}", life.story());
    }
    (life.disk.steps(), life.disk.trace())
}

#[test]
fn millions_of_steps_on_a_disk_that_fails_and_crashes() {
    let (first, wanted) = (seed(), steps());
    let (mut done, mut lives) = (0, 0);
    while done < wanted {
        done += live(first.wrapping_add(lives)).0;
        lives += 1;
    }
    println!("{done} steps in {lives} lives");
}

#[test]
fn one_seed_gives_one_run() {
    let seed = seed();
    let (first, second) = (live(seed), live(seed));
    assert_eq!(first, second);
    assert_ne!(first.1, live(seed + 1).1);
}
