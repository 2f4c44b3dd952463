//! A commit log in several directories: one log to everybody above, whichever disk a segment lies on.

mod common;

use std::{fs, path::Path, sync::Arc};

use common::{Still, assert_sound, bodies, clock_at, open, put, small};
use store::{
    LogDirs, RealDisk, RebuildOptions, Retention, Store, StoreConfig, StoreError, inspect::ViewOptions, rebuild,
};

/// Segments of 4 KiB in `a` and `b`, old ones perhaps in `old`.
fn config(root: &Path) -> StoreConfig {
    let list = format!("{0}/a,{0}/b", root.display());
    let dirs = LogDirs::parse(&list, root.join("old").to_str().unwrap()).unwrap();
    StoreConfig { commit_log_dirs: dirs, ..small(&root.join("store")) }
}

fn segments(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for dir in ["a", "b", "old"].iter().filter(|dir| root.join(dir).exists()) {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            found.push((entry.unwrap().file_name().into_string().unwrap(), (*dir).to_owned()));
        }
    }
    found.sort();
    found
}

fn dirs_of(root: &Path) -> String {
    segments(root).into_iter().map(|(_, dir)| dir).collect::<Vec<_>>().join(" ")
}

fn fill(store: &Store, from: usize, to: usize) -> Vec<Vec<u8>> {
    let all: Vec<Vec<u8>> = (from..to).map(|number| format!("{number:0>900}").into_bytes()).collect();
    for body in &all {
        put(store, "T", 0, b"KEYS\x01k\x02", body);
    }
    all
}

/// A store of 22 messages in six segments that was stopped.
fn stopped() -> (tempfile::TempDir, StoreConfig, Vec<Vec<u8>>) {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path());
    let store = open(&config);
    let all = fill(&store, 0, 22);
    store.close().unwrap();
    (root, config, all)
}

#[test]
fn a_log_over_two_directories_survives_stops_and_kills() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path());
    let store = open(&config);
    let mut all = fill(&store, 0, 22);
    // In turns, as Java places them.
    assert_eq!(dirs_of(root.path()), "a b a b a b");
    store.flush().unwrap();
    store.close().unwrap();
    let store = open(&config);
    all.extend(fill(&store, 22, 25));
    assert_eq!(bodies(&store, "T", 0), all);
    // As after a kill: what was written is there.
    drop(store);
    let store = open(&config);
    assert_eq!(bodies(&store, "T", 0), all);
    assert_eq!(dirs_of(root.path()), "a b a b a b a");
    store.close().unwrap();
}

#[test]
fn segments_go_from_whichever_directory_they_are_in() {
    let (root, config, all) = stopped();
    // The operator closes the directory of the first ones and moves a segment there.
    fs::create_dir(root.path().join("old")).unwrap();
    let first = "00000000000000000000";
    fs::rename(root.path().join("a").join(first), root.path().join("old").join(first)).unwrap();
    let store = open(&config);
    assert_eq!(bodies(&store, "T", 0), all);
    let retention = Retention { now_ms: i64::MAX, reserved_ms: 0, regardless_of_age: true, max_segments: 2 };
    assert_eq!(store.delete_expired(retention).unwrap(), 2);
    assert_eq!((dirs_of(root.path()), store.min_phys()), ("a b a b".to_owned(), 8192));
    store.truncate(8192 + 4096).unwrap();
    assert_eq!(dirs_of(root.path()), "a");
    let more = fill(&store, 50, 56);
    assert_eq!(dirs_of(root.path()), "a b a");
    assert!(bodies(&store, "T", 0).ends_with(&more));
}

#[test]
fn commands_see_the_whole_log() {
    for killed in [false, true] {
        let (_root, config, all) = stopped();
        if killed {
            drop(open(&config));
        }
        let commit_log_dirs = config.commit_log_dirs.clone();
        let options =
            ViewOptions { commit_log_dirs, max_hash_slots: Some(64), max_index: Some(40), ..ViewOptions::default() };
        let sound = |when: &str| assert_sound(&config.root, &options, when);
        sound("before");
        fs::remove_dir_all(config.root.join("consumequeue")).unwrap();
        let again = RebuildOptions {
            config: Some(config.clone()),
            view: options.clone(),
            all_topics: true,
            ..RebuildOptions::default()
        };
        let made = rebuild(Arc::new(RealDisk), &config.root, &again, &mut Still).unwrap();
        assert_eq!(made.units, all.len() as u64);
        sound("after a rebuild");
        assert_eq!(bodies(&open(&config), "T", 0), all);
    }
}

#[test]
fn a_segment_that_is_there_twice_or_not_at_all_is_named() {
    let (root, config, all) = stopped();
    let refused = || Store::open(config.clone(), Arc::new(RealDisk), clock_at(1)).map(drop).unwrap_err();
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    let name = "00000000000000004096";
    fs::copy(b.join(name), a.join(name)).unwrap();
    let error = refused().to_string();
    assert!(error.contains(&format!("{name} is in {} and in {}", a.display(), b.display())), "{error}");
    fs::remove_file(a.join(name)).unwrap();
    fs::rename(b.join(name), root.path().join(name)).unwrap();
    assert!(matches!(refused(), StoreError::MissingSegment { .. }));
    fs::rename(root.path().join(name), b.join(name)).unwrap();
    assert_eq!(bodies(&open(&config), "T", 0), all);
}
