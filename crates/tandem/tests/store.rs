//! `tandem store` as an operator runs it: exit codes, the one line when it cannot run, and a directory that stays as it
//! was.

mod stores;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use stores::{content, flip, open, put, sound, tandem, text};
use wire::json::Json;

fn refused(dir: &Path, part: &str) {
    for json in [&["verify"][..], &["verify", "--json"], &["inspect"]] {
        let out = tandem(json, dir);
        let line = text(&out.stderr);
        assert_eq!((out.status.code(), line.lines().count()), (Some(2), 1), "{line}");
        assert!(line.starts_with("tandem: ") && line.contains(part) && out.stdout.is_empty(), "{line}");
    }
}

#[test]
fn verify_tells_sound_from_damaged_by_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let places = sound(dir.path());
    let before = content(dir.path());
    let out = tandem(&["verify"], dir.path());
    let told = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{told}");
    assert!(told.contains("40 records") && told.contains("2, 40 units") && told.contains("result   sound"), "{told}");
    assert_eq!(text(&out.stderr), "", "a short run tells no progress");
    assert_eq!(content(dir.path()), before, "the directory is as it was");

    flip(&dir.path().join("commitlog/00000000000000000000"), places[3] as usize + 110);
    let out = tandem(&["verify"], dir.path());
    let told = text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{told}");
    let place = format!("the record at {} (topic T, queue 1, offset 1)", places[3]);
    assert!(told.contains("result   DAMAGED") && told.contains(&place), "{told}");
}

#[test]
fn verify_for_scripts() {
    let dir = tempfile::tempdir().unwrap();
    sound(dir.path());
    let run = || {
        let out = tandem(&["verify", "--json", "--quiet"], dir.path());
        (out.status.code(), Json::parse(&out.stdout).unwrap())
    };
    let (code, json) = run();
    let number = |json: &Json, name: &str| json.get(name).and_then(Json::to_i64);
    assert_eq!((code, json.get("sound").and_then(Json::to_bool)), (Some(0), Some(true)), "{json:?}");
    assert_eq!((number(&json, "records"), number(&json, "units")), (Some(40), Some(40)), "{json:?}");
    assert_eq!(json.get("state").and_then(Json::as_str), Some("clean"));

    flip(&dir.path().join("consumequeue/T/1/00000000000000000000"), 5);
    let (code, json) = run();
    assert_eq!((code, json.get("sound").and_then(Json::to_bool)), (Some(1), Some(false)), "{json:?}");
    let Some(Json::Arr(list)) = json.get("findings") else { panic!("{json:?}") };
    let about = |json: &Json| json.get("text").and_then(Json::as_str).is_some_and(|text| text.contains("queue T 1"));
    assert!(!list.is_empty() && list.iter().all(about), "{json:?}");
}

#[test]
fn verify_beside_its_broker() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "T", 0, "k", b"body");
    let out = tandem(&["verify", "--json"], dir.path());
    let json = Json::parse(&out.stdout).unwrap();
    assert_eq!((out.status.code(), json.get("state").and_then(Json::as_str)), (Some(0), Some("running")), "{json:?}");
    let notes = format!("{:?}", json.get("notes"));
    assert!(notes.contains("does not tell its sizes yet"), "{notes}");
    store.flush_queues().unwrap();
    store.persist_checkpoint().unwrap();
    // With the sizes the entries are compared that the checkpoint proves.
    let out = tandem(&["verify", "--json", "--max-hash-slots", "64", "--max-index", "40"], dir.path());
    let json = Json::parse(&out.stdout).unwrap();
    assert_eq!((out.status.code(), json.get("entries").and_then(Json::to_i64)), (Some(0), Some(1)), "{json:?}");
    put(&store, "T", 0, "k", b"the store goes on");
    store.close().unwrap();
}

#[test]
fn what_cannot_be_looked_at_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    refused(&dir.path().join("missing"), "it does not exist");
    refused(dir.path(), "there is no commitlog in it");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    refused(&file, "it is a file");
    let rocks = dir.path().join("rocks");
    std::fs::create_dir_all(rocks.join("consumequeue")).unwrap();
    std::fs::write(rocks.join("consumequeue/CURRENT"), "MANIFEST-000001").unwrap();
    refused(&rocks, "storeType=defaultRocksDB");
    assert_eq!(tandem(&["verify", "--no-such-flag"], dir.path()).status.code(), Some(2));
    let namesrv = dir.path().join("namesrv");
    std::fs::create_dir(&namesrv).unwrap();
    std::fs::write(namesrv.join("kvConfig.json"), "{}").unwrap();
    refused(&namesrv, "there is no commitlog in it");
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir_all(elsewhere.join("consumequeue/T/0")).unwrap();
    std::fs::write(elsewhere.join("consumequeue/T/0/00000000000000000000"), [0; 20]).unwrap();
    refused(&elsewhere, "--commitlog");
}

