//! The real binary as an operator runs it: signals, kills, bad input on the command line.

mod support;

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use client::BrokerApi;
use support::{LIMIT, Running, broker, broker_with, port, refused, tandem, up};
use wire::{
    Command as Request,
    code::{request, response},
    header::SendMessageRequestHeaderV2,
    topic::AUTO_CREATE,
};

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

/// The slave, which took the role too, registered as a second master of the group.
#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_up_is_told_is_that_of_the_master() {
    let dir = tempfile::tempdir().unwrap();
    let (mut command, ports) = up(dir.path());
    command.args(["-D", "brokerRole=ASYNC_MASTER", "-D", "brokerId=0"]);
    let _running = Running::start(command);
    let api = BrokerApi::new(Arc::new(remoting::Client::new(remoting::ClientConfig::default(), None)));
    for (port, role) in [(ports[1], "ASYNC_MASTER"), (ports[2], "SLAVE")] {
        let request = Request::request(request::GET_BROKER_CONFIG);
        let answer = api.call(&format!("127.0.0.1:{port}"), request, LIMIT).await.unwrap();
        let config = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(config.contains(&format!("brokerRole={role}\n")), "port {port}: {config}");
    }
    let (mut command, _) = up(dir.path());
    command.args(["-D", "brokerRole=SLAVE"]);
    assert!(refused(command).contains("brokerRole"));
}

#[test]
fn f37_a_stop_is_no_reason_to_warn_of_missing_copies() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let (mut command, _) = up(&dir.path().join("data"));
    command.stderr(std::fs::File::create(&log).unwrap());
    let mut running = Running::start(command);
    running.signal("TERM");
    assert!(running.ended());
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("replication to "), "the slave was connected: {text}");
    assert!(!text.contains("cannot be met"), "{text}");
}

#[test]
fn as_many_descriptors_as_are_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.conf");
    drop(broker(dir.path(), port()));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 128; exec \"$0\" broker -c \"$1\"", env!("CARGO_BIN_EXE_tandem")]).arg(&file);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let running = Running::start(command);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.0.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
}

/// Something that makes a start wait: reading it takes until somebody writes.
fn obstacle(root: &Path) -> std::path::PathBuf {
    let path = root.join("config/topics.json");
    std::fs::create_dir_all(root.join("config")).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Waits until the listener is there.
fn listens(port: u16) {
    let end = Instant::now() + LIMIT;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "nobody listens");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a name server has the route of a topic.
#[tokio::main(flavor = "current_thread")]
async fn until_known(namesrv: u16, topic: &str) {
    let api = BrokerApi::new(Arc::new(remoting::Client::new(remoting::ClientConfig::default(), None)));
    let end = Instant::now() + LIMIT;
    while api.query_route(&format!("127.0.0.1:{namesrv}"), topic).await.is_err() {
        assert!(Instant::now() < end, "nobody registers");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn f18_a_start_that_takes_long_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let at = port();
    let path = obstacle(&dir.path().join("store"));
    let mut running = Running(broker(dir.path(), at).spawn().unwrap());
    listens(at);
    running.signal("TERM");
    assert!(running.ended(), "it goes on starting");
    assert!(running.0.wait().unwrap().success());
    std::fs::remove_file(&path).unwrap();
    drop(Running::start(broker(dir.path(), at)));
}

#[test]
fn f18_up_can_be_stopped_while_one_of_its_brokers_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (mut command, ports) = up(dir.path());
    obstacle(&dir.path().join("slave"));
    let mut running = Running(command.spawn().unwrap());
    listens(ports[2]);
    // The master has come so far that it has something to stop.
    until_known(ports[0], "broker-a");
    running.signal("TERM");
    assert!(running.ended(), "it goes on starting");
    assert!(!dir.path().join("master/abort").exists(), "the master stopped cleanly");
}

/// Waits until a broker has taken a message.
#[tokio::main(flavor = "current_thread")]
async fn until_taken(at: u16) {
    let api = BrokerApi::new(Arc::new(remoting::Client::new(remoting::ClientConfig::default(), None)));
    let end = Instant::now() + LIMIT;
    while !send(&api, at, "").await.is_ok_and(|answer| answer.code == response::SUCCESS) {
        assert!(Instant::now() < end, "it takes nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A broker serves before a name server has answered it, for up to 3 s.
#[test]
fn f18_a_broker_that_registers_stops_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let at = port();
    // Nobody accepts, so nobody answers.
    let namesrv = TcpListener::bind("127.0.0.1:0").unwrap();
    let lines = format!("namesrvAddr={}", namesrv.local_addr().unwrap());
    let mut running = Running(broker_with(dir.path(), at, &lines).spawn().unwrap());
    until_taken(at);
    running.signal("TERM");
    assert!(running.ended(), "it goes on registering");
    assert!(running.0.wait().unwrap().success());
    assert!(!dir.path().join("store/abort").exists(), "a clean stop");
}

/// Sends one after the other until the broker is gone; answers how many were taken, and what was answered to the others.
#[tokio::main(flavor = "current_thread")]
async fn send_until_gone(at: u16, sent: &AtomicU32) -> BTreeSet<i32> {
    let api = BrokerApi::new(Arc::new(remoting::Client::new(remoting::ClientConfig::default(), None)));
    let mut others = BTreeSet::new();
    loop {
        match send(&api, at, "").await.map(|answer| answer.code) {
            Ok(response::SUCCESS) => sent.fetch_add(1, Ordering::Relaxed),
            Ok(code) => u32::from(others.insert(code)),
            Err(error) => match error.code() {
                Some(code) => u32::from(others.insert(code)),
                None => return others,
            },
        };
    }
}

/// The slave is there for the last sends: none is answered FLUSH_SLAVE_TIMEOUT.
#[test]
fn up_stops_its_master_first() {
    let dir = tempfile::tempdir().unwrap();
    let (command, ports) = up(dir.path());
    let mut running = Running::start(command);
    let sent = AtomicU32::new(0);
    let others = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_until_gone(ports[1], &sent));
        let end = Instant::now() + LIMIT;
        while sent.load(Ordering::Relaxed) < 100 {
            assert!(Instant::now() < end, "nothing is taken");
            std::thread::yield_now();
        }
        running.signal("INT");
        sender.join().unwrap()
    });
    assert!(running.ended());
    assert!(!others.contains(&response::FLUSH_SLAVE_TIMEOUT), "{others:?}");
}

