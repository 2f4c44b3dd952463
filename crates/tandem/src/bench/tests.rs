//! The whole bench against a small broker that keeps counts instead of messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use clap::Parser;
use remoting::{Connection, Requests, Server, ServerConfig, Service};
use tokio::sync::watch;
use wire::{
    Command,
    body::TopicConfig,
    code::{request, response},
    header::{
        CreateTopicRequestHeader, GetMaxOffsetResponseHeader, GetTopicConfigRequestHeader, PullMessageRequestHeader,
        PullMessageResponseHeader, QueryMessageRequestHeader, SendMessageResponseHeader, SendRequest,
    },
    json, property,
    record_encode::{NewRecord, encode},
};

use super::{
    BenchArgs,
    args::Work,
    round::{Outcome, Round},
    target::Target,
    topics,
};

/// Stored in each queue for pulling.
const STORED: i64 = 1000;

#[derive(Default)]
struct SmallBroker {
    /// Messages by topic and queue.
    sends: Mutex<BTreeMap<(String, i32), u64>>,
    /// Every send waits for the end of a stall of this long, once, after the first thousand.
    stall: Duration,
    sent: AtomicU64,
    topics: Mutex<BTreeSet<String>>,
    refuse: bool,
    /// Pulls bring real records, with a key each.
    keyed: bool,
    /// Keys of queries.
    asked: Mutex<BTreeSet<String>>,
}

impl Service for SmallBroker {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        requests.for_each(|request| conn.reply(self.answer(&request)));
    }
}

impl SmallBroker {
    fn answer(&self, request: &Command) -> Command {
        match request.code {
            request::GET_TOPIC_CONFIG => self.topic(request),
            request::UPDATE_AND_CREATE_TOPIC => {
                let header: CreateTopicRequestHeader = request.header();
                self.topics.lock().unwrap().insert(header.topic);
                request.ok()
            }
            request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE => self.send(request),
            request::GET_MIN_OFFSET => request.ok().with_header(&GetMaxOffsetResponseHeader { offset: 0 }),
            request::GET_MAX_OFFSET => request.ok().with_header(&GetMaxOffsetResponseHeader { offset: STORED }),
            request::PULL_MESSAGE if self.keyed => pull_keyed(request),
            request::PULL_MESSAGE => pull(request),
            request::QUERY_MESSAGE => self.query(request),
            _ => request.error(response::REQUEST_CODE_NOT_SUPPORTED, "not here"),
        }
    }

    fn topic(&self, request: &Command) -> Command {
        let header: GetTopicConfigRequestHeader = request.header();
        if !self.topics.lock().unwrap().contains(&header.topic) {
            return request.error(response::TOPIC_NOT_EXIST, "no such topic");
        }
        let topic = TopicConfig { topic_name: header.topic, read_queue_nums: 3, ..TopicConfig::default() };
        request.ok_body(json::encode(&topic))
    }

    fn query(&self, request: &Command) -> Command {
        let header: QueryMessageRequestHeader = request.header();
        self.asked.lock().unwrap().insert(header.key);
        request.ok_body(vec![0; 100])
    }

    fn send(&self, request: &Command) -> Command {
        let header = SendRequest::of(request);
        if self.refuse {
            return request.error(response::SYSTEM_BUSY, "too busy");
        }
        let sent = self.sent.fetch_add(1, Ordering::SeqCst);
        if sent == 1000 {
            std::thread::sleep(self.stall);
        }
        let queue = (header.topic.to_string(), header.queue_id.unwrap());
        *self.sends.lock().unwrap().entry(queue).or_default() += 1;
        request.ok().with_header(&SendMessageResponseHeader::default())
    }
}

/// One record, whose key tells its place.
fn pull_keyed(request: &Command) -> Command {
    let header: PullMessageRequestHeader = request.header();
    let offset = header.queue_offset.unwrap_or_default();
    let mut properties = Vec::new();
    let key = format!("key{}-{offset}", header.queue_id.unwrap_or_default());
    property::push(&mut properties, property::KEYS, &key);
    let host = ([127, 0, 0, 1], 1).into();
    let record = NewRecord {
        topic: "T",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        properties: &properties,
        body: b"body",
    };
    let mut bytes = Vec::new();
    encode(&record, &mut bytes).unwrap();
    let answer = PullMessageResponseHeader { next_begin_offset: offset + 1, ..Default::default() };
    request.ok_body(bytes).with_header(&answer)
}

fn pull(request: &Command) -> Command {
    let header: PullMessageRequestHeader = request.header();
    let offset = header.queue_offset.unwrap_or_default();
    let count = (STORED - offset).clamp(0, header.max_msg_nums.into());
    let answer = PullMessageResponseHeader { next_begin_offset: offset + count, ..Default::default() };
    if count == 0 {
        return request.error(response::PULL_NOT_FOUND, "").with_header(&answer);
    }
    let record = [&100u32.to_be_bytes()[..], &[0; 96]].concat();
    request.ok_body(record.repeat(count as usize)).with_header(&answer)
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: BenchArgs,
}