/// What no broker can have is refused before any file is looked at.
#[test]
fn sizes_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    sound(dir.path());
    let cases = [
        ["--segment-size", "0", "--max-hash-slots", "64", "--max-index", "40"],
        ["--segment-size", "2147483648", "--max-hash-slots", "64", "--max-index", "40"],
        ["--segment-size", "4096", "--max-hash-slots", "0", "--max-index", "40"],
        ["--segment-size", "4096", "--max-hash-slots", "4000000000", "--max-index", "40"],
        ["--segment-size", "4096", "--max-hash-slots", "64", "--max-index", "0"],
        ["--segment-size", "4096", "--max-hash-slots", "64", "--max-index", "4000000000"],
    ];
    for sizes in cases {
        for command in [&["verify"][..], &["inspect"], &["cat", "--key", "k", "--topic", "T"]] {
            let out = tandem(&[command, &sizes].concat(), dir.path());
            let told = text(&out.stderr);
            assert_eq!(out.status.code(), Some(2), "{command:?} {sizes:?}: {told}");
            assert!(told.contains(" is not in ") && out.stdout.is_empty(), "{command:?} {sizes:?}: {told}");
        }
    }
}

/// `rocksdbCQDoubleWriteEnable`: a database lies among the queue files, which are whole.
#[test]
fn a_copy_of_the_queues_in_rocksdb_is_named_and_not_looked_at() {
    for place in ["consumequeue", "consumequeue_rocksdb"] {
        let dir = tempfile::tempdir().unwrap();
        sound(dir.path());
        std::fs::create_dir_all(dir.path().join(place)).unwrap();
        for (name, bytes) in [("CURRENT", "MANIFEST-000001\n"), ("000004.sst", "data"), ("LOG", "")] {
            std::fs::write(dir.path().join(place).join(name), bytes).unwrap();
        }
        let before = content(dir.path());
        for (command, well) in [("verify", "result   sound"), ("inspect", "the log goes from 0 to")] {
            let out = tandem(&[command], dir.path());
            let told = text(&out.stdout);
            assert_eq!(out.status.code(), Some(0), "{told}{}", text(&out.stderr));
            let notes: Vec<_> = told.lines().filter(|line| line.contains("rocksdbCQDoubleWriteEnable")).collect();
            assert!(notes.len() == 1 && notes[0].starts_with("note") && told.contains(well), "{told}");
            let json = Json::parse(&tandem(&[command, "--json"], dir.path()).stdout).unwrap();
            assert!(format!("{:?}", json.get("notes")).contains("rocksdbCQDoubleWriteEnable"), "{json:?}");
        }
        let out = tandem(&["rebuild"], dir.path());
        let line = text(&out.stderr);
        assert!(out.status.code() == Some(2) && line.contains("move the database away"), "{line}");
        assert_eq!(content(dir.path()), before, "the directory is as it was");
    }
}

/// A segment that opens and fails at each read.
#[test]
fn what_cannot_be_read_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let (root, twin) = (dir.path().join("a"), dir.path().join("b"));
    sound(&root);
    sound(&twin);
    let segment = root.join("commitlog/00000000000000000000");
    std::fs::remove_file(&segment).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", &segment).unwrap();
    let twin = twin.to_str().unwrap().to_owned();
    for args in [&["verify"][..], &["cat"], &["rebuild"], &["diff", &twin]] {
        let out = tandem(args, &root);
        let (line, code) = (text(&out.stderr), out.status.code());
        assert!(code == Some(2) && line.lines().count() == 1, "{args:?}: {code:?} {line}{}", text(&out.stdout));
        assert!(line.contains("00000000000000000000"), "{args:?}: {line}");
    }
}

#[test]
fn inspect_shows_what_is_there_and_what_a_start_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let places = sound(dir.path());
    let run = || {
        let before = content(dir.path());
        let out = tandem(&["inspect", "--json"], dir.path());
        assert_eq!((out.status.code(), content(dir.path())), (Some(0), before), "{}", text(&out.stderr));
        Json::parse(&out.stdout).unwrap()
    };
    let member = |json: &Json, name: &str| json.get(name).cloned().unwrap_or_else(|| panic!("{name}: {json:?}"));
    let json = run();
    let Json::Arr(queues) = member(&json, "queues") else { panic!("{json:?}") };
    let ranges: Vec<_> = queues.iter().map(|queue| (member(queue, "min"), member(queue, "max"))).collect();
    assert_eq!(ranges, [(0.into(), 20.into()), (0.into(), 20.into())]);
    assert_eq!(member(&member(&json, "nextStart"), "queues"), Json::Arr(Vec::new()));

    // Killed, and the last record torn: the start drops it.
    std::fs::write(dir.path().join("abort"), "").unwrap();
    let last = *places.last().unwrap();
    let base = last - last % 4096;
    flip(&dir.path().join(format!("commitlog/{base:020}")), (last - base) as usize + 110);
    let json = run();
    assert_eq!((member(&json, "abort"), member(&json, "running")), (true.into(), false.into()));
    let next = member(&json, "nextStart");
    assert_eq!(member(&next, "end").to_i64(), Some(last), "{next:?}");
    let told = text(&tandem(&["inspect"], dir.path()).stdout);
    assert!(told.contains("T 1: 0 to 20, then 0 to 19") && told.contains("abort file"), "{told}");
}

