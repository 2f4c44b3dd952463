//! Edits of a store's files: the language of `cuts.jsonl`.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

pub fn segments(root: &Path) -> Vec<(i64, PathBuf, u64)> {
    let dir = std::fs::read_dir(root.join("commitlog")).unwrap();
    let mut found: Vec<_> = dir
        .map(|entry| {
            let entry = entry.unwrap();
            let base = entry.file_name().to_str().unwrap().parse().unwrap();
            (base, entry.path(), entry.metadata().unwrap().len())
        })
        .collect();
    found.sort();
    found
}

/// Sets `length` bytes at a physical offset to 0, over segments.
fn zero(root: &Path, from: i64, length: i64) {
    for (base, path, size) in segments(root) {
        let (begin, end) = (from.max(base), (from.saturating_add(length)).min(base + size as i64));
        if begin < end {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&vec![0; (end - begin) as usize], (begin - base) as u64).unwrap();
        }
    }
}

pub fn flip(root: &Path, at: i64) {
    for (base, path, size) in segments(root) {
        if (base..base + size as i64).contains(&at) {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, (at - base) as u64).unwrap();
            file.write_all_at(&[!byte[0]], (at - base) as u64).unwrap();
        }
    }
}

/// The edit language at the head of `Recover.java`.
pub fn apply(root: &Path, edit: &Value) {
    if let Some(from) = edit.get("zeroFrom") {
        zero(root, int(from), i64::MAX / 2);
    } else if let Some(from) = edit.get("dropFrom") {
        segments(root).iter().filter(|(base, ..)| *base >= int(from)).for_each(|(_, path, _)| {
            std::fs::remove_file(path).unwrap();
        });
        zero(root, int(from), i64::MAX / 2);
    } else if let Some(range) = edit.get("zero") {
        zero(root, int(&range[0]), int(&range[1]));
    } else if let Some(at) = edit.get("flip") {
        flip(root, int(at));
    } else {
        let path = root.join(edit["delete"].as_str().unwrap());
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
}
