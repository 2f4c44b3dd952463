//! From views that were built aside to views in their place, so that a stop at any call leaves the old or the new.
//!
//! `ROOT/rebuild` is a build that is not whole: nothing in it counts. The rename to `ROOT/rebuild.done` is the commit
//! point: from then on what is in it replaces the directories of the same names. Each old directory first goes into
//! `rebuild.done`, then the new one takes its place; at the end `rebuild.done` is deleted with all that is left in it. The
//! extension goes with the consume queues.
//! A file `made` marks both directories as ours; a directory without it is never touched.
//!
//! A Java broker knows nothing of it. If one has run since the commit, views that it went on with are newer than the
//! build, and stay.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, list_sorted},
    error::{IoContext, StoreError},
    ext,
    handles::Handles,
    inspect::{
        index::{self, IndexView},
        queues::QueueFiles,
    },
    queue::{Kind, get_i64},
};

const ASIDE: &str = "rebuild";
const DONE: &str = "rebuild.done";
/// In both: says whose they are; in a whole build also what the views in place knew when it was made.
const MARK: &str = "made";
/// What is replaced.
const VIEWS: [&str; 3] = ["consumequeue", "batchconsumequeue", "index"];

/// For each view, up to where in the log it goes.
type Reached = [i64; VIEWS.len()];

/// Makes an empty directory to build in; what an earlier rebuild left there goes.
pub(super) fn begin(disk: &dyn Disk, root: &Path) -> Result<PathBuf, StoreError> {
    discard(disk, root)?;
    let aside = root.join(ASIDE);
    disk.create_dir_all(&aside).at("create", &aside)?;
    mark(disk, &aside, &[0; VIEWS.len()])?;
    Ok(aside)
}

fn mark(disk: &dyn Disk, dir: &Path, reached: &Reached) -> Result<(), StoreError> {
    let path = dir.join(MARK);
    let file = disk.open(&path, true).at("create", &path)?;
    file.write_all_at(0, &reached.map(i64::to_be_bytes).concat()).at("write", &path)?;
    file.sync().at("sync", &path)?;
    disk.sync_dir(dir).at("sync", dir)
}

/// Deletes a build that is not whole.
pub(super) fn discard(disk: &dyn Disk, root: &Path) -> Result<(), StoreError> {
    let aside = root.join(ASIDE);
    if !disk.exists(&aside) {
        return Ok(());
    }
    refuse_foreign(disk, &aside)?;
    remove_tree(disk, &aside)?;
    disk.sync_dir(root).at("sync", root)
}

/// The build, which is durable, is whole from here on.
pub(super) fn commit(disk: &Arc<dyn Disk>, root: &Path) -> Result<(), StoreError> {
    let (aside, done) = (root.join(ASIDE), root.join(DONE));
    let mut all = [0; VIEWS.len()];
    for (number, name) in VIEWS.into_iter().enumerate() {
        all[number] = reached(disk, root, name)?;
    }
    mark(&**disk, &aside, &all)?;
    disk.rename(&aside, &done).at("rename", &aside)?;
    disk.sync_dir(root).at("sync", root)
}

/// Puts a build that is whole in its place, also one that was stopped halfway. False when there is none.
pub(crate) fn finish(shared: &Arc<dyn Disk>, root: &Path) -> Result<bool, StoreError> {
    let (disk, done) = (&**shared, root.join(DONE));
    if !disk.exists(&done) {
        return Ok(false);
    }
    refuse_foreign(disk, &done)?;
    let known = known(disk, &done)?;
    for (name, known) in VIEWS.into_iter().zip(known) {
        let (place, old) = (root.join(name), old_of(&done, name));
        if !disk.exists(&done.join(name)) {
            continue;
        }
        if disk.exists(&place) && !disk.exists(&old) && reached(shared, root, name)? != known {
            tracing::warn!(dir = %place.display(), "a broker has gone on with these files since they were rebuilt: they stay, the rebuilt ones are deleted");
            continue;
        }
        clear_place(disk, root, &done, name)?;
        // Addresses and what they lead to change places while there are no units: none ever leads to another one's tags.
        if name == Kind::Simple.directory() && disk.exists(&done.join(ext::DIRECTORY)) {
            clear_place(disk, root, &done, ext::DIRECTORY)?;
            rename(disk, &done.join(ext::DIRECTORY), &root.join(ext::DIRECTORY), [root, &done])?;
        }
        rename(disk, &done.join(name), &place, [root, &done])?;
    }
    let ext = root.join(ext::DIRECTORY);
    if disk.exists(&ext) && list_sorted(disk, &ext).at("list", &ext)?.is_empty() {
        disk.remove_dir(&ext).at("delete", &ext)?;
    }
    remove_tree(disk, &done)?;
    disk.sync_dir(root).at("sync", root)?;
    Ok(true)
}

