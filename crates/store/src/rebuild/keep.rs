//! What a rebuild takes over from the old views because the log cannot tell it any more: where the counters of queues
//! are whose messages have all expired, and the names of index files.

use std::path::Path;

use crate::{
    disk::Disk,
    error::{IoContext, StoreError},
    inspect::{
        index::{self, IndexView},
        queues::QueueFiles,
        view::StoreView,
    },
    queue::{Kind, filler},
    rebuild::build::Build,
    segments,
};

/// Keeps the last file of each queue that has no record in the log: without it the queue would begin at offset 0 again,
/// and consumers that are further would wait for ever. Returns these queues.
pub(super) fn counters(build: &Build<'_>) -> Result<Vec<(String, i32)>, StoreError> {
    let mut kept = Vec::new();
    for old in build.old() {
        let name = (old.topic.to_string(), old.queue_id);
        let built = build.queues().get(&old.topic, old.queue_id).is_some_and(|queue| !queue.units().is_unused());
        if built || kept.last() == Some(&name) {
            continue;
        }
        if keep(build, old)? {
            kept.push(name);
        }
    }
    Ok(kept)
}

fn keep(build: &Build<'_>, old: &QueueFiles) -> Result<bool, StoreError> {
    let (start, all) = (old.start(), old.end()?);
    // Units beyond the log's begin have no record either: it was lost, and its number goes with it. What is before them a plain
    // queue tells by the name of its first file.
    let end = old.first_at(build.min(), all)?;
    if end == start && (start == 0 || old.kind == Kind::Batch) {
        return Ok(false);
    }
    let size = build.queues().file_size(old.kind);
    let (first, bytes) = last_file(old, end, size as i64 / old.unit())?;
    let disk = build.disk();
    let dir = build.aside().join(old.kind.directory()).join(&*old.topic).join(old.queue_id.to_string());
    disk.create_dir_all(&dir).at("create", &dir)?;
    let path = segments::path(&dir, first * old.unit());
    let file = disk.open(&path, true).at("create", &path)?;
    file.set_len(size).at("size", &path)?;
    file.write_all_at(0, &bytes).at("write", &path)?;
    file.sync().at("sync", &path)?;
    for dir in dir.ancestors().take(3) {
        disk.sync_dir(dir).at("sync", dir)?;
    }
    Ok(true)
}

/// Place and units of the last file of a row that ends at `end`, of `per_file` units, whatever the old files have. Of a plain
/// queue an empty one keeps the counter by its name.
fn last_file(old: &QueueFiles, end: i64, per_file: i64) -> Result<(i64, Vec<u8>), StoreError> {
    let start = old.start();
    let holder = if end > start { end - 1 } else { start };
    let first = holder - holder % per_file.max(1);
    let fillers = usize::try_from(start - first).unwrap_or(0);
    let (first, mut at, mut bytes) = match old.kind {
        Kind::Simple => (first, first.max(start), filler(0).repeat(fillers)),
        // Only the last unit tells where the queue goes on.
        Kind::Batch if fillers > 0 => (0, holder, Vec::new()),
        Kind::Batch => (first, first, Vec::new()),
    };
    let mut units = Vec::new();
    while at < end {
        let read = old.read(at, (end - at) as usize, &mut units)?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&units);
        at += read as i64;
    }
    Ok((first, bytes))
}

/// Index files that begin with the same record as an old one get its name, so that a rebuild of a whole index changes
/// none, and a Java broker that goes on, whose names are local times, makes names that follow.
pub(super) fn index_names(disk: &dyn Disk, aside: &Path, view: &StoreView) -> Result<(), StoreError> {
    let open = |disk: &dyn Disk, root: &Path| -> Result<Vec<(String, i64)>, StoreError> {
        let mut files = Vec::new();
        for path in index::find(disk, root)? {
            let file = IndexView::open(disk, &path, None)?;
            files.push((file.name(), file.header.begin_physical));
        }
        Ok(files)
    };
    let (old, new) = (open(&*view.disk, &view.root)?, open(disk, aside)?);
    let renamed: Vec<String> = new
        .iter()
        .map(|(name, begin)| old.iter().find(|(_, other)| other == begin).map_or(name, |(other, _)| other).clone())
        .collect();
    let grows = renamed.windows(2).all(|pair| pair[0].len() == pair[1].len() && pair[0] < pair[1]);
    let collides = renamed.iter().zip(&new).any(|(to, (from, _))| to != from && new.iter().any(|(name, _)| name == to));
    if !grows || collides {
        return Ok(());
    }
    let dir = aside.join("index");
    for (to, (from, _)) in renamed.iter().zip(&new).filter(|(to, (from, _))| *to != from) {
        disk.rename(&dir.join(from), &dir.join(to)).at("rename", dir.join(from))?;
    }
    disk.sync_dir(&dir).at("sync", &dir)
}
