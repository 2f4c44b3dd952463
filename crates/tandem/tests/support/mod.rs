//! The real binary as a child of the test.
#![allow(dead_code)]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

pub const LIMIT: Duration = Duration::from_secs(30);

pub fn tandem() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// A port whose neighbours are free too. Below those that the system gives to connections: one of them could take the port
/// of a broker between its end and its next start.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 16_000 + (std::process::id() % 800) as u16 * 20;
    loop {
        let port = base + NEXT.fetch_add(5, Ordering::Relaxed) + 2;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port - 2) && free(port) && free(port + 1) {
            return port;
        }
    }
}

/// The one line of a command that ended because it could not start. Others may be logged around it.
pub fn refused(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&stderr);
    assert!(!status.success(), "it started: {text}");
    let mut lines = text.lines().filter(|line| line.starts_with("tandem: "));
    let line = lines.next().unwrap_or_else(|| panic!("no clear line: {text}"));
    assert_eq!(lines.next(), None, "one line");
    line.to_owned()
}

/// A child that dies with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts it and waits for the line that says so.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let running = Self(child);
        let ready = output.lines().map_while(Result::ok).any(|line| line.contains("boot success"));
        assert!(ready, "it ended before it was ready");
        running
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn ended(&mut self) -> bool {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            if self.0.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

/// `tandem up` with its data there; ports of name server, master and slave.
pub fn up(data: &Path) -> (Command, [u16; 3]) {
    let ports = [port(), port(), port()];
    let mut command = tandem();
    command.args(["up", "--data"]).arg(data);
    command.args(["--namesrv-port", &ports[0].to_string()]);
    command.args(["--master-port", &ports[1].to_string(), "--slave-port", &ports[2].to_string()]);
    (command, ports)
}

pub fn broker(dir: &Path, port: u16) -> Command {
    broker_with(dir, port, "")
}

/// A broker with further lines in its file. How full others have made the machine's disk does not matter to it.
pub fn broker_with(dir: &Path, port: u16, lines: &str) -> Command {
    let file = dir.join("broker.conf");
    let store = dir.join("store");
    let space = "cleanFileForciblyEnable=false\ndiskReservedBytes=0\ndiskSpaceWarningLevelRatio=100";
    let text =
        format!("brokerIP1=127.0.0.1\nlistenPort={port}\nstorePathRootDir={}\n{space}\n{lines}", store.display());
    std::fs::write(&file, text).unwrap();
    let mut command = tandem();
    command.args(["broker", "-c"]).arg(file);
    command
}
