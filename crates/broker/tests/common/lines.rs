//! The log lines of a test's process: printed, and kept for tests that look at them.

use std::{
    io::Write,
    sync::{Arc, Mutex, OnceLock},
};

/// What was logged in this process.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        print!("{}", String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// The log of this process, which is printed as well.
    pub fn of_process() -> Self {
        static LINES: OnceLock<Lines> = OnceLock::new();
        let lines = LINES.get_or_init(|| {
            let lines = Lines::default();
            let writer = lines.clone();
            let _ = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_target(false)
                .with_writer(move || writer.clone())
                .try_init();
            lines
        });
        lines.clone()
    }

    /// Lines that hold all of `parts`.
    pub fn with(&self, parts: &[&str]) -> usize {
        let bytes = self.0.lock().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}
