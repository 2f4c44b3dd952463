//! Requests that lack a number, or carry one that cannot be read: Java answers each with code 1, and nothing is stored,
//! committed or read under a number that nobody gave. And what else a request may say that has to be refused,
//! or asks for that is too much for one answer.

mod common;

use std::{
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process,
    sync::mpsc::{self, Sender},
};

use client::BrokerApi;
use common::{LIMIT, Node, api, drain, header, send, topic, until};
use wire::{
    Command,
    code::{request, response},
    header::SendMessageRequestHeaderV2,
    property,
    record::{Check, check},
};

/// A request with these fields.
fn of(code: i32, fields: &[(&str, &str)]) -> Command {
    let mut command = Command::request(code);
    fields.iter().for_each(|(name, value)| command.ext.push(name, value));
    command
}

/// The same request without a field, with an empty one, and with some that are no whole numbers of its size.
fn broken<'a>(whole: &'a Command, field: &'a str) -> impl Iterator<Item = Command> + 'a {
    let values = [None, Some(""), Some("abc"), Some("1.5"), Some(" 1 "), Some("99999999999999999999")];
    values.into_iter().map(move |value| {
        let mut command = whole.clone();
        command.ext.remove(field);
        if let Some(value) = value {
            command.ext.push(field, value);
        }
        command
    })
}

