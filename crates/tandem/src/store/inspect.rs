//! `tandem store inspect`: prints what is in a store directory and what the next start would do.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use store::{
    Clock, TimerFacts,
    inspect::{ConfigState, Facts, IndexFacts, QueueFacts, Recovery, StoreView, inspect},
};
use wire::json::Json;

use super::{
    End,
    place::Place,
    table::{bytes, json_line, number, object},
};
use crate::say;

/// Flags of `tandem store inspect`.
#[derive(Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    place: Place,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

struct Wall;

impl Clock for Wall {
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        since.as_millis() as i64
    }
}

/// Looks and prints.
pub(super) fn run(args: &InspectArgs) -> Result<End> {
    let view = args.place.open(false)?;
    let facts = inspect(&view, Arc::new(Wall))?;
    view.still_there()?;
    match args.json {
        true => say(json_line(&json(&view, &facts))),
        false => print(&view, &facts),
    }
    Ok(End::Well)
}

fn print(view: &StoreView, facts: &Facts) {
    let abort = if facts.clean { "no abort file" } else { "abort file" };
    let lock = if facts.running { "a broker has it" } else { "no broker has it" };
    say(format_args!("store        {} ({lock}, {abort})", view.root().display()));
    say(format_args!("log          {} segments of {}", facts.segments.len(), bytes(facts.segment_size)));
    for (base, len) in &facts.segments {
        say(format_args!("             {base:020}  {len} bytes"));
    }
    for (from, to) in &facts.gaps {
        say(format_args!("             MISSING from {from} to {to}"));
    }
    print_checkpoint(facts);
    for file in &facts.configs {
        let state = match file.state {
            ConfigState::Whole => "whole",
            ConfigState::OnlyBackup => "UNREADABLE, its .bak is whole",
            ConfigState::Broken => "UNREADABLE, and so is its .bak or there is none",
        };
        say(format_args!("config       {:<28} {state}", file.name));
    }
    for (name, len) in &facts.timer {
        say(format_args!("timer        {name:<28} {len} bytes"));
    }
    if let Some(timer) = &facts.timer_state {
        print_timer(timer);
    }
    for file in &facts.index {
        let IndexFacts { name, entries, times, places, .. } = file;
        say(format_args!(
            "index        {name}  {entries} entries, times {} to {}, log {} to {}",
            times.0, times.1, places.0, places.1
        ));
    }
    say("");
    say(format_args!("{:<48} {:>6} {:>12} {:>12} {:>12} {:>14}", "topic", "queue", "min", "max", "units", "log end"));
    for queue in &facts.queues {
        let QueueFacts { topic, queue_id, min, max, units, end, .. } = queue;
        say(format_args!("{topic:<48} {queue_id:>6} {min:>12} {max:>12} {units:>12} {end:>14}"));
    }
    say("");
    if let Some(note) = view.not_looked_at() {
        say(format_args!("note         {note}"));
    }
    print_recovery(&facts.recovery);
}

fn print_timer(timer: &TimerFacts) {
    match &timer.check_point {
        Some(point) => {
            let (read, queue) = (point.last_read_ms, point.last_timer_queue_offset);
            say(format_args!(
                "             delivered to time {read}, queue offset {queue} (at the master {}), timer log {}",
                point.master_timer_queue_offset, point.last_timer_log_flush_pos
            ));
        }
        None => say("             no check point"),
    }
    if let Some(behind) = timer.behind {
        say(format_args!("             {behind} messages of the timer topic are beyond the check point"));
    }
    let (slots, waiting, tick) = (timer.slots, timer.waiting, timer.precision_ms);
    say(format_args!("             {waiting} messages wait in {slots} slots of {tick} ms"));
    if let Some((first, last)) = timer.due {
        say(format_args!("             the next are due at {first}, the last at {last}"));
    }
    for (topic, count) in &timer.topics {
        say(format_args!("             {count:>8}  {topic}"));
    }
    if timer.topics_cut {
        say("             (the topics of the first messages only)");
    }
}

fn timer_json(timer: &TimerFacts) -> Json {
    let point = timer.check_point.as_ref().map(|point| {
        object([
            ("lastReadTimeMs", point.last_read_ms.into()),
            ("lastTimerLogFlushPos", point.last_timer_log_flush_pos.into()),
            ("lastTimerQueueOffset", point.last_timer_queue_offset.into()),
            ("masterTimerQueueOffset", point.master_timer_queue_offset.into()),
        ])
    });
    let due = |time: Option<i64>| time.map_or(Json::Null, Json::from);
    let topics = timer.topics.iter().map(|(topic, count)| (topic.as_str().into(), (*count).into()));
    object([
        ("checkPoint", point.unwrap_or(Json::Null)),
        ("behind", timer.behind.map_or(Json::Null, Json::from)),
        ("precisionMs", timer.precision_ms.into()),
        ("slots", number(timer.slots)),
        ("waiting", timer.waiting.into()),
        ("nextDueMs", due(timer.due.map(|(first, _)| first))),
        ("lastDueMs", due(timer.due.map(|(_, last)| last))),
        ("topics", Json::Obj(topics.collect())),
        ("topicsCut", timer.topics_cut.into()),
    ])
}

