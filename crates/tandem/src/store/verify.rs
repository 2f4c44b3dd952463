//! `tandem store verify`: prints what the check of a store found. Decides nothing about it.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use store::inspect::{StoreView, Verified, verify};
use wire::json::Json;

use super::{
    End,
    place::Place,
    progress::Progress,
    table::{bytes, json_line, number, object},
};
use crate::say;

/// Flags of `tandem store verify`.
#[derive(Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// Leave the index out: the broker has `messageIndexEnable=false`.
    #[arg(long)]
    no_index: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Tell no progress.
    #[arg(long)]
    quiet: bool,
}

/// Checks and prints.
pub(super) fn run(args: &VerifyArgs) -> Result<End> {
    let view = args.place.open(args.no_index)?;
    let mut progress = Progress::new(args.quiet);
    let found = verify(&view, &mut progress);
    progress.end();
    let found = found?;
    view.still_there()?;
    match args.json {
        true => say(json_line(&json(&view, &found))),
        false => print(&view, &found),
    }
    Ok(if found.findings.is_empty() { End::Well } else { End::Damage })
}

/// In a word, how the store was found.
fn state(found: &Verified) -> &'static str {
    match (found.running, found.clean) {
        (true, _) => "running",
        (false, true) => "clean",
        (false, false) => "unclean",
    }
}

fn print(view: &StoreView, found: &Verified) {
    let told = match state(found) {
        "running" => "a broker has it",
        "clean" => "stopped cleanly",
        _ => "not stopped cleanly",
    };
    say(format_args!("store    {} ({told})", view.root().display()));
    say(format_args!("log      {} to {}, {} records, {}", found.min, found.end, found.records, bytes(found.bytes)));
    say(format_args!("queues   {}, {} units", found.queues, found.units));
    say(format_args!("index    {} entries", found.entries));
    for note in &found.notes {
        say(format_args!("note     {note}"));
    }
    let findings = &found.findings;
    if findings.is_empty() {
        say("result   sound");
        return;
    }
    say("result   DAMAGED");
    say("");
    for (kind, count) in findings.counts() {
        say(format_args!("{:<20} {count}", kind.name()));
    }
    say("");
    for finding in findings.list() {
        say(format_args!("{:<20} {}", finding.kind.name(), finding.text));
    }
    if findings.is_cut() {
        say("(only the first of each kind are told one by one)");
    }
}

fn json(view: &StoreView, found: &Verified) -> Json {
    let findings = &found.findings;
    let list = findings
        .list()
        .iter()
        .map(|finding| object([("kind", finding.kind.name().into()), ("text", finding.text.as_str().into())]));
    let counts: BTreeMap<_, _> = findings.counts().iter().map(|(kind, count)| (kind.name(), *count)).collect();
    object([
        ("store", view.root().to_string_lossy().as_ref().into()),
        ("sound", findings.is_empty().into()),
        ("state", state(found).into()),
        ("min", found.min.into()),
        ("end", found.end.into()),
        ("bytes", number(found.bytes)),
        ("records", number(found.records)),
        ("crcProperties", number(found.crc_properties)),
        ("queues", number(found.queues)),
        ("units", number(found.units)),
        ("entries", number(found.entries)),
        ("counts", Json::Obj(counts.into_iter().map(|(kind, count)| (kind.into(), number(count))).collect())),
        ("findings", Json::Arr(list.collect())),
        ("findingsCut", findings.is_cut().into()),
        ("notes", Json::Arr(found.notes.iter().map(|note| note.as_str().into()).collect())),
    ])
}
