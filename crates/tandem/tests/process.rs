//! The real binary as an operator runs it: signals, kills, bad input on the command line.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(30);

fn tandem() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// A port whose neighbours are free too.
fn port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if port > 1030 && port < 65_000 && free(port - 2) && free(port) && free(port + 1) {
            return port;
        }
    }
}

/// A child that dies with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts it and waits for the line that says so.
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let running = Self(child);
        let ready = output.lines().map_while(Result::ok).any(|line| line.contains("boot success"));
        assert!(ready, "it ended before it was ready");
        running
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn ended(&mut self) -> bool {
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

fn broker(dir: &Path, port: u16) -> Command {
    let file = dir.join("broker.conf");
    let store = dir.join("store");
    let text = format!("brokerIP1=127.0.0.1\nlistenPort={port}\nstorePathRootDir={}\n", store.display());
    std::fs::write(&file, text).unwrap();
    let mut command = tandem();
    command.args(["broker", "-c"]).arg(file);
    command
}

fn up(dir: &Path) -> (Command, [u16; 3]) {
    let ports = [port(), port(), port()];
    let mut command = tandem();
    command.args(["up", "--data"]).arg(dir);
    command.args(["--namesrv-port", &ports[0].to_string()]);
    command.args(["--master-port", &ports[1].to_string(), "--slave-port", &ports[2].to_string()]);
    (command, ports)
}

fn refused(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "it started: {text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("tandem: "), "no clear line: {text}");
    last.to_owned()
}

#[test]
fn f45_closing_the_terminal_does_not_stop_the_parts() {
    let dir = tempfile::tempdir().unwrap();
    let at = port();
    let mut running = Running::start(broker(dir.path(), at));
    running.signal("HUP");
    running.signal("HUP");
    std::net::TcpStream::connect(("127.0.0.1", at)).expect("it still listens");
    assert!(running.0.try_wait().unwrap().is_none());
    running.signal("TERM");
    assert!(running.ended());
    assert!(!dir.path().join("store/abort").exists(), "a clean stop");
}

#[test]
fn f45_closing_the_terminal_of_up_stops_all_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let (command, _) = up(dir.path());
    let mut running = Running::start(command);
    assert!(dir.path().join("master/abort").exists());
    running.signal("HUP");
    assert!(running.ended());
    for role in ["master", "slave"] {
        assert!(!dir.path().join(role).join("abort").exists(), "{role} stopped cleanly");
    }
}

#[test]
fn a_store_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(broker(dir.path(), port()));
    let line = refused(broker(dir.path(), port()));
    assert!(line.contains("store"), "{line}");
    drop(running);
}

#[test]
fn a_port_in_use_an_unwritable_directory_and_a_bad_key_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (command, ports) = up(dir.path());
    let taken = TcpListener::bind(("127.0.0.1", ports[1])).unwrap();
    let line = refused(command);
    assert!(line.contains(&ports[1].to_string()), "{line}");
    drop(taken);
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (command, _) = up(&file);
    let line = refused(command);
    assert!(line.contains("file"), "{line}");
    let (mut command, _) = up(dir.path());
    command.args(["-D", "flushDiskType=SOMETIMES"]);
    let line = refused(command);
    assert!(line.contains("flushDiskType") && line.contains("SOMETIMES"), "{line}");
}
