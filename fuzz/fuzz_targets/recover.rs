//! A start on arbitrary files: log, queues of both kinds, index, checkpoint, in any state.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
mod memory;

fuzz_target!(|data: &[u8]| memory::check(&memory::MemoryDisk::from_input(data)));
