//! `verify` finds every flipped byte that a CRC, a structure or another file covers, and finds nothing beside a store
//! that is being written. Replay: `TANDEM_SEED`; length: `TANDEM_FLIPS`.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use common::{Random, open, put, seed, small};
use store::{
    RealDisk,
    inspect::{StoreView, Verified, ViewOptions, Watch, verify},
};

struct Patient;

impl Watch for Patient {
    fn progress(&mut self, _: u64, _: u64) {}
    fn pause(&mut self) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn check(root: &Path) -> Verified {
    let options = ViewOptions { max_hash_slots: Some(64), max_index: Some(40), ..ViewOptions::default() };
    let view = StoreView::open(Arc::new(RealDisk), root, options).unwrap();
    verify(&view, &mut Patient).unwrap()
}

fn told(found: &Verified) -> String {
    format!("{:?} {:?}", found.findings.list(), found.notes)
}

fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(content(&entry)),
            false => drop(found.insert(entry.clone(), fs::read(&entry).unwrap())),
        }
    }
    found
}

/// Where one byte may be flipped: file, first byte, bytes.
type Place = (PathBuf, u64, u64);

/// Fields of a record: total size, magic, body CRC, queue id; queue offset and physical offset; body length and body.
/// Hosts, flags, times and properties are covered by nothing without the CRC property.
fn covered(root: &Path, physical: i64, body: u64) -> [Place; 3] {
    let base = physical - physical % 4096;
    let (file, at) = (root.join(format!("commitlog/{base:020}")), (physical - base) as u64);
    [(file.clone(), at, 16), (file.clone(), at + 20, 16), (file, at + 84, 4 + body)]
}

#[test]
fn every_flipped_byte_that_is_covered_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = open(&small(root));
    let mut places = Vec::new();
    for number in 0..60 {
        let properties = format!("KEYS\u{1}k{number}\u{2}TAGS\u{1}t\u{2}");
        let body = vec![b'b'; 20 + number];
        let (_, physical, _) = put(&store, "T", number as i32 % 3, properties.as_bytes(), &body);
        places.extend(covered(root, physical, body.len() as u64));
    }
    store.close().unwrap();
    let before = content(root);
    for (path, bytes) in &before {
        let path_text = path.to_string_lossy().into_owned();
        if path_text.contains("consumequeue") {
            let units = bytes.chunks(20).take_while(|unit| unit[8..12] != [0; 4]).count() as u64;
            places.extend((0..units).map(|unit| (path.clone(), unit * 20, 20)));
        } else if path_text.contains("/index/") {
            let next = u64::from(u32::from_be_bytes(bytes[36..40].try_into().unwrap()));
            places.extend((1..next).map(|entry| (path.clone(), 40 + 64 * 4 + entry * 20, 20)));
        }
    }
    let sound = check(root);
    assert!(sound.findings.is_empty() && sound.records == 60 && sound.entries >= 60, "{}", told(&sound));
    let mut random = Random(seed());
    let rounds = std::env::var("TANDEM_FLIPS").ok().and_then(|count| count.parse().ok()).unwrap_or(600);
    for round in 0..rounds {
        let (path, from, length) = &places[random.below(places.len() as u64) as usize];
        let at = (from + random.below(*length)) as usize;
        let mut bytes = before[path].clone();
        bytes[at] ^= 1 << random.below(8);
        fs::write(path, &bytes).unwrap();
        let found = check(root);
        assert!(
            !found.findings.is_empty(),
            "round {round}: byte {at} of {}, in the {length} from {from}, is not found; {}",
            path.display(),
            told(&found)
        );
        assert_eq!(fs::read(path).unwrap(), bytes, "verify changed {}", path.display());
        fs::write(path, &before[path]).unwrap();
    }
    assert!(check(root).findings.is_empty());
    assert!(content(root) == before, "the directory is as it was, byte for byte");
}

#[test]
fn nothing_is_found_beside_a_store_that_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = open(&small(root));
    put(&store, "T", 0, b"KEYS\x01k\x02", b"first");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !over.load(SeqCst) {
                put(&store, "T", number % 3, format!("KEYS\u{1}k{number}\u{2}").as_bytes(), b"a body");
                number += 1;
            }
        });
        let looks: Vec<_> = (0..10).map(|_| check(root)).collect();
        over.store(true, SeqCst);
        for found in looks {
            assert!(found.running && found.findings.is_empty(), "{}", told(&found));
        }
    });
    store.close().unwrap();
    let found = check(root);
    assert!(found.findings.is_empty() && !found.running, "{}", told(&found));
}
