//! SYNC_FLUSH: one sync for all that came meanwhile, one at depth 1; what producers hear when a sync takes too long.

mod common;

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use common::{Node, api, drain, header, send, topic, until};
use store::{DirEntry, Disk, File, LockGuard, RealDisk, Usage};
use wire::code::response;

#[derive(Default)]
struct Gate {
    closed: bool,
    syncs: usize,
}

/// The real disk, whose syncs of the commit log are counted and can be held back.
#[derive(Clone, Default)]
struct GatedDisk(Arc<(Mutex<Gate>, Condvar)>);

struct GatedFile {
    file: Arc<dyn File>,
    gate: Option<GatedDisk>,
}

impl GatedDisk {
    fn close(&self, closed: bool) {
        self.0.0.lock().unwrap().closed = closed;
        self.0.1.notify_all();
    }

    fn syncs(&self) -> usize {
        self.0.0.lock().unwrap().syncs
    }
}

impl File for GatedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(GatedDisk(shared)) = &self.gate {
            let mut gate = shared.1.wait_while(shared.0.lock().unwrap(), |gate| gate.closed).unwrap();
            gate.syncs += 1;
        }
        self.file.sync()
    }
}

impl Disk for GatedDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let gate = path.to_str().unwrap().contains("/commitlog/").then(|| self.clone());
        Ok(Arc::new(GatedFile { file: RealDisk.open(path, create)?, gate }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        RealDisk.modified_ms(path)
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        RealDisk.usage(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        RealDisk.lock(path)
    }
}

/// A broker with SYNC_FLUSH whose views are flushed seldom, so that only sends sync the log.
async fn start(dir: &tempfile::TempDir, limit_ms: &str) -> (GatedDisk, Node) {
    let disk = GatedDisk::default();
    let keys = [
        ("flushDiskType", "SYNC_FLUSH"),
        ("syncFlushTimeout", limit_ms),
        ("flushIntervalConsumeQueue", "3600000"),
        ("autoCreateTopicEnable", "true"),
    ];
    let node = Node::start_on(Arc::new(disk.clone()), dir, "m", &keys).await;
    topic(&api(), &node.addr, "T", 4).await;
    (disk, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sync_at_depth_1_and_one_for_all_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut node) = start(&dir, "20000").await;
    let (api, addr) = (api(), node.addr.clone());
    send(&api, &addr, "T", 0, &[], b"first").await;
    let before = disk.syncs();
    for _ in 0..5 {
        assert!(send(&api, &addr, "T", 0, &[], b"alone").await.is_complete());
    }
    assert_eq!(disk.syncs() - before, 5);
    disk.close(true);
    let before = (disk.syncs(), node.broker().store.max_phys());
    let sends: Vec<_> = (0..200)
        .map(|number: i32| {
            let (api, addr) = (api.clone(), addr.clone());
            tokio::spawn(async move { send(&api, &addr, "T", number % 4, &[], &[7; 1000]).await })
        })
        .collect();
    until("all are in the log", || async { node.broker().store.max_phys() >= before.1 + 200 * 1100 }).await;
    disk.close(false);
    for sent in sends {
        assert!(sent.await.unwrap().is_complete());
    }
    // The one that was held back, and one for all that came meanwhile.
    let syncs = disk.syncs() - before.0;
    assert!(syncs <= 3, "{syncs} syncs for 200 messages");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_takes_too_long_is_told_and_the_message_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut node) = start(&dir, "100").await;
    let (api, addr) = (api(), node.addr.clone());
    assert!(send(&api, &addr, "T", 0, &[], b"one").await.is_complete());
    disk.close(true);
    let late = send(&api, &addr, "T", 0, &[], b"two").await;
    assert_eq!((late.code, late.header.queue_offset), (response::FLUSH_DISK_TIMEOUT, 1));
    // Who does not wait hears nothing of it.
    let hasty = header("T", 0, &[("WAIT", "false")]);
    let unwaited = api.send(&addr, &hasty, b"three".to_vec(), Duration::from_secs(10));
    assert!(unwaited.await.unwrap().is_complete());
    // Nothing is readable before it is durable.
    assert_eq!(drain(&api, &addr, "T", 0, 0).await, [b"one"]);
    disk.close(false);
    assert!(send(&api, &addr, "T", 0, &[], b"four").await.is_complete());
    let want: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];
    until("all are readable", || async { drain(&api, &addr, "T", 0, 0).await == want }).await;
    node.stop().await;
}
