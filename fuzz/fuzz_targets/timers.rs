//! Beside a sound log: a timer log, a wheel and a check point of arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
mod memory;
#[allow(dead_code)]
mod timed;

fuzz_target!(|data: &[u8]| {
    let disk = timed::sound();
    disk.put_all(data, &timed::FILES);
    timed::check(&disk);
});
