//! Writes the seeds of the store's targets below `corpus/`: a sound store, one that was killed, its single files, and those of a
//! timer.
//! `cargo run --bin seeds` in this directory.

use std::{fs, path::Path};

// What the instrumentation of the others calls.
use libfuzzer_sys as _;

#[allow(dead_code)]
mod memory;
#[allow(dead_code)]
mod sound;
#[allow(dead_code)]
mod timed;

fn write(target: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new("corpus").join(target);
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join(name), bytes).expect("a file");
}

fn main() {
    let stopped = sound::input();
    write("recover", "stopped", &stopped);
    let mut killed = stopped.clone();
    killed.extend_from_slice(&[11, 1, 0, b'1']);
    write("recover", "killed", &killed);
    let disk = memory::MemoryDisk::from_input(&stopped);
    let log = disk.content(memory::FILES[0].0);
    write("record", "segment", &log);
    let size = u32::from_be_bytes([log[0], log[1], log[2], log[3]]) as usize;
    write("record", "first", &log[..size]);
    for (which, number) in [3usize, 4, 6, 7, 8, 9, 10].into_iter().enumerate() {
        let bytes = disk.content(memory::FILES[number].0);
        for flags in [0x40, 0xC0] {
            let input = [&[which as u8 | flags], &bytes[..]].concat();
            write("views", &format!("{which}-{flags:x}"), &input);
        }
    }
    let timed = timed::sound();
    write("timers", "all", &timed.describe(&timed::FILES));
    for file in 0..timed::FILES.len() {
        // Numbers count from the first: the others are empty.
        let mut others = timed::FILES.map(|(_, size)| ("none", size));
        others[file] = timed::FILES[file];
        write("timers", &file.to_string(), &timed.describe(&others));
    }
}
