//! Beside a sound log: a consume queue, a batch consume queue, an index file or a checkpoint of arbitrary bytes, after a
//! clean stop or a kill. The first byte says which.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
mod memory;
#[allow(dead_code)]
mod sound;

/// Numbers of the files whose content is the input.
const VIEWS: [usize; 7] = [3, 4, 6, 7, 8, 9, 10];

fuzz_target!(|data: &[u8]| {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    let Some((which, content)) = data.split_first() else { return };
    let disk = memory::MemoryDisk::from_input(SOUND.get_or_init(sound::input));
    let (name, size) = memory::FILES[VIEWS[usize::from(which & 0x3F) % VIEWS.len()]];
    let mut bytes = content.to_vec();
    bytes.resize(if which & 0x40 != 0 { size } else { bytes.len().min(size) }, 0);
    disk.put(name, bytes);
    if which & memory::WHOLE != 0 {
        disk.put("abort", b"1".to_vec());
    }
    memory::check(&disk);
});