fn print_checkpoint(facts: &Facts) {
    let Some(found) = &facts.checkpoint else {
        say("checkpoint   none");
        return;
    };
    let (log, queues, index) = (found.physic_msg_timestamp, found.logics_msg_timestamp, found.index_msg_timestamp);
    say(format_args!("checkpoint   times: log {log}, queues {queues}, index {index}"));
    say(format_args!(
        "             offsets: queues {}, master {}, confirmed {}",
        found.logics_physical_offset, found.master_flushed_offset, found.confirm_phy_offset
    ));
}

fn print_recovery(recovery: &Recovery) {
    match recovery {
        Recovery::Running => say("next start   not tried: a broker has the store"),
        Recovery::Unfinished(why) => say(format_args!("next start   not tried: {why}")),
        Recovery::Refused(why) => say(format_args!("next start   REFUSED: {why}")),
        Recovery::Done { min, end, queues } => {
            say(format_args!("next start   the log goes from {min} to {end}, {} queues change", queues.len()));
            for change in queues {
                let before = change.before.map_or("no files".into(), |(min, max)| format!("{min} to {max}"));
                let (min, max) = change.after;
                say(format_args!("             {} {}: {before}, then {min} to {max}", change.topic, change.queue_id));
            }
        }
    }
}

fn json(view: &StoreView, facts: &Facts) -> Json {
    let pair = |(first, second): (i64, i64)| Json::Arr(vec![first.into(), second.into()]);
    let segment = |(base, len): &(i64, u64)| object([("base", (*base).into()), ("bytes", number(len))]);
    let timer = |(name, len): &(String, u64)| object([("name", name.as_str().into()), ("bytes", number(len))]);
    let checkpoint = facts.checkpoint.as_ref().map(|found| {
        object([
            ("physicMsgTimestamp", found.physic_msg_timestamp.into()),
            ("logicsMsgTimestamp", found.logics_msg_timestamp.into()),
            ("indexMsgTimestamp", found.index_msg_timestamp.into()),
            ("masterFlushedOffset", found.master_flushed_offset.into()),
            ("confirmPhyOffset", found.confirm_phy_offset.into()),
            ("logicsPhysicalOffset", found.logics_physical_offset.into()),
        ])
    });
    let configs = facts.configs.iter().map(|file| {
        let state = match file.state {
            ConfigState::Whole => "whole",
            ConfigState::OnlyBackup => "onlyBackup",
            ConfigState::Broken => "broken",
        };
        object([("name", file.name.as_str().into()), ("state", state.into()), ("backup", file.has_backup.into())])
    });
    let index = facts.index.iter().map(|file| {
        let sizes = file.sizes.map_or(Json::Null, |(slots, max)| pair((slots.into(), max.into())));
        object([
            ("name", file.name.as_str().into()),
            ("bytes", number(file.len)),
            ("entries", number(file.entries)),
            ("times", pair(file.times)),
            ("offsets", pair(file.places)),
            ("sizes", sizes),
        ])
    });
    let queues = facts.queues.iter().map(|queue| {
        object([
            ("topic", queue.topic.as_str().into()),
            ("queueId", number(queue.queue_id)),
            ("batch", queue.is_batch.into()),
            ("files", number(queue.files)),
            ("units", queue.units.into()),
            ("min", queue.min.into()),
            ("max", queue.max.into()),
            ("logEnd", queue.end.into()),
        ])
    });
    object([
        ("store", view.root().to_string_lossy().as_ref().into()),
        ("running", facts.running.into()),
        ("abort", (!facts.clean).into()),
        ("segmentSize", number(facts.segment_size)),
        ("segments", Json::Arr(facts.segments.iter().map(segment).collect())),
        ("gaps", Json::Arr(facts.gaps.iter().map(|gap| pair(*gap)).collect())),
        ("checkpoint", checkpoint.unwrap_or(Json::Null)),
        ("configs", Json::Arr(configs.collect())),
        ("timer", Json::Arr(facts.timer.iter().map(timer).collect())),
        ("timerState", facts.timer_state.as_ref().map_or(Json::Null, timer_json)),
        ("index", Json::Arr(index.collect())),
        ("queues", Json::Arr(queues.collect())),
        ("nextStart", next_start(&facts.recovery)),
        ("notes", Json::Arr(view.not_looked_at().iter().map(|note| note.as_str().into()).collect())),
    ])
}

fn next_start(recovery: &Recovery) -> Json {
    let pair = |(first, second): (i64, i64)| Json::Arr(vec![first.into(), second.into()]);
    match recovery {
        Recovery::Running => object([("state", "running".into())]),
        Recovery::Unfinished(why) => object([("state", "unfinishedRebuild".into()), ("why", why.as_str().into())]),
        Recovery::Refused(why) => object([("state", "refused".into()), ("why", why.as_str().into())]),
        Recovery::Done { min, end, queues } => {
            let change = queues.iter().map(|change| {
                object([
                    ("topic", change.topic.as_str().into()),
                    ("queueId", number(change.queue_id)),
                    ("before", change.before.map_or(Json::Null, pair)),
                    ("after", pair(change.after)),
                ])
            });
            let changes = Json::Arr(change.collect());
            object([("state", "starts".into()), ("min", (*min).into()), ("end", (*end).into()), ("queues", changes)])
        }
    }
}