#[test]
fn cat_prints_what_was_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let places = sound(dir.path());
    let run = |args: &[&str]| -> Vec<Json> {
        let out = tandem(&[&["cat"], args].concat(), dir.path());
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout).lines().map(|line| Json::parse(line.as_bytes()).unwrap()).collect()
    };
    let physical = |args: &[&str]| -> Vec<i64> {
        run(args).iter().map(|json| json.get("physicalOffset").and_then(Json::to_i64).unwrap()).collect()
    };
    assert_eq!(physical(&[]), places);
    assert_eq!(physical(&["--topic", "U"]), [0i64; 0]);
    assert_eq!(physical(&["--topic", "T", "--queue", "1", "--offset", "17"]), [places[35], places[37], places[39]]);
    assert_eq!(physical(&["--topic", "T", "--queue", "0", "--offset", "3", "--count", "1"]), [places[6]]);
    assert_eq!(physical(&["--key", "k4"]), [places[4]]);
    assert_eq!(physical(&["--key", "k4", "--scan", "--topic", "T"]), [places[4]]);
    assert!(physical(&["--key", "k4", "--topic", "U"]).is_empty());
    let id = run(&["--key", "k4"])[0].get("offsetMsgId").and_then(Json::as_str).unwrap().to_owned();
    assert_eq!(physical(&["--id", &id]), [places[4]]);
    assert_eq!(physical(&["--id", "k5"]), [places[5]], "an id that names no place is a key");
    let other_host = id.replacen("0A", "0B", 1);
    for none in ["k99", &other_host] {
        let out = tandem(&["cat", "--id", none], dir.path());
        assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
        assert!(text(&out.stderr).contains("no message has the id"), "{}", text(&out.stderr));
    }
    assert_eq!(physical(&["--physical", &places[21].to_string()]), [places[21]]);
    assert!(physical(&["--physical", &places[21].to_string(), "--count", "0"]).is_empty());
    assert_eq!(physical(&["--from", "1700000000000", "--to", "1700000000000"]).len(), 40);
    assert!(physical(&["--from", "1700000000001"]).is_empty() && physical(&["--to", "1699999999999"]).is_empty());
    let one = &run(&["--key", "k4"])[0];
    let body = one.get("body").and_then(Json::as_str).unwrap();
    assert_eq!((body, one.get("queueId").and_then(Json::to_i64)), (format!("body {:080}", 4).as_str(), Some(0)));
    let out = tandem(&["cat", "--physical", "1"], dir.path());
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0), "{}", text(&out.stderr));

    // Without the index the log is read, and that is said.
    std::fs::rename(dir.path().join("index"), dir.path().join("away")).unwrap();
    let out = tandem(&["cat", "--key", "k4"], dir.path());
    assert_eq!((out.status.code(), text(&out.stdout).lines().count()), (Some(0), 1));
    assert_eq!(text(&out.stderr), "tandem: there is no index; the log was read instead\n");

    // A damaged record is told and never printed.
    flip(&dir.path().join("commitlog/00000000000000000000"), places[3] as usize + 110);
    let out = tandem(&["cat"], dir.path());
    let told = format!("bytes {} to {} of the log are passed over", places[3], places[4]);
    assert!(text(&out.stderr).contains(&told), "{}", text(&out.stderr));
    assert_eq!((out.status.code(), text(&out.stdout).lines().count()), (Some(1), 39));
}

#[test]
fn cat_of_bytes_and_into_a_closed_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "T", 0, "k", &[0xFF, 0xFE, 0xFB]);
    for _ in 0..2000 {
        put(&store, "T", 0, "k", &[b'x'; 100]);
    }
    store.close().unwrap();
    let out = tandem(&["cat", "--count", "1"], dir.path());
    assert!(text(&out.stdout).contains(r#""bodyBase64":"//77""#), "{}", text(&out.stdout));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.args(["store", "cat"]).arg(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), text(&out.stderr).as_str()), (Some(0), ""));
}