async fn refused(api: &BrokerApi, addr: &str, whole: &Command, fields: &[&str]) {
    for field in fields {
        for command in broken(whole, field) {
            let value = command.ext.get(field).map(str::to_owned);
            let answer = api.ask(addr, command, LIMIT).await.unwrap();
            let name = request::name(whole.code);
            let remark = answer.remark.unwrap_or_default();
            assert_eq!(answer.code, response::SYSTEM_ERROR, "{name} with {field} {value:?}: {remark}");
            assert!(remark.contains(field), "{name} with {field} {value:?}: {remark}");
        }
    }
    let answer = api.ask(addr, whole.clone(), LIMIT).await.unwrap();
    assert_ne!(
        answer.code,
        response::SYSTEM_ERROR,
        "{} as it should be: {:?}",
        request::name(whole.code),
        answer.remark
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_without_its_numbers_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let api = api();
    topic(&api, &node.addr, "T", 2).await;
    let end = node.broker().store.max_phys();
    let short = Command::request_with(request::SEND_MESSAGE_V2, &header("T", 0, &[])).with_body("x".as_bytes());
    for field in ["e", "f", "g", "h"] {
        for command in broken(&short, field) {
            let answer = api.ask(&node.addr, command, LIMIT).await.unwrap();
            assert_eq!(answer.code, response::SYSTEM_ERROR, "{field}");
            assert_eq!(answer.ext.get("TRACE_ON"), Some("true"), "Java producers need fields in each answer");
        }
    }
    let names = [("topic", "T"), ("producerGroup", "P"), ("queueId", "0"), ("sysFlag", "0"), ("bornTimestamp", "1")];
    for code in [request::SEND_MESSAGE, request::SEND_REPLY_MESSAGE] {
        let mut long = of(code, &names).with_body("x".as_bytes());
        long.ext.push("flag", "0");
        for field in ["queueId", "sysFlag", "bornTimestamp", "flag"] {
            for command in broken(&long, field) {
                let answer = api.ask(&node.addr, command, LIMIT).await.unwrap();
                let remark = answer.remark.unwrap_or_default();
                assert!(answer.code == response::SYSTEM_ERROR && remark.contains(field), "{field}: {remark}");
            }
        }
    }
    assert_eq!(node.broker().store.max_phys(), end);
    send(&api, &node.addr, "T", 0, &[], b"good").await;
    assert_eq!(drain(&api, &node.addr, "T", 0, 0).await, [b"good"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_and_queries_without_their_numbers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 2).await;
    let sent = send(&api, &addr, "T", 0, &[("KEYS", "k")], b"x").await;
    assert_eq!(sent.header.queue_offset, 0);
    let queue = [("topic", "T"), ("queueId", "0")];
    for code in [request::GET_MAX_OFFSET, request::GET_MIN_OFFSET, request::GET_EARLIEST_MSG_STORETIME] {
        refused(&api, &addr, &of(code, &queue), &["queueId"]).await;
    }
    let search = of(request::SEARCH_OFFSET_BY_TIMESTAMP, &[queue[0], queue[1], ("timestamp", "0")]);
    refused(&api, &addr, &search, &["queueId", "timestamp"]).await;
    let progress = of(request::QUERY_CONSUMER_OFFSET, &[queue[0], queue[1], ("consumerGroup", "G")]);
    refused(&api, &addr, &progress, &["queueId"]).await;
    let key =
        [("topic", "T"), ("key", "k"), ("maxNum", "8"), ("beginTimestamp", "0"), ("endTimestamp", "4000000000000")];
    let query = of(request::QUERY_MESSAGE, &key);
    refused(&api, &addr, &query, &["maxNum", "beginTimestamp", "endTimestamp"]).await;
    refused(&api, &addr, &of(request::VIEW_MESSAGE_BY_ID, &[("offset", "0")]), &["offset"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_nobody_named_is_not_sent_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[], b"first of the log").await;
    let end = node.broker().store.max_phys();
    let back = of(request::CONSUMER_SEND_MSG_BACK, &[("offset", "0"), ("group", "G"), ("delayLevel", "3")]);
    for field in ["offset", "delayLevel"] {
        for command in broken(&back, field) {
            let answer = api.ask(&addr, command, LIMIT).await.unwrap();
            let remark = answer.remark.unwrap_or_default();
            assert!(answer.code == response::SYSTEM_ERROR && remark.contains(field), "{field}: {remark}");
        }
    }
    assert_eq!(node.broker().store.max_phys(), end);
    refused(&api, &addr, &back, &["offset"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_commits_no_readable_offset_leaves_the_progress() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    for body in ["a", "b", "c"] {
        send(&api, &addr, "T", 0, &[], body.as_bytes()).await;
    }
    let fields = [("consumerGroup", "G"), ("topic", "T"), ("queueId", "0"), ("queueOffset", "0"), ("maxMsgNums", "1")];
    let mut pull = of(request::PULL_MESSAGE, &fields);
    pull.ext.push("sysFlag", "5");
    pull.ext.push("commitOffset", "2");
    assert_eq!(api.ask(&addr, pull.clone(), LIMIT).await.unwrap().code, response::SUCCESS);
    for command in broken(&pull, "commitOffset") {
        api.ask(&addr, command, LIMIT).await.unwrap();
        assert_eq!(node.broker().offsets.get("T", "G", 0), Some(2));
    }
    node.stop().await;
}

/// A half message is refused; one that a client before 4.6.1 sends back by itself only looks like one.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_transaction_that_is_over_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    let properties = [("TRAN_MSG", "true"), ("DELAY", "3")];
    let back = |times| SendMessageRequestHeaderV2 {
        reconsume_times: Some(times),
        max_reconsume_times: Some(16),
        ..header("%RETRY%G", 0, &properties)
    };
    let refused = api.send(&addr, &back(0), "x", LIMIT).await.unwrap_err();
    assert_eq!(refused.code(), Some(response::NO_PERMISSION), "{refused}");
    assert!(api.send(&addr, &back(1), "x", LIMIT).await.unwrap().is_complete());
    assert_eq!(api.max_offset(&addr, "SCHEDULE_TOPIC_XXXX", 2).await.unwrap(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_the_system_are_created_only_where_the_configuration_says_so() {
    for (enabled, code) in [("true", response::SUCCESS), ("false", response::SUBSCRIPTION_GROUP_NOT_EXIST)] {
        let dir = tempfile::tempdir().unwrap();
        let keys = [("autoCreateSubscriptionGroup", "false"), ("enableCreateSysGroup", enabled)];
        let mut node = Node::start(&dir, "m", &keys).await;
        let group = of(request::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", "CID_RMQ_SYS_X")]);
        assert_eq!(api().ask(&node.addr, group, LIMIT).await.unwrap().code, code);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_wants_no_answer_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    let fields = [("consumerGroup", "G"), ("topic", "T"), ("queueId", "0"), ("queueOffset", "0"), ("maxMsgNums", "1")];
    let mut pull = of(request::PULL_MESSAGE, &fields);
    pull.ext.push("sysFlag", "6");
    pull.ext.push("suspendTimeoutMillis", "600000");
    api.tell(&addr, pull).await.unwrap();
    api.max_offset(&addr, "T", 0).await.unwrap();
    assert!(node.broker().holds.is_empty(), "nobody waits for it, and nothing bounds how many there are");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_that_cannot_be_kept_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    let end = node.broker().store.max_phys();
    for level in ["x", "9999999999", "1.5"] {
        let command = Command::request_with(request::SEND_MESSAGE_V2, &header("T", 0, &[(property::DELAY, level)]));
        let answer = api.ask(&addr, command.with_body("x".as_bytes()), LIMIT).await.unwrap();
        assert_eq!(answer.code, response::MESSAGE_ILLEGAL, "{level}: {:?}", answer.remark);
        assert!(answer.remark.unwrap_or_default().contains(level));
    }
    // The messages of a plain batch have no delay of their own, and that of the whole is not kept either.
    let mut batch = header("T", 0, &[(property::DELAY, "3")]);
    batch.batch = Some(true);
    let mut body = vec![0, 0, 0, 23];
    body.extend([0; 12]);
    body.extend([0, 0, 0, 1, b'x', 0, 0]);
    let command = Command::request_with(request::SEND_BATCH_MESSAGE, &batch).with_body(body);
    let answer = api.ask(&addr, command, LIMIT).await.unwrap();
    assert_eq!(answer.code, response::MESSAGE_ILLEGAL, "{:?}", answer.remark);
    assert_eq!(node.broker().store.max_phys(), end);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_pull_are_rejected_where_the_configuration_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[("rejectPullConsumerEnable", "true")]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[], b"x").await;
    let pull = async |group: &str| {
        let queue = [("topic", "T"), ("queueId", "0"), ("queueOffset", "0"), ("maxMsgNums", "1"), ("sysFlag", "4")];
        let mut pull = of(request::PULL_MESSAGE, &queue);
        pull.ext.push("consumerGroup", group);
        api.ask(&addr, pull, LIMIT).await.unwrap().code
    };
    let beat = async |group: &str, kind: &str| {
        let consumer = format!(
            r#"{{"groupName":"{group}","consumeType":"{kind}","subscriptionDataSet":[{{"topic":"T","subString":"*"}}]}}"#
        );
        let body = format!(r#"{{"clientID":"c","consumerDataSet":[{consumer}],"producerDataSet":[]}}"#);
        api.call(&addr, Command::request(request::HEART_BEAT).with_body(body), LIMIT).await.unwrap();
    };
    assert_eq!(pull("nobody").await, response::SUBSCRIPTION_NOT_EXIST, "no consumer at all");
    beat("puller", "CONSUME_ACTIVELY").await;
    assert_eq!(pull("puller").await, response::SUBSCRIPTION_NOT_EXIST, "a consumer that pulls");
    beat("listener", "CONSUME_PASSIVELY").await;
    assert_eq!(pull("listener").await, response::SUCCESS);
    assert_eq!(pull("TOOLS_CONSUMER").await, response::SUCCESS, "mqadmin reads messages");
    node.stop().await;
}

/// A file that is written when somebody reads it; in vain after a while, or when the test ends before.
struct SlowFile {
    path: PathBuf,
    read: Sender<()>,
}

impl SlowFile {
    fn make(path: PathBuf) -> Self {
        assert!(process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (read, is_read) = mpsc::channel();
        let again = path.clone();
        std::thread::spawn(move || {
            const O_NONBLOCK: i32 = 0o4000;
            if is_read.recv_timeout(LIMIT).is_err() {
                let _ = std::fs::OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(again);
            }
        });
        Self { path, read }
    }

    fn read(self) {
        std::fs::read(&self.path).unwrap();
        self.read.send(()).unwrap();
    }
}

/// The only worker would wait for the disk with whoever makes a group or a topic, and nobody would be served.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_makes_a_group_or_a_topic_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, other, addr) = (api(), api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    let config = node.root.join("config");
    let topics = SlowFile::make(config.join("topics.json.tmp"));
    let new = Command::request_with(request::SEND_MESSAGE_V2, &header("new", 0, &[])).with_body("x".as_bytes());
    other.tell(&addr, new).await.unwrap();
    until("the topic waits for the disk", || async { node.broker().topics.get("new").is_some() }).await;
    assert_eq!(api.max_offset(&addr, "T", 0).await.unwrap(), 0);
    topics.read();
    let groups = SlowFile::make(config.join("subscriptionGroup.json.tmp"));
    let beat =
        r#"{"clientID":"c","consumerDataSet":[{"groupName":"new","subscriptionDataSet":[]}],"producerDataSet":[]}"#;
    other.tell(&addr, Command::request(request::HEART_BEAT).with_body(beat)).await.unwrap();
    until("the group waits for the disk", || async { node.broker().groups.get("new").is_some() }).await;
    assert_eq!(api.max_offset(&addr, "T", 0).await.unwrap(), 0);
    groups.read();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_answered_with_the_newest_that_one_answer_can_carry() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[("mappedFileSizeCommitLog", "16777216")]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    for number in 0..24u8 {
        send(&api, &addr, "T", 0, &[("KEYS", "k")], &vec![number; 1 << 20]).await;
    }
    let key =
        [("topic", "T"), ("key", "k"), ("maxNum", "64"), ("beginTimestamp", "0"), ("endTimestamp", "4000000000000")];
    let answer = api.ask(&addr, of(request::QUERY_MESSAGE, &key), LIMIT).await.unwrap();
    assert_eq!(answer.code, response::SUCCESS, "{:?}", answer.remark);
    let (mut found, mut rest) = (Vec::new(), &answer.body[..]);
    while let Some(Check::Record(record)) = (!rest.is_empty()).then(|| check(rest, true)) {
        found.push(record.body()[0]);
        rest = &rest[record.size()..];
    }
    assert_eq!(found, (9..24).collect::<Vec<_>>());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_sends_later_says_when() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[("startAcceptSendRequestTimeStamp", "4102444800000")]).await;
    let answer = api().send(&node.addr, &header("T", 0, &[]), b"x".to_vec(), LIMIT).await;
    let (text, want) = (answer.unwrap_err().to_string(), "broker unable to service, until ");
    let date = text.split_once(want).unwrap_or_else(|| panic!("{text}")).1;
    // As Java prints it, in local time.
    assert!(
        (date.starts_with("2100-01-01 ") || date.starts_with("2099-12-31 ")) && date[16..].starts_with(":00,000"),
        "{date}"
    );
    node.stop().await;
}