fn work(line: &str) -> Work {
    let words = ["bench"].into_iter().chain(line.split_ascii_whitespace());
    let Ok(work) = Line::parse_from(words).args.mode.work() else { panic!("{line} measures no messages") };
    work.check().unwrap();
    work
}

/// One that has the topic that is asked for without `--topic`.
fn with_topic() -> SmallBroker {
    SmallBroker { topics: Mutex::new(["TandemBench".to_owned()].into()), ..SmallBroker::default() }
}

async fn bench(broker: SmallBroker, line: &str) -> (Outcome, Arc<SmallBroker>) {
    let broker = Arc::new(broker);
    (round(&broker, line, watch::channel(false).1).await.unwrap(), broker)
}

async fn round(broker: &Arc<SmallBroker>, line: &str, stop: watch::Receiver<bool>) -> Result<Outcome> {
    let server = Server::bind("127.0.0.1:0", ServerConfig::default(), broker.clone()).await.unwrap();
    let addr = server.local_addr().to_string();
    let work = work(&format!("{line} --broker {addr}"));
    let target = Target::find(work.common(), Some(addr), Some(std::process::id()), &work).await.unwrap();
    Round::new(&work, &target, stop).run().await
}

/// Stops the round once so many messages came.
async fn stopped_after(messages: u64, line: &str) -> Result<Outcome> {
    let broker = Arc::new(SmallBroker::default());
    let (stop, stopped) = watch::channel(false);
    let stopping = async {
        while broker.sent.load(Ordering::SeqCst) < messages {
            tokio::task::yield_now().await;
        }
        stop.send_replace(true);
    };
    tokio::join!(round(&broker, line, stopped), stopping).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_measured_before_a_stop_counts() {
    let outcome = stopped_after(500, "produce --duration 100000 --warmup 0 --size 10 --depth 8").await.unwrap();
    assert!(outcome.counts.messages > 400, "{}", outcome.counts.messages);
    let error = stopped_after(500, "produce --duration 1 --warmup 100000 --size 10").await.err().unwrap();
    assert!(error.to_string().contains("nothing was measured"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produces_a_number_of_messages() {
    for encoding in ["json", "binary"] {
        let line = format!("produce --messages 5000 --warmup 0 --size 10 --depth 8 --queues 5 --encoding {encoding}");
        let (outcome, broker) = bench(SmallBroker::default(), &line).await;
        assert_eq!(outcome.counts.messages, 5000);
        assert_eq!(outcome.counts.latency.len(), outcome.counts.messages);
        assert!(outcome.counts.refusals.is_empty());
        assert_eq!((broker.topics.lock().unwrap().len(), broker.sends.lock().unwrap().len()), (1, 5));
        assert!(outcome.cpu_seconds.is_some() && outcome.process.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_topics_get_as_many_messages_each() {
    let broker = SmallBroker { topics: Mutex::new(["T-1".to_owned()].into()), ..SmallBroker::default() };
    let line = "produce --topic T --topics 3 --queues 2 --messages 5000 --warmup 0 --size 10 --depth 8 --connections 1";
    let (outcome, broker) = bench(broker, line).await;
    assert_eq!(outcome.counts.messages, 5000);
    let names = ["T-0", "T-1", "T-2"].map(str::to_owned);
    assert_eq!(*broker.topics.lock().unwrap(), BTreeSet::from(names));
    // The one that was there keeps its queues.
    let written = TopicConfig::default().write_queue_nums;
    let queues = [("T-0", 2), ("T-1", written), ("T-2", 2)].map(|(name, queues)| (0..queues).map(move |id| (name, id)));
    let sends = broker.sends.lock().unwrap();
    let taken: Vec<(&str, i32)> = sends.keys().map(|(name, id)| (&name[..], *id)).collect();
    assert_eq!(taken, queues.into_iter().flatten().collect::<Vec<_>>());
    let (least, most) = (sends.values().min().unwrap(), sends.values().max().unwrap());
    assert!(most - least <= 1, "{sends:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_up_does_not_count() {
    let line = "produce --messages 1000 --warmup 0.3 --size 10 --depth 8";
    let (outcome, broker) = bench(SmallBroker::default(), line).await;
    // What was in flight when measuring began counts too.
    assert!(outcome.counts.messages >= 1000);
    assert!(outcome.counts.messages < broker.sent.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_count_their_messages() {
    let line = "produce --messages 4000 --warmup 0 --size 10 --depth 2 --batch 40";
    let (outcome, broker) = bench(SmallBroker::default(), line).await;
    assert_eq!(outcome.counts.messages, 40 * broker.sent.load(Ordering::SeqCst));
    assert!((4000..4000 + 4 * 40).contains(&outcome.counts.messages));
}

/// An open loop must show a stall in all the requests that should have been made meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_shows_in_an_open_loop() {
    let stall = Duration::from_millis(500);
    let line = "produce --rate 2000 --duration 3 --warmup 0 --size 10 --depth 8 --connections 1";
    let (outcome, _) = bench(SmallBroker { stall, ..SmallBroker::default() }, line).await;
    let counts = &outcome.counts;
    // All that were due in the stall are among them, however slow the machine is.
    assert!(counts.messages > 2000, "{}", counts.messages);
    // 1000 of 6000 requests were due in the half second; their waits are spread evenly over it.
    let quantile = |q: f64| Duration::from_nanos(counts.latency.value_at_quantile(q));
    assert!(quantile(0.90) > stall / 10, "{:?}", quantile(0.90));
    assert!(quantile(0.99) > stall / 2, "{:?}", quantile(0.99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_counted_by_code() {
    let line = "produce --duration 0.3 --warmup 0 --size 10 --depth 2";
    let (outcome, _) = bench(SmallBroker { refuse: true, ..SmallBroker::default() }, line).await;
    let (count, remark) = &outcome.counts.refusals[&response::SYSTEM_BUSY];
    assert!(*count > 0 && remark == "too busy");
    assert_eq!(outcome.counts.messages, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumes_more_than_is_stored() {
    let broker = with_topic();
    let line = "consume --messages 20000 --warmup 0 --connections 2";
    let (outcome, _) = bench(broker, line).await;
    let messages = outcome.counts.messages;
    // A pull at the end of a queue brings fewer than it may.
    assert!((18_000..=20_100).contains(&messages), "{messages}");
    assert_eq!(outcome.counts.bytes, messages * 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumes_each_message_once() {
    let broker = with_topic();
    let (outcome, _) = bench(broker, "consume --once --connections 2").await;
    assert_eq!(outcome.counts.messages, 3 * STORED as u64);
}

/// A mistyped name must not become a topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_sending_makes_a_topic() {
    let broker = Arc::new(SmallBroker::default());
    let server = Server::bind("127.0.0.1:0", ServerConfig::default(), broker.clone()).await.unwrap();
    let addr = server.local_addr().to_string();
    for line in ["consume --once", "query --keys 20"] {
        let work = work(&format!("{line} --broker {addr}"));
        let error = Target::find(work.common(), Some(addr.clone()), None, &work).await.err().unwrap();
        assert!(error.to_string().contains("produce to it first"), "{error}");
    }
    assert!(broker.topics.lock().unwrap().is_empty());
}

/// The keys that are asked for are those of stored messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_keys_that_are_there() {
    for encoding in ["json", "binary"] {
        let broker = SmallBroker { keyed: true, ..with_topic() };
        let line = format!("query --keys 20 --messages 500 --warmup 0 --connections 2 --depth 3 --encoding {encoding}");
        let (outcome, broker) = bench(broker, &line).await;
        assert_eq!(outcome.counts.messages, 500);
        assert!(outcome.counts.refusals.is_empty(), "{:?}", outcome.counts.refusals);
        let asked = broker.asked.lock().unwrap();
        assert!((15..=20).contains(&asked.len()), "{asked:?}");
        assert!(asked.iter().all(|key| key.starts_with("key")), "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_targets_in_alternating_rounds() {
    let brokers = [Arc::new(SmallBroker::default()), Arc::new(SmallBroker::default())];
    let mut addrs = Vec::new();
    let mut servers = Vec::new();
    for broker in &brokers {
        servers.push(Server::bind("127.0.0.1:0", ServerConfig::default(), broker.clone()).await.unwrap());
        addrs.push(servers.last().map(|server| server.local_addr().to_string()).unwrap());
    }
    let line = format!(
        "bench produce --broker {} --compare {} --rounds 2 --messages 500 --warmup 0 --json",
        addrs[0], addrs[1]
    );
    super::run(Line::parse_from(line.split(' ')).args).await.unwrap();
    assert_eq!(brokers.map(|broker| broker.sent.load(Ordering::SeqCst)), [1000, 1000]);
}

#[test]
fn rounds_alternate() {
    assert_eq!([super::order(2, 0), super::order(2, 1), super::order(1, 1)], [vec![0, 1], vec![1, 0], vec![0]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_and_must_have_their_routes() {
    for (topics, namesrv) in [(3, false), (1, true)] {
        let broker = Arc::new(SmallBroker::default());
        let server = Server::bind("127.0.0.1:0", ServerConfig::default(), broker.clone()).await.unwrap();
        let addr = server.local_addr().to_string();
        let mut words = vec!["bench", "topics", "--topics", "3", "--broker", &addr];
        words.extend(namesrv.then_some(["--namesrv", &addr]).into_iter().flatten());
        let Err(args) = Line::parse_from(words).args.mode.work() else { panic!("that makes topics") };
        let made = topics::run(&args, watch::channel(false).1).await;
        assert_eq!(broker.topics.lock().unwrap().len(), topics, "the first without a route ends it");
        assert_eq!(made.is_err(), namesrv);
        made.err()
            .into_iter()
            .for_each(|error| assert!(error.to_string().contains("GET_ROUTEINFO_BY_TOPIC"), "{error}"));
    }
}
