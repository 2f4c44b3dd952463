//! The real binary on a real file system that is full, or read-only: F-38 and what stands beside it. Needs the right to mount; without
//! it these tests say so and prove nothing.

mod support;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use client::BrokerApi;
use support::{LIMIT, Running, broker_with, port, refused, up};
use tokio::time::Instant;
use wire::{
    body::KvTable,
    code::{request, response},
    header::SendMessageRequestHeaderV2,
    json,
    topic::AUTO_CREATE,
};

/// A file system in memory; other users of it are a file.
struct SmallFileSystem {
    root: tempfile::TempDir,
}

impl SmallFileSystem {
    /// `None` where mounting is not allowed.
    fn mount(mebibytes: u32) -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(root.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !mounted {
            println!("skipped: a file system of its own may not be mounted here");
            return None;
        }
        Some(Self { root })
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn others(&self) -> PathBuf {
        self.path().join("others")
    }

    /// Others use all but so much.
    fn leave(&self, bytes: u64) {
        let others = File::options().create(true).append(true).open(self.others()).unwrap();
        let mut writer = std::io::BufWriter::with_capacity(4096, others);
        let free = self.free();
        let zeros = std::io::Read::take(std::io::repeat(b'x'), free.saturating_sub(bytes));
        std::io::copy(&mut { zeros }, &mut writer).unwrap();
        assert!(self.free() <= bytes + 4096);
    }

    /// The others are gone.
    fn free_space(&self) {
        std::fs::remove_file(self.others()).unwrap();
    }

    fn remount(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.path()).status();
        assert!(done.unwrap().success());
    }

