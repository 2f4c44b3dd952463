//! `tandem bench`: how fast a broker takes and gives messages or makes topics, and what that costs it. Speaks to any RocketMQ broker.
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
mod topics;

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::watch;

pub use args::BenchArgs;
use args::{Common, Work};
use report::Summary;
use round::Round;
use target::Target;

use crate::signals::{HangUp, Signals};

/// Between the rounds of a comparison: what one target left to do shall not disturb the other.
const BREATH: Duration = Duration::from_millis(500);

/// Runs what the arguments say and prints what came of it.
pub async fn run(args: BenchArgs) -> Result<()> {
    let work = match args.mode.work() {
        Ok(work) => work,
        Err(topics) => return topics::run(&topics, stop_on_signal()?).await,
    };
    work.check()?;
    let common = work.common().clone();
    let mut targets = vec![Target::find(&common, common.first_address()?, common.pid, &work).await?];
    if let Some(other) = &common.compare {
        targets.push(Target::find(&common, Some(other.clone()), common.pid2, &work).await?);
    }
    let rounds = if targets.len() > 1 { common.rounds } else { 1 };
    let mut summaries: Vec<Summary> = targets.iter().map(|target| Summary::new(&target.addr)).collect();
    let stop = stop_on_signal()?;
    let turns = (0..rounds).flat_map(|number| order(targets.len(), number).into_iter().map(move |at| (number, at)));
    for (number, at) in turns {
        eprintln!("round {} of {rounds}: {} {}", number + 1, work.name(), targets[at].addr);
        summaries[at].add(Round::new(&work, &targets[at], stop.clone()).run().await?);
        if *stop.borrow() {
            eprintln!("stopped: what follows was measured until now");
            break;
        }
        tokio::time::sleep(BREATH).await;
    }
    print(&common, &work, &summaries);
    match summaries.iter().find(|summary| summary.messages() == 0) {
        Some(empty) => bail!("no message was {} at {}", work.done(), empty.addr()),
        None => Ok(()),
    }
}

/// Ctrl-C ends the round early; what was measured is still printed. A second one ends the process.
fn stop_on_signal() -> Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.end(HangUp::Ends).await;
        stop.send_replace(true);
        signals.end(HangUp::Ends).await;
        std::process::exit(130);
    });
    Ok(stopped)
}

/// Every second round begins with the other target, so that drift of the machine favours neither.
fn order(targets: usize, round: u32) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..targets).collect() } else { (0..targets).rev().collect() }
}

fn print(common: &Common, work: &Work, summaries: &[Summary]) {
    let text = if common.json { report::json(work, summaries) } else { report::text(work, summaries) };
    println!("{text}");
}
