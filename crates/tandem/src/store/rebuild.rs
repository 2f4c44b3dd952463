//! `tandem store rebuild`: reads the configuration, looks whether the views can be replaced, and prints what was made.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use broker::BrokerConfig;
use clap::Args;
use store::{RealDisk, RebuildOptions, Rebuilt, StoreConfig, rebuild};
use wire::json::Json;

use super::{
    End,
    place::Place,
    progress::Progress,
    table::{json_line, number, object},
};
use crate::say;

/// Flags of `tandem store rebuild`.
#[derive(Args)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    place: Place,
    /// The broker's configuration (`broker.conf`), for sizes and delay levels. Without it they are those of the files
    /// that are there.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Leave the index as it is.
    #[arg(long)]
    no_index: bool,
    /// Also queues of topics that are in neither the topic table nor the queues that are there: they were deleted.
    #[arg(long)]
    all_topics: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Tell no progress.
    #[arg(long)]
    quiet: bool,
}

/// Rebuilds and prints.
pub(super) fn run(args: &RebuildArgs) -> Result<End> {
    let root = args.place.dir();
    args.place.open(args.no_index)?;
    can_be_replaced(root)?;
    let mut view = args.place.options(args.no_index);
    let config = args.config_file.as_deref().map(|file| configured(root, file)).transpose()?;
    if view.commit_log_dirs.is_none() {
        view.commit_log_dirs = config.as_ref().and_then(|config| config.commit_log_dirs.clone());
    }
    let mut progress = Progress::new(args.quiet);
    let options =
        RebuildOptions { config, view, all_topics: args.all_topics, local_time: Some(broker::clock::local_time) };
    let made = rebuild(Arc::new(RealDisk), root, &options, &mut progress);
    progress.end();
    let made = made?;
    match args.json {
        true => say(json_line(&json(root, &made))),
        false => print(root, &made),
    }
    Ok(if made.passed.is_empty() { End::Well } else { End::Damage })
}

/// The keys of `broker.conf`, and the topics that have batch queues.
fn configured(root: &Path, file: &Path) -> Result<StoreConfig> {
    let mut config = BrokerConfig::default();
    crate::broker::apply_file(&mut config, file)?;
    config.check_store()?;
    Ok(broker::store_config(&config, root)?)
}

/// Views are replaced by renames: they must be directories of the root's file system.
fn can_be_replaced(root: &Path) -> Result<()> {
    let device = std::fs::metadata(root).with_context(|| format!("cannot look at {}", root.display()))?.dev();
    for name in ["consumequeue", "batchconsumequeue", "consumequeue_ext", "index"] {
        let path = root.join(name);
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        if !found.is_dir() || found.dev() != device {
            bail!(
                "{} is no directory of the same file system as {}: the rebuilt one could not take its place; move it there first",
                path.display(),
                root.display()
            );
        }
    }
    Ok(())
}

fn print(root: &Path, made: &Rebuilt) {
    say(format_args!("store    {}", root.display()));
    say(format_args!("log      {} to {}, {} records", made.min, made.end, made.records));
    let extended = if made.extended { ", with extensions" } else { "" };
    say(format_args!("queues   {}, {} units{extended}", made.queues, made.units));
    say(format_args!("index    {} files, {} entries", made.index_files, made.entries));
    if made.finished_earlier {
        say("note     an earlier rebuild was stopped while it was put in place: that was ended first");
    }
    for (topic, queue_id) in &made.kept {
        say(format_args!(
            "kept     queue {topic} {queue_id}: the log has none of its messages, its last file tells its offset"
        ));
    }
    for (topic, records) in &made.left_out {
        say(format_args!("left out topic {topic}, {records} records: it was deleted (--all-topics makes its queues)"));
    }
    if made.default_sizes {
        say(
            "note     nothing told the sizes of queue or index files: Java's defaults were taken; if broker.conf has others, do it again with --configFile",
        );
    }
    for passed in &made.passed {
        say(format_args!("DAMAGED  bytes {} to {} of the log: {}", passed.from, passed.to, passed.why));
    }
}

fn json(root: &Path, made: &Rebuilt) -> Json {
    let kept = made
        .kept
        .iter()
        .map(|(topic, queue_id)| object([("topic", topic.as_str().into()), ("queueId", number(queue_id))]));
    let left_out = made
        .left_out
        .iter()
        .map(|(topic, records)| object([("topic", topic.as_str().into()), ("records", number(records))]));
    let passed = made.passed.iter().map(|passed| {
        object([("from", passed.from.into()), ("to", passed.to.into()), ("why", passed.why.as_str().into())])
    });
    object([
        ("store", root.to_string_lossy().as_ref().into()),
        ("min", made.min.into()),
        ("end", made.end.into()),
        ("records", number(made.records)),
        ("queues", number(made.queues)),
        ("units", number(made.units)),
        ("extended", made.extended.into()),
        ("indexFiles", number(made.index_files)),
        ("entries", number(made.entries)),
        ("finishedEarlier", made.finished_earlier.into()),
        ("defaultSizes", made.default_sizes.into()),
        ("kept", Json::Arr(kept.collect())),
        ("leftOut", Json::Arr(left_out.collect())),
        ("passed", Json::Arr(passed.collect())),
    ])
}
