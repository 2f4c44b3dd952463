//! `tandem store rebuild` as an operator runs it.

mod stores;

use std::{fs, path::Path};

use stores::{content, flip, open, put, sound, tandem, text};
use wire::json::Json;

fn run(args: &[&str], dir: &Path) -> (Option<i32>, String, String) {
    let out = tandem(&[&["rebuild"], args].concat(), dir);
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

fn refused(dir: &Path, part: &str) {
    let (code, out, line) = run(&[], dir);
    assert_eq!((code, out.as_str(), line.lines().count()), (Some(2), "", 1), "{line}");
    assert!(line.starts_with("tandem: ") && line.contains(part), "{line}");
}

#[test]
fn lost_queues_and_index_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = &dir.path().join("store");
    sound(root);
    let before = content(root);
    fs::remove_dir_all(root.join("consumequeue/T/1")).unwrap();
    flip(&root.join("consumequeue/T/0/00000000000000000200"), 7);
    assert_eq!(tandem(&["verify"], root).status.code(), Some(1));
    let (code, told, error) = run(&[], root);
    assert!(code == Some(0) && told.contains("queues   2, 40 units") && error.is_empty(), "{told} {error}");
    assert!(content(root) == before, "the same as before, and nothing beside");

    // Without any view the sizes are told by the configuration.
    for name in ["consumequeue", "batchconsumequeue", "index"] {
        fs::remove_dir_all(root.join(name)).unwrap();
    }
    let conf = dir.path().join("broker.conf");
    fs::write(&conf, "mappedFileSizeConsumeQueue=200\nmaxHashSlotNum=64\nmaxIndexNum=40\n").unwrap();
    let (code, told, error) = run(&["--json", "--configFile", conf.to_str().unwrap()], root);
    let json = Json::parse(told.as_bytes()).unwrap();
    assert_eq!((code, json.get("units").and_then(Json::to_i64)), (Some(0), Some(40)), "{told} {error}");
    let (now, is_index) = (content(root), |path: &&std::path::PathBuf| path.starts_with(root.join("index")));
    assert!(before.iter().filter(|(path, _)| !is_index(path)).all(|(path, bytes)| &now[path] == bytes));
    assert_eq!(tandem(&["verify"], root).status.code(), Some(0));
}

#[test]
fn damage_in_the_log_is_told_by_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let places = sound(dir.path());
    flip(&dir.path().join("commitlog/00000000000000000000"), places[3] as usize + 5);
    let (code, told, _) = run(&[], dir.path());
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&format!("DAMAGED  bytes {} to {}", places[3], places[4])), "{told}");
}

#[test]
fn what_cannot_be_rebuilt_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    refused(&dir.path().join("missing"), "it does not exist");
    refused(dir.path(), "there is no commitlog in it");
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "not even a lock file");
    let root = dir.path().join("store");
    sound(&root);
    let store = open(&root);
    put(&store, "T", 0, "k", b"body");
    refused(&root, "is in use by another broker");
    store.close().unwrap();
    fs::rename(root.join("index"), dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), root.join("index")).unwrap();
    refused(&root, "index is no directory of the same file system");
    fs::create_dir(root.join("rebuild.done")).unwrap();
    fs::write(root.join("rebuild.done/photo"), "of others").unwrap();
    fs::remove_file(root.join("index")).unwrap();
    refused(&root, "rebuild.done was not made by a rebuild of this store: move it away");
}
