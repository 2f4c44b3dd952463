//! Timer files and messages that are damaged: what is whole comes at its time, nothing else comes, and no number that is read
//! is believed.

mod common;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Random, clock_at, files, small, timer_node::Node};
use store::{
    RealDisk, Store, StoreConfig, Timer, TimerConfig, TimerFacts,
    inspect::{StoreView, ViewOptions, inspect},
};

const NOW: i64 = 1_795_500_000_000;
const TIMER: TimerConfig =
    TimerConfig { segment_size: 1040, precision_ms: 1000, roll_window_slots: 60, slots: 256, in_memory: 4 };

fn config(root: &Path) -> StoreConfig {
    StoreConfig { segment_size: 1 << 18, ..small(root) }
}

fn master(root: &Path, now_ms: i64) -> Node {
    Node::master(&config(root), TIMER, now_ms)
}

/// As a copy it would have a CRC that fits what the device made of it.
#[test]
fn a_message_whose_body_is_damaged_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let node = master(dir.path(), NOW);
    let places: Vec<i64> = ["one", "two", "three"].iter().map(|body| node.send(NOW + 5_000, body)).collect();
    node.at(NOW);
    let record = node.store.read_record(places[1]).unwrap();
    let body = record.windows(3).position(|part| part == b"two").unwrap() as i64;
    common::damage::flip(dir.path(), places[1] + body);
    node.at(NOW + 6_000);
    assert_eq!(node.came(), ["one", "three"]);
    assert_eq!(node.timer.status(&node.store).set_aside, 1);
    assert_eq!(node.timer.status(&node.store).waiting, 0);
    node.close();
}

/// Numbers that a device may give for any other.
const STRANGE: [[u8; 8]; 5] =
    [[0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], [0xFF; 8], [0x80, 0, 0, 0, 0, 0, 0, 0], [0; 8], [0x55; 8]];

fn damage(random: &mut Random, root: &Path) -> String {
    let files: Vec<PathBuf> = fs::read_dir(root.join("timerlog")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut files = files;
    files.extend([root.join("timerwheel"), root.join("config/timercheck")].into_iter().filter(|file| file.exists()));
    files.sort();
    let file = &files[random.below(files.len() as u64) as usize];
    let size = fs::metadata(file).unwrap().len();
    let at = match random.below(2) {
        // Units and slots begin at multiples of 4.
        0 => random.below(size / 4) * 4,
        _ => random.below(size),
    };
    let value = STRANGE[random.below(STRANGE.len() as u64) as usize];
    let len = [1, 4, 8][random.below(3) as usize].min((size - at) as usize);
    let open = fs::OpenOptions::new().write(true).open(file).unwrap();
    open.write_all_at(&value[..len], at).unwrap();
    format!("{} at {at}: {:?}", file.display(), &value[..len])
}

/// What comes is what was sent, and whoever reads the files goes on.
#[test]
fn no_number_of_the_timers_files_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("sound");
    let node = master(&sound, NOW);
    for number in 0..60 {
        node.send(NOW + 5_000 + number * 700, &format!("{number}"));
    }
    node.at(NOW + 15_000);
    let before = node.came().len();
    assert!(before > 10);
    node.close();
    let mut random = Random(7);
    for round in 0..300 {
        let root = dir.path().join(format!("{round}"));
        files::copy(&sound, &root);
        let done: Vec<String> = (0..1 + random.below(3)).map(|_| damage(&mut random, &root)).collect();
        let clock = clock_at(NOW + 15_000);
        let store = Store::open(config(&root), Arc::new(RealDisk), clock.clone()).unwrap();
        if let Ok(timer) = Timer::open(&store, TIMER, clock.clone()) {
            timer.set_delivering(&store, true).unwrap();
            let node = Node { store, timer, clock, precision_ms: TIMER.precision_ms };
            for second in 15..60 {
                node.at(NOW + second * 1000);
            }
            let came = node.came();
            assert!(came.iter().all(|body| (0..60).contains(&body.parse::<i64>().unwrap())), "{done:?}");
            node.close();
        }
        fs::remove_dir_all(&root).unwrap();
    }
}

