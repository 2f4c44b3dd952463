//! `tandem store diff`: prints where two replicas are not the same. Decides nothing about them.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use clap::Args;
use store::{
    LogDirs, RealDisk,
    inspect::{Compared, LogContent, LogDifference, LogPlace, SideFacts, StoreView, ViewOptions, Weight, diff},
};
use wire::json::Json;

use super::{
    End,
    place::log_dirs,
    progress::Progress,
    table::{bytes, json_line, number, object},
};
use crate::say;

/// Flags of `tandem store diff`.
#[derive(Args)]
pub(super) struct DiffArgs {
    /// Store directory of one replica (`storePathRootDir`).
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Store directory of the other.
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Log of A, where it is elsewhere (`storePathCommitLog`).
    #[arg(long, value_name = "DIRS", value_parser = log_dirs)]
    commitlog_a: Option<LogDirs>,
    /// Log of B, where it is elsewhere.
    #[arg(long, value_name = "DIRS", value_parser = log_dirs)]
    commitlog_b: Option<LogDirs>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Tell no progress.
    #[arg(long)]
    quiet: bool,
}

/// Compares and prints.
pub(super) fn run(args: &DiffArgs) -> Result<End> {
    let open = |dir: &PathBuf, commit_log_dirs: &Option<LogDirs>| {
        let options = ViewOptions { commit_log_dirs: commit_log_dirs.clone(), ..ViewOptions::default() };
        StoreView::open(Arc::new(RealDisk), dir, options)
    };
    let (a, b) = (open(&args.a, &args.commitlog_a)?, open(&args.b, &args.commitlog_b)?);
    let mut progress = Progress::new(args.quiet);
    let found = diff(&a, &b, &mut progress);
    progress.end();
    let found = found.with_context(|| format!("comparing {} with {}", args.a.display(), args.b.display()))?;
    a.still_there()?;
    b.still_there()?;
    match args.json {
        true => say(json_line(&json([&a, &b], &found))),
        false => print([&a, &b], &found),
    }
    Ok(if found.verdict() == Weight::Note { End::Well } else { End::Damage })
}

/// In a word, what was found.
fn verdict(found: &Compared) -> &'static str {
    match found.verdict() {
        Weight::Note => "equal",
        other => other.name(),
    }
}

fn print(views: [&StoreView; 2], found: &Compared) {
    for ((name, view), side) in ["a", "b"].into_iter().zip(views).zip(&found.sides) {
        let state = match (side.running, side.clean) {
            (true, _) => "a broker has it",
            (false, true) => "stopped cleanly",
            (false, false) => "not stopped cleanly",
        };
        let (min, end, segment) = (side.min, side.end, bytes(side.segment_size as u64));
        say(format_args!("{name}        {} ({state})", view.root().display()));
        say(format_args!("         log {min} to {end}, segments of {segment}"));
        if let Some(note) = view.not_looked_at() {
            say(format_args!("         {note}"));
        }
    }
    for (from, to) in &found.common {
        say(format_args!("both     {from} to {to}"));
    }
    say(format_args!("compared {} of the log, {} queues, {} units", bytes(found.bytes), found.queues, found.units));
    let word = match found.verdict() {
        Weight::Note => "equal",
        Weight::Behind => "behind: one has less than the other, what both have is equal",
        Weight::Different => "DIFFERENT",
    };
    say(format_args!("result   {word}"));
    if found.rows.is_empty() {
        return;
    }
    say("");
    for ((part, weight), count) in &found.counts {
        say(format_args!("{:<12} {:<10} {count}", part.name(), weight.name()));
    }
    let mut rows: Vec<_> = found.rows.iter().collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.weight), row.part));
    for row in rows {
        say("");
        say(format_args!("{:<12} {:<10} {}", row.part.name(), row.weight.name(), row.name));
        say(format_args!("    a    {}", row.a));
        say(format_args!("    b    {}", row.b));
    }
    if found.is_cut() {
        say("(only the first of each kind are told one by one)");
    }
}

fn json(views: [&StoreView; 2], found: &Compared) -> Json {
    let pair = |(from, to): &(i64, i64)| Json::Arr(vec![(*from).into(), (*to).into()]);
    let rows = found.rows.iter().map(|row| {
        object([
            ("part", row.part.name().into()),
            ("weight", row.weight.name().into()),
            ("name", row.name.as_str().into()),
            ("a", row.a.as_str().into()),
            ("b", row.b.as_str().into()),
        ])
    });
    let counts = found.counts.iter().map(|((part, weight), count)| {
        object([("part", part.name().into()), ("weight", weight.name().into()), ("count", number(count))])
    });
    object([
        ("verdict", verdict(found).into()),
        ("a", side(views[0], &found.sides[0])),
        ("b", side(views[1], &found.sides[1])),
        ("common", Json::Arr(found.common.iter().map(pair).collect())),
        ("bytes", number(found.bytes)),
        ("queues", number(found.queues)),
        ("units", number(found.units)),
        ("firstDivergentByte", found.log.first().map_or(Json::Null, |first| first.first.into())),
        ("log", Json::Arr(found.log.iter().map(difference).collect())),
        ("counts", Json::Arr(counts.collect())),
        ("rows", Json::Arr(rows.collect())),
        ("rowsCut", found.is_cut().into()),
    ])
}

fn side(view: &StoreView, facts: &SideFacts) -> Json {
    object([
        ("store", view.root().to_string_lossy().as_ref().into()),
        ("running", facts.running.into()),
        ("clean", facts.clean.into()),
        ("min", facts.min.into()),
        ("end", facts.end.into()),
        ("segmentSize", facts.segment_size.into()),
    ])
}

fn difference(found: &LogDifference) -> Json {
    object([("first", found.first.into()), ("to", found.to.into()), ("a", place(&found.a)), ("b", place(&found.b))])
}

fn place(place: &LogPlace) -> Json {
    let (what, record) = match &place.what {
        LogContent::Record(name) => ("record", Some(name)),
        LogContent::Damaged(name) => ("damagedRecord", Some(name)),
        LogContent::Filler => ("filler", None),
        LogContent::Nothing(_) => ("nothing", None),
    };
    let of = |value: Option<Json>| value.unwrap_or(Json::Null);
    object([
        ("what", what.into()),
        ("from", place.from.into()),
        ("to", place.to.into()),
        ("topic", of(record.map(|name| name.topic.as_str().into()))),
        ("queueId", of(record.map(|name| number(name.queue_id)))),
        ("queueOffset", of(record.map(|name| name.queue_offset.into()))),
        ("storeTimestamp", of(record.map(|name| name.store_timestamp.into()))),
    ])
}
