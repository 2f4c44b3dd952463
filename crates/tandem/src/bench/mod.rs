//! `tandem bench`: how fast a broker takes and gives messages, and what that costs it. Speaks to any RocketMQ broker.
//!
//! The generator shares the machine with what it measures, so it is cheap: frames are encoded once and patched, answers
//! are scanned rather than decoded, one task serves a connection. It keeps no message and checks no content.

mod args;
mod consume;
mod frames;
mod link;
mod load;
mod pace;
mod process;
mod produce;
mod query;
mod report;
mod round;
mod stats;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Result, bail};

pub use args::BenchArgs;
use args::{Common, Work};
use report::Summary;
use round::Round;
use target::Target;

/// Between the rounds of a comparison: what one target left to do shall not disturb the other.
const BREATH: Duration = Duration::from_millis(500);

/// Runs what the arguments say and prints what came of it.
pub async fn run(args: BenchArgs) -> Result<()> {
    let work = Work::from(args.mode);
    work.check()?;
    let common = work.common().clone();
    let mut targets = vec![Target::find(&common, common.first_address()?, common.pid, &work).await?];
    if let Some(other) = &common.compare {
        targets.push(Target::find(&common, Some(other.clone()), common.pid2, &work).await?);
    }
    let rounds = if targets.len() > 1 { common.rounds } else { 1 };
    let mut summaries: Vec<Summary> = targets.iter().map(|target| Summary::new(&target.addr)).collect();
    for number in 0..rounds {
        for at in order(targets.len(), number) {
            eprintln!("round {} of {rounds}: {} {}", number + 1, work.name(), targets[at].addr);
            summaries[at].add(Round::new(&work, &targets[at]).run().await?);
            tokio::time::sleep(BREATH).await;
        }
    }
    print(&common, &work, &summaries);
    match summaries.iter().find(|summary| summary.messages() == 0) {
        Some(empty) => bail!("no message was {} at {}", work.done(), empty.addr()),
        None => Ok(()),
    }
}

/// Every second round begins with the other target, so that drift of the machine favours neither.
fn order(targets: usize, round: u32) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..targets).collect() } else { (0..targets).rev().collect() }
}

fn print(common: &Common, work: &Work, summaries: &[Summary]) {
    let text = if common.json { report::json(work, summaries) } else { report::text(work, summaries) };
    println!("{text}");
}