fn told(root: &Path) -> TimerFacts {
    let view = StoreView::open(Arc::new(RealDisk), root, ViewOptions::default()).unwrap();
    inspect(&view, clock_at(NOW)).unwrap().timer_state.unwrap()
}

/// `tandem store inspect`, on a wheel of Java's size whose round ends while messages wait.
#[test]
fn inspect_tells_what_waits_and_believes_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let round_ms = TimerConfig::default().slots * 1000;
    let end_ms = (NOW / round_ms + 1) * round_ms;
    let timer = TimerConfig { segment_size: 1040, ..TimerConfig::default() };
    let node = Node::master(&config(dir.path()), timer, end_ms - 10_000);
    for number in 0..20 {
        node.send(end_ms - 5_000 + number * 1000, &format!("{number}"));
    }
    node.at(end_ms - 10_000);
    node.close();
    let sound = told(dir.path());
    assert_eq!((sound.waiting, sound.due), (20, Some((end_ms - 6_000, end_ms + 13_000))));
    let wheel = dir.path().join("timerwheel");
    let places = [
        (wheel.clone(), 0..32),
        (wheel, (round_ms / 1000 - 6) as u64 * 32..(round_ms / 1000 - 5) as u64 * 32),
        (dir.path().join("timerlog/00000000000000000000"), 0..2 * 52),
        (dir.path().join("config/timercheck"), 0..32),
    ];
    for (path, range) in places {
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        for at in range.step_by(4) {
            let mut before = [0; 8];
            file.read_exact_at(&mut before, at).unwrap();
            for value in STRANGE {
                file.write_all_at(&value, at).unwrap();
                told(dir.path());
            }
            file.write_all_at(&before, at).unwrap();
        }
    }
    assert_eq!(told(dir.path()), sound);
}

/// A start does not look at old files of the timer log. What lies before a damaged unit in one is named, and comes once the
/// timer log is made again.
#[test]
fn a_chain_that_is_broken_is_told_and_can_be_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = master(dir.path(), NOW);
    let wanted: Vec<String> = (0..65).map(|number| format!("{number:02}")).collect();
    for (number, body) in wanted.iter().enumerate() {
        node.send(NOW + if number < 5 { 5_100 } else { 7_100 }, body);
    }
    node.at(NOW);
    node.close();
    // The delay of the third unit: it belongs to another second now.
    files::write(&dir.path().join("timerlog/00000000000000000000"), 2 * 52 + 24, &[0x55; 4]);
    let node = master(dir.path(), NOW);
    node.at(NOW + 10_000);
    assert_eq!(node.came(), wanted[3..]);
    assert_eq!(node.timer.status(&node.store).set_aside, 3);
    node.close();
    fs::remove_dir_all(dir.path().join("timerlog")).unwrap();
    let node = master(dir.path(), NOW + 10_000);
    node.at(NOW + 20_000);
    let mut came = node.came();
    came.sort();
    assert_eq!(came, wanted);
}

/// A slot that says it is of another second.
#[test]
fn a_wheel_with_a_slot_at_a_wrong_place_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = master(dir.path(), NOW);
    for number in 0..60 {
        node.send(NOW + 5_100 + number / 5 * 1000, &format!("{number:02}"));
    }
    node.at(NOW);
    node.close();
    let tick = NOW / 1000 + 7;
    files::write(&dir.path().join("timerwheel"), (tick % TIMER.slots) as u64 * 32, &(tick + 1).to_be_bytes());
    let node = master(dir.path(), NOW);
    // Longer than the wheel is.
    node.at(NOW + 400_000);
    assert_eq!(node.came().len(), 60);
    node.close();
}
