//! `tandem store diff` as an operator runs it: the exit codes of diff(1), and directories that stay as they were.

mod stores;

use std::path::{Path, PathBuf};

use stores::{content, flip, open, put, sound, tandem, text};
use wire::json::Json;

/// Two equal stores; the places of their messages.
fn twins(dir: &Path) -> (PathBuf, PathBuf, Vec<i64>) {
    let (a, b) = (dir.join("a"), dir.join("b"));
    let places = sound(&a);
    assert_eq!(sound(&b), places);
    (a, b, places)
}

fn diff(args: &[&str], a: &Path, b: &Path) -> (Option<i32>, String) {
    let out = tandem(&[&["diff"], args, &[a.to_str().unwrap()]].concat(), b);
    assert_eq!(text(&out.stderr), "");
    (out.status.code(), text(&out.stdout))
}

#[test]
fn equal_behind_and_different_by_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, places) = twins(dir.path());
    let before = content(dir.path());
    let (code, told) = diff(&[], &a, &b);
    assert!(code == Some(0) && told.contains("result   equal") && told.contains("2 queues, 40 units"), "{told}");
    assert_eq!(content(dir.path()), before, "the directories are as they were");

    flip(&b.join("commitlog/00000000000000000000"), places[3] as usize + 110);
    let (code, told) = diff(&[], &a, &b);
    assert!(code == Some(1) && told.contains("result   DIFFERENT"), "{told}");
    assert!(told.contains(&format!("byte {}", places[3] + 110)) && told.contains("b    DAMAGED record"), "{told}");
    flip(&b.join("commitlog/00000000000000000000"), places[3] as usize + 110);

    let store = open(&a);
    put(&store, "T", 0, "k", b"one more");
    let (code, told) = diff(&[], &a, &b);
    assert!(code == Some(0) && told.contains("(a broker has it)") && told.contains("its log ends at"), "{told}");
    store.close().unwrap();
    let (code, told) = diff(&[], &a, &b);
    assert!(code == Some(1) && told.contains("result   behind"), "{told}");
}

#[test]
fn for_scripts() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, places) = twins(dir.path());
    let run = || {
        let (code, told) = diff(&["--json", "--quiet"], &a, &b);
        (code, Json::parse(told.as_bytes()).unwrap())
    };
    let (code, json) = run();
    assert_eq!((code, json.get("verdict").and_then(Json::as_str)), (Some(0), Some("equal")));
    assert!(json.get("firstDivergentByte").unwrap().is_null());
    flip(&b.join("commitlog/00000000000000000000"), places[3] as usize + 110);
    let (code, json) = run();
    assert_eq!((code, json.get("verdict").and_then(Json::as_str)), (Some(1), Some("different")));
    assert_eq!(json.get("firstDivergentByte").and_then(Json::to_i64), Some(places[3] + 110));
    let Some(Json::Arr(log)) = json.get("log") else { panic!("{json:?}") };
    let a = log[0].get("a").unwrap();
    let number = |name| a.get(name).and_then(Json::to_i64);
    assert_eq!((number("from"), number("queueId"), number("queueOffset")), (Some(places[3]), Some(1), Some(1)));
}

#[test]
fn trouble_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let (a, _, _) = twins(dir.path());
    for (left, right) in [(&a, &dir.path().join("missing")), (&dir.path().join("missing"), &a)] {
        let out = tandem(&["diff", left.to_str().unwrap()], right);
        let line = text(&out.stderr);
        assert_eq!((out.status.code(), line.lines().count(), out.stdout.len()), (Some(2), 1, 0), "{line}");
        assert!(line.contains("missing is no store directory: it does not exist"), "{line}");
    }
}