/// Whoever started it hears that the stop was no clean one, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_at_the_stop_is_told_by_the_exit_code() {
    let (dir, at) = (tempfile::tempdir().unwrap(), port());
    let mut running = Running::start(broker_with(dir.path(), at, "flushIntervalConsumeQueue=3600000"));
    let api = BrokerApi::new(Arc::new(remoting::Client::new(remoting::ClientConfig::default(), None)));
    send(&api, at, "").await.unwrap();
    // Where its queues should go there is a file.
    let queues = dir.path().join("store/consumequeue");
    std::fs::rename(&queues, dir.path().join("elsewhere")).unwrap();
    std::fs::write(&queues, "").unwrap();
    running.signal("TERM");
    assert!(running.ended());
    assert_eq!(running.0.wait().unwrap().code(), Some(::broker::STORE_FAILED.into()));
    assert!(dir.path().join("store/abort").exists(), "the next start recovers it");
}

#[test]
fn a_store_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(broker(dir.path(), port()));
    let line = refused(broker(dir.path(), port()));
    assert!(line.contains("store"), "{line}");
    drop(running);
}

/// Sends one message to a new topic.
async fn send(api: &BrokerApi, at: u16, properties: &str) -> Result<client::Sent, client::ClientError> {
    let header = SendMessageRequestHeaderV2 {
        producer_group: "P".into(),
        topic: "T".into(),
        default_topic: AUTO_CREATE.into(),
        default_topic_queue_nums: 1,
        properties: Some(properties.into()),
        ..SendMessageRequestHeaderV2::default()
    };
    api.send(&format!("127.0.0.1:{at}"), &header, b"body".to_vec(), LIMIT).await
}

#[tokio::main(flavor = "current_thread")]
async fn send_with_key(at: u16) {
    let api = BrokerApi::new(Arc::new(remoting::Client::new(remoting::ClientConfig::default(), None)));
    send(&api, at, "KEYS\x01k\x02").await.unwrap();
}

/// A Java broker knows the order of index files by their names, and names its own by local time.
#[test]
fn index_files_are_named_by_local_time() {
    let mut pairs = vec![["Here+13", "Here-13"]];
    if Path::new("/usr/share/zoneinfo/Pacific/Pago_Pago").exists() {
        pairs.push(["Pacific/Pago_Pago", "Pacific/Kiritimati"]);
    }
    for pair in pairs {
        // 26 hours, or 25, lie between them: another day at each time of the day.
        let names = pair.map(name_in_zone);
        let days = names.clone().map(|name| name[..8].to_owned());
        assert!(names[0] < names[1] && days[0] < days[1], "{pair:?}: {names:?}");
    }
}

/// Name of the first index file of a broker in a time zone.
fn name_in_zone(zone: &str) -> String {
    let (dir, at) = (tempfile::tempdir().unwrap(), port());
    let mut command = broker(dir.path(), at);
    command.env("TZ", zone);
    let mut running = Running::start(command);
    send_with_key(at);
    running.signal("TERM");
    assert!(running.ended());
    let mut files = std::fs::read_dir(dir.path().join("store/index")).unwrap();
    files.next().unwrap().unwrap().file_name().into_string().unwrap()
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

#[test]
fn tls_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        (vec!["tls.server.mode=enforced"], ["tls.server.mode", "enforced"]),
        (vec!["tls.test.mode.enable=false"], ["tls.server.certPath", "not set"]),
        (vec!["tls.config.file=/nowhere/tls.properties"], ["tls.config.file", "/nowhere/tls.properties"]),
        (
            vec!["tls.test.mode.enable=false", "tls.server.keyPath=/k", "tls.server.certPath=/nowhere/c.pem"],
            ["tls.server.certPath", "/nowhere/c.pem"],
        ),
    ];
    for (keys, expected) in cases {
        let set = |mut command: Command| -> Command {
            command.args(keys.iter().flat_map(|key| ["-D", key]));
            command
        };
        let mut namesrv = tandem();
        namesrv.arg("namesrv");
        for command in [set(broker(dir.path(), port())), set(up(dir.path()).0), set(namesrv)] {
            let line = refused(command);
            assert!(expected.iter().all(|part| line.contains(part)), "{line}");
        }
    }
}