fn old_of(done: &Path, name: &str) -> PathBuf {
    done.join(format!("old-{name}"))
}

/// Takes what is in a view's place out of it.
fn clear_place(disk: &dyn Disk, root: &Path, done: &Path, name: &str) -> Result<(), StoreError> {
    let (place, old) = (root.join(name), old_of(done, name));
    match disk.exists(&place) {
        false => Ok(()),
        true if !disk.exists(&old) => rename(disk, &place, &old, [root, done]),
        // Made by a broker while there were none: it has not all of them.
        true => remove_tree(disk, &place),
    }
}

/// What a start says and does about the leavings of a rebuild.
pub(crate) fn at_start(disk: &Arc<dyn Disk>, root: &Path) -> Result<(), StoreError> {
    if finish(disk, root)? {
        tracing::warn!(root = %root.display(), "a rebuild of consume queues and index was stopped while it was put in place: that is done now");
    }
    let aside = root.join(ASIDE);
    if disk.exists(&aside) {
        tracing::warn!(dir = %aside.display(), "left by a rebuild that was stopped; nothing in it is used: delete it, or run `tandem store rebuild` again");
    }
    Ok(())
}

/// Says, in a line, that a rebuild was stopped while it was put in place.
pub(crate) fn unfinished(disk: &dyn Disk, root: &Path) -> Option<String> {
    disk.exists(&root.join(DONE)).then(|| {
        format!(
            "a rebuild was stopped while it was put in place ({}): the next start of a Tandem broker, or `tandem store rebuild`, ends that first",
            root.join(DONE).display()
        )
    })
}

/// An empty one may be what a power loss left of ours.
fn refuse_foreign(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    match disk.exists(&dir.join(MARK)) || list_sorted(disk, dir).at("list", dir)?.is_empty() {
        true => Ok(()),
        false => Err(StoreError::Foreign { path: dir.to_path_buf() }),
    }
}

/// What a mark says.
fn known(disk: &dyn Disk, done: &Path) -> Result<Reached, StoreError> {
    let (path, mut known) = (done.join(MARK), [0; VIEWS.len()]);
    if disk.exists(&path) {
        let mut bytes = [0; VIEWS.len() * 8];
        disk.open_read(&path).at("open", &path)?.read_exact_at(0, &mut bytes).at("read", &path)?;
        known.iter_mut().zip(bytes.chunks_exact(8)).for_each(|(known, word)| *known = get_i64(word, 0));
    }
    Ok(known)
}

/// Up to where in the log the views of a name go that are in place.
fn reached(disk: &Arc<dyn Disk>, root: &Path, name: &str) -> Result<i64, StoreError> {
    let kind = match name {
        "consumequeue" => Kind::Simple,
        "batchconsumequeue" => Kind::Batch,
        _ => return index_reached(disk, root),
    };
    let (handles, mut reached) = (Arc::new(Handles::new(16)), 0);
    let dirs_in = |dir: &Path| -> Result<Vec<String>, StoreError> {
        let entries = list_sorted(&**disk, dir).at("list", dir)?;
        Ok(entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect())
    };
    let dir = root.join(name);
    for topic in dirs_in(&dir)? {
        let dir = dir.join(&topic);
        for queue in dirs_in(&dir)? {
            let Ok(queue_id) = queue.parse() else { continue };
            let place = (kind, Arc::from(topic.as_str()), queue_id);
            let files = QueueFiles::load(disk, &handles, place, dir.join(&queue))?;
            reached = reached.max(files.unit_at(files.end()? - 1)?.map_or(0, |unit| unit.end()));
        }
    }
    Ok(reached)
}

fn index_reached(disk: &Arc<dyn Disk>, root: &Path) -> Result<i64, StoreError> {
    let mut reached = 0;
    for path in index::find(&**disk, root)? {
        let header = IndexView::open(&**disk, &path, None)?.header;
        reached = reached.max(header.end_physical);
    }
    Ok(reached)
}

fn rename(disk: &dyn Disk, from: &Path, to: &Path, dirs: [&Path; 2]) -> Result<(), StoreError> {
    disk.rename(from, to).at("rename", from)?;
    dirs.iter().try_for_each(|dir| disk.sync_dir(dir).at("sync", *dir))
}

/// Deletes a directory; the mark goes last.
fn remove_tree(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    let mut entries = list_sorted(disk, dir).at("list", dir)?;
    entries.sort_by_key(|entry| entry.name == MARK);
    for entry in entries {
        let path = dir.join(&entry.name);
        match entry.is_dir {
            true => remove_tree(disk, &path)?,
            false => disk.remove(&path).at("delete", &path)?,
        }
    }
    disk.remove_dir(dir).at("delete", dir)
}