    fn free(&self) -> u64 {
        let output = Command::new("df").args(["-B1", "--output=avail"]).arg(self.path()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().last().unwrap().trim().parse().unwrap()
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn api() -> BrokerApi {
    let client = remoting::Client::new(remoting::ClientConfig::default(), None);
    BrokerApi::new(std::sync::Arc::new(client)).with_limit(Duration::from_secs(10))
}

/// Answer code and remark.
async fn send(api: &BrokerApi, addr: &str) -> (i32, String) {
    let header = SendMessageRequestHeaderV2 {
        producer_group: "P".into(),
        topic: "T".into(),
        default_topic: AUTO_CREATE.into(),
        default_topic_queue_nums: 1,
        queue_id: 0,
        ..SendMessageRequestHeaderV2::default()
    };
    match api.send(addr, &header, vec![b'x'; 1000], Duration::from_secs(10)).await {
        Ok(sent) => (sent.code, String::new()),
        Err(error) => (error.code().unwrap_or(-1), error.to_string()),
    }
}

/// Sends until one is refused; answers how many were stored, and the remark.
async fn fill(api: &BrokerApi, addr: &str) -> (usize, String) {
    for stored in 0..100_000 {
        match send(api, addr).await {
            (response::SUCCESS, _) => {}
            (response::SERVICE_NOT_AVAILABLE, remark) => return (stored, remark),
            other => panic!("{other:?}"),
        }
    }
    panic!("never full");
}

async fn resumes(api: &BrokerApi, addr: &str) {
    let end = Instant::now() + Duration::from_secs(15);
    while send(api, addr).await.0 != response::SUCCESS {
        assert!(Instant::now() < end, "sends do not resume");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// It is told once the disk stayed free for some looks at it.
async fn says(log: &Path, line: &str) {
    let end = Instant::now() + LIMIT;
    while lines_with(log, &[line]) == 0 {
        assert!(Instant::now() < end, "not said: {line}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(lines_with(log, &[line]), 1);
}

async fn readable(api: &BrokerApi, addr: &str) -> usize {
    let puller = client::Puller::new(api.clone(), addr, "G");
    let (mut offset, mut count) = (0, 0);
    loop {
        let pulled = puller.pull("T", 0, offset, 32).await.unwrap();
        count += pulled.records().count();
        if pulled.code != response::SUCCESS {
            return count;
        }
        offset = pulled.header.next_begin_offset;
    }
}

async fn no_space(api: &BrokerApi, addr: &str) -> Option<String> {
    let command = wire::Command::request(request::GET_BROKER_RUNTIME_INFO);
    let answer = api.call(addr, command, LIMIT).await.unwrap();
    let mut table: KvTable = json::decode(&answer.body).unwrap();
    table.table.remove("noSpace")
}

/// A broker with small files.
fn command(dir: &Path, at: u16, keys: &str) -> Command {
    let small = "mappedFileSizeCommitLog=1048576\nmappedFileSizeConsumeQueue=6000\nmaxHashSlotNum=500\n\
                 maxIndexNum=2000\n";
    broker_with(dir, at, &format!("{small}{keys}"))
}

/// The same, started, its log lines kept beside the file system.
fn broker(dir: &Path, log: &Path, at: u16, keys: &str) -> Running {
    let mut command = command(dir, at, keys);
    command.stderr(File::options().create(true).append(true).open(log).unwrap());
    Running::start(command)
}

fn lines_with(log: &Path, parts: &[&str]) -> usize {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

/// Full, space again, full, a clean stop, a start on the full disk, space again. `cause` is in every refusal.
async fn a_day_without_space(mebibytes: u32, keys: &str, left: u64, cause: &str) {
    let Some(disk) = SmallFileSystem::mount(mebibytes) else { return };
    let (logs, at) = (tempfile::tempdir().unwrap(), port());
    let (log, dir) = (logs.path().join("log"), disk.path().join("store").display().to_string());
    let (api, addr) = (api(), format!("127.0.0.1:{at}"));
    let mut running = broker(disk.path(), &log, at, keys);
    let mut stored = 0;
    for round in 1..=2 {
        resumes(&api, &addr).await;
        disk.leave(left);
        let (more, remark) = fill(&api, &addr).await;
        stored += more + 1;
        assert!(remark.contains(cause) && remark.contains(&dir), "{remark}");
        assert_eq!(readable(&api, &addr).await, stored, "reads go on, round {round}");
        assert!(no_space(&api, &addr).await.is_some_and(|text| remark.contains(&text)), "{remark}");
        assert_eq!(send(&api, &addr).await.1, remark, "the same cause each time");
        assert_eq!(lines_with(&log, &["ERROR", "no space: ", cause, &dir]), round, "one line a time");
        if round == 1 {
            disk.free_space();
            resumes(&api, &addr).await;
            stored += 1;
            assert_eq!(no_space(&api, &addr).await, None);
            says(&log, "there is space again").await;
        }
    }
    running.signal("TERM");
    assert!(running.ended());
    assert!(running.0.wait().unwrap().success());
    // Without a byte left the units that wait in memory find no room in their files: the next start builds them again.
    let lacks_units = lines_with(&log, &["closed without space for the queues"]) == 1;
    assert_eq!(disk.path().join("store/abort").exists(), lacks_units, "a clean stop");
    assert!(!lacks_units || left < 1 << 20, "there was space for them");

    let mut running = broker(disk.path(), &log, at, keys);
    assert_eq!(readable(&api, &addr).await, stored, "reads go on after a start on the full disk");
    let (more, _) = fill(&api, &addr).await;
    stored += more;
    running.0.kill().unwrap();
    assert!(running.ended());
    let running = broker(disk.path(), &log, at, keys);
    assert_eq!(readable(&api, &addr).await, stored, "and after a kill");
    disk.free_space();
    resumes(&api, &addr).await;
    assert_eq!(readable(&api, &addr).await, stored + 1);
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn f38_a_file_system_above_a_ratio() {
    // More than can be sent between two looks at the disk.
    let keys = "diskReservedBytes=-1\ndiskSpaceWarningLevelRatio=90\n";
    a_day_without_space(128, keys, 12 << 20, "% full, above diskSpaceWarningLevelRatio 90").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f38_a_file_system_without_a_byte_left() {
    a_day_without_space(24, "", 200 << 10, "has no space left").await;
}

#[test]
fn up_on_a_full_file_system_says_so_in_one_line() {
    for left in [0u64, 4, 8, 12] {
        let Some(disk) = SmallFileSystem::mount(2) else { return };
        disk.leave(left << 10);
        let data = disk.path().join("data");
        let line = refused(up(&data).0);
        assert!(line.contains(&data.display().to_string()), "{left} KiB: {line}");
        assert_eq!(line.matches("No space left on device").count(), 1, "{left} KiB: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_takes_messages_where_others_use_most_of_the_disk() {
    let Some(disk) = SmallFileSystem::mount(800) else { return };
    disk.leave(76 << 20);
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let (mut command, ports) = up(&disk.path().join("data"));
    command.stderr(File::create(&log).unwrap());
    let running = Running::start(command);
    assert_eq!(send(&api(), &format!("127.0.0.1:{}", ports[1])).await, (response::SUCCESS, String::new()));
    assert_eq!(lines_with(&log, &[" slave replication from "]), 1, "each line tells who speaks");
    drop(running);
}

/// Old segments may lie where nothing can be written any more; the log may not end there.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_log_on_a_read_only_file_system_is_served() {
    let Some(disk) = SmallFileSystem::mount(64) else { return };
    let (dir, at) = (tempfile::tempdir().unwrap(), port());
    let (log, addr, api) = (dir.path().join("log"), format!("127.0.0.1:{at}"), api());
    let parts = [dir.path().join("store/commitlog"), disk.path().join("log")];
    let (here, there) = (parts[0].display(), parts[1].display());
    let mut stored = 0;
    for part in [&parts[1], &parts[0]] {
        disk.remount("rw");
        let mut running = broker(dir.path(), &log, at, &format!("storePathCommitLog={here},{there}\n"));
        let segments = || std::fs::read_dir(part).map_or(0, Iterator::count);
        let before = segments();
        while segments() == before {
            assert_eq!(send(&api, &addr).await.0, response::SUCCESS);
            stored += 1;
        }
        running.signal("TERM");
        assert!(running.ended());
        disk.remount("ro");
        if part == &parts[1] {
            let line = refused(command(dir.path(), at, &read_only(&parts)));
            assert!(
                line.contains(&format!("{there}/")) && line.contains("the log ends in a directory of readOnly"),
                "{line}"
            );
        }
    }
    for _ in 0..2 {
        let mut running = broker(dir.path(), &log, at, &read_only(&parts));
        assert_eq!(readable(&api, &addr).await, stored);
        assert_eq!(send(&api, &addr).await.0, response::SUCCESS);
        stored += 1;
        running.0.kill().unwrap();
        assert!(running.ended());
    }
}

fn read_only(parts: &[PathBuf; 2]) -> String {
    format!("storePathCommitLog={}\nreadOnlyCommitLogStorePaths={}\n", parts[0].display(), parts[1].display())
}
