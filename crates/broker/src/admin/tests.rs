//! The family against a whole broker in a directory of its own: what upstream's tools do, and what nobody should.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use remoting::{Client, ClientConfig, Connection, Requests, Server, ServerConfig, Service};
use store::Batch;
use tempfile::TempDir;
use wire::{
    Command,
    body::{
        ConsumeStats, ConsumeStatsList, ConsumerConnection, CreateTopicListRequestBody, GetConsumerStatusBody,
        GroupForbidden, GroupList, KvTable, MessageQueue, QueryConsumeQueueResponseBody, QueryConsumeTimeSpanBody,
        ResetOffsetBody, TopicConfig, TopicConfigAndMappingSerializeWrapper, TopicStatsTable,
    },
    code::{request, response},
    header::QueryConsumeQueueRequestHeader,
    json::{self, FromJson},
    record_encode::NewRecord,
};

use super::{
    AT_ONCE, Answer, MAX_WAITING, Needs, OF_ONE, Refused, Work, blocking, body, config, not_supported, parse, work,
};
use crate::{
    config::BrokerConfig,
    consumer_offset,
    context::{Broker, now_ms},
    service::Front,
    start::Loading,
    starting::Starting,
    sync,
};

/// More than every code of upstream's brokers below the pop family.
const CODES: std::ops::Range<i32> = 0..6000;

fn broker_with(keys: &[(&str, &str)]) -> (TempDir, Arc<Broker>) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::default();
    let root = dir.path().join("store");
    let small = [("mappedFileSizeCommitLog", "1048576"), ("maxHashSlotNum", "100"), ("maxIndexNum", "400")];
    let names = [("brokerName", "b"), ("storePathRootDir", root.to_str().unwrap()), ("brokerIP1", "127.0.0.1")];
    for (key, value) in small.iter().chain(&names).chain(keys) {
        config.set(key, value).unwrap();
    }
    config.finish().unwrap();
    let file = dir.path().join("broker.conf");
    std::fs::write(&file, "# mine\nbrokerName=b\n").unwrap();
    let broker = Loading::begin(config, Some(file), Arc::new(store::RealDisk)).unwrap().load().unwrap();
    (dir, broker)
}

fn broker() -> (TempDir, Arc<Broker>) {
    broker_with(&[])
}

fn ask(broker: &Arc<Broker>, code: i32, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut command = Command::request(code);
    fields.iter().for_each(|(name, value)| command.ext.push(name, value));
    command.body = body.to_owned().into();
    match work(code).unwrap() {
        Work::Now(handler) | Work::Read(handler) | Work::Change(handler) => handler(broker, &command),
    }
}

fn read<T: FromJson + Default>(answer: Answer) -> T {
    json::decode(&answer.unwrap().body).unwrap()
}

fn create(broker: &Arc<Broker>, topic: &str, attributes: &str) -> Answer {
    let fields = [
        ("topic", topic),
        ("readQueueNums", "2"),
        ("writeQueueNums", "2"),
        ("perm", "6"),
        ("topicFilterType", "SINGLE_TAG"),
        ("attributes", attributes),
    ];
    ask(broker, request::UPDATE_AND_CREATE_TOPIC, &fields, "")
}

fn create_group(broker: &Arc<Broker>, group: &str) {
    let body = format!(r#"{{"groupName":"{group}"}}"#);
    ask(broker, request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], &body).unwrap();
}

/// Stores `count` messages in queue 0.
fn store(broker: &Broker, topic: &str, count: usize) {
    append(broker, topic, count);
    broker.dispatch_acknowledged();
}

fn append(broker: &Broker, topic: &str, count: usize) {
    let host: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut batch = Batch::new();
    for _ in 0..count {
        let message = NewRecord {
            topic,
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            properties: b"",
            body: b"x",
        };
        batch.push(&message).unwrap();
    }
    broker.store.append(&mut batch).unwrap();
}

#[test]
fn who_asks_while_another_thread_dispatches_sees_what_was_acknowledged() {
    let (_dir, broker) = broker();
    let (arrived, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (inside, gate, first) = (arrived.clone(), go_on.clone(), AtomicBool::new(true));
    broker.store.set_arrival_listener(Box::new(move |_| {
        if first.swap(false, Ordering::SeqCst) {
            inside.wait();
            gate.wait();
        }
    }));
    std::thread::scope(|scope| {
        scope.spawn(|| store(&broker, "T", 1));
        arrived.wait();
        append(&broker, "T", 1);
        let (asks, asked) = std::sync::mpsc::channel();
        let seen = scope.spawn({
            let broker = &broker;
            move || {
                asks.send(()).unwrap();
                broker.dispatch_acknowledged();
                broker.store.max_offset("T", 0)
            }
        });
        asked.recv().unwrap();
        // Who does not wait is through by then.
        (0..20).for_each(|_| std::thread::yield_now());
        go_on.wait();
        assert_eq!(seen.join().unwrap(), 2);
    });
}

#[tokio::test]
async fn nothing_panics_on_bad_input() {
    let (_dir, broker) = broker();
    let many =
        ["topic", "group", "consumerGroup", "queueId", "timestamp", "offset", "perm", "index", "count", "topicSeq"];
    let garbage: Vec<_> = many.iter().map(|name| (*name, "-9223372036854775809")).collect();
    let minus: Vec<_> = many.iter().map(|name| (*name, "-1")).collect();
    let empty: Vec<_> = many.iter().map(|name| (*name, "")).collect();
    for code in CODES.filter(|code| work(*code).is_some()) {
        for fields in [&[][..], &garbage, &minus, &empty] {
            for body in ["", "{", "[]", "null", "\u{0}", r#"{"topicConfigList":[{}],"groupConfigList":[{}],"topic":7}"#]
            {
                if let Err(Refused(code, remark)) = ask(&broker, code, fields, body) {
                    assert!(code > 0 && !remark.is_empty());
                }
            }
        }
    }
    let answer = config::update(broker.clone(), Command::request(request::UPDATE_BROKER_CONFIG)).await;
    assert!(answer.is_ok());
}

#[tokio::test]
async fn a_topic_from_creation_to_deletion() {
    let (_dir, broker) = broker();
    create(&broker, "T", "+message.type=FIFO").unwrap();
    let version = broker.topics.version();
    create(&broker, "T", "").unwrap();
    assert_eq!(broker.topics.version(), version, "nothing changed, no file was written");
    let topic: TopicConfig = read(ask(&broker, request::GET_TOPIC_CONFIG, &[("topic", "T"), ("lo", "true")], ""));
    assert_eq!((topic.read_queue_nums, topic.attributes["message.type"].as_str()), (2, "FIFO"));
    store(&broker, "T", 3);
    let stats: TopicStatsTable = read(ask(&broker, request::GET_TOPIC_STATS_INFO, &[("topic", "T")], ""));
    assert_eq!(stats.offset_table[&MessageQueue::new("T", "b", 0)].max_offset, 3);
    assert!(stats.offset_table[&MessageQueue::new("T", "b", 0)].last_update_timestamp > 0);
    broker.offsets.commit("T", "G", 0, 1, now_ms());
    broker.topics.create_internal("%RETRY%G_T", 1, 0, now_ms());
    ask(&broker, request::DELETE_TOPIC_IN_BROKER, &[("topic", "T")], "").unwrap();
    assert!(broker.topics.get("T").is_none() && broker.topics.get("%RETRY%G_T").is_none());
    assert_eq!((broker.store.max_offset("T", 0), broker.offsets.get("T", "G", 0)), (0, None));
    let gone = ask(&broker, request::GET_TOPIC_CONFIG, &[("topic", "T")], "").unwrap_err();
    assert_eq!(gone, Refused(response::TOPIC_NOT_EXIST, "No topic in this broker. topic: T".into()));
    ask(&broker, request::DELETE_TOPIC_IN_BROKER, &[("topic", "T")], "").unwrap();
}

#[tokio::test]
async fn names_of_the_system_and_of_paths_are_refused() {
    let (_dir, broker) = broker();
    let conflict = |topic: &str| Refused::parameter(format!("The topic[{topic}] is conflict with system topic."));
    assert_eq!(create(&broker, "TBW102", "").unwrap_err(), conflict("TBW102"));
    for topic in ["SCHEDULE_TOPIC_XXXX", "rmq_sys_wheel_timer"] {
        let refused = ask(&broker, request::DELETE_TOPIC_IN_BROKER, &[("topic", topic)], "").unwrap_err();
        assert_eq!(refused, conflict(topic));
    }
    for topic in ["../config", "a/b", "."] {
        let refused = ask(&broker, request::DELETE_TOPIC_IN_BROKER, &[("topic", topic)], "").unwrap_err();
        assert_eq!(refused.0, response::INVALID_PARAMETER);
    }
    assert_eq!(create(&broker, "M", "+message.type=MIXED").unwrap_err().1, "MIXED message type is not supported.");
    assert_eq!(create(&broker, "M", "+nobody=1").unwrap_err(), Refused::error("unsupported key: nobody"));
    let list = r#"{"topicConfigList":[{"topicName":"A"},{"topicName":"TBW102"}]}"#;
    assert!(ask(&broker, request::UPDATE_AND_CREATE_TOPIC_LIST, &[], list).is_err());
    assert!(broker.topics.get("A").is_none(), "all or none");
}

#[tokio::test]
async fn a_slave_leaves_changes_to_its_master() {
    let (_dir, broker) = broker_with(&[("brokerRole", "SLAVE"), ("brokerId", "1")]);
    assert!(create(&broker, "T", "").unwrap_err().1.contains("please execute it from master broker"));
    let delete = ask(&broker, request::DELETE_SUBSCRIPTIONGROUP, &[("groupName", "TOOLS_CONSUMER")], "");
    assert!(delete.is_err() && broker.groups.get("TOOLS_CONSUMER").is_some());
    assert!(ask(&broker, request::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", "new")], "").is_err());
    let reset = [("topic", "T"), ("group", "G"), ("timestamp", "-1")];
    let refused = ask(&broker, request::INVOKE_BROKER_TO_RESET_OFFSET, &reset, "").unwrap_err();
    assert_eq!(refused, Refused::error("Can not reset offset in slave broker"));
    // Java's admin client asks each broker of a cluster to delete a topic, and gives up where one refuses.
    broker.topics.create_internal("T", 1, 0, now_ms()).unwrap();
    let answer = ask(&broker, request::DELETE_TOPIC_IN_BROKER, &[("topic", "T")], "").unwrap();
    assert_eq!(answer.code, response::SUCCESS);
    assert!(answer.remark.unwrap().contains("master"));
    assert!(broker.topics.get("T").is_some(), "it goes when the master deletes it");
}

#[tokio::test]
async fn groups_and_what_they_may_read() {
    let (_dir, broker) = broker();
    create_group(&broker, "G");
    let fields = [("group", "G"), ("topic", "T"), ("readable", "false")];
    let state: GroupForbidden = read(ask(&broker, request::UPDATE_AND_GET_GROUP_FORBIDDEN, &fields, ""));
    assert_eq!(state.readable, Some(false));
    let state: GroupForbidden = read(ask(&broker, request::UPDATE_AND_GET_GROUP_FORBIDDEN, &fields[..2], ""));
    assert_eq!(state.readable, Some(false));
    broker.offsets.commit("T", "G", 0, 1, now_ms());
    let by: GroupList = read(ask(&broker, request::QUERY_TOPIC_CONSUME_BY_WHO, &[("topic", "T")], ""));
    assert!(by.group_list.contains("G"));
    let clean = [("groupName", "G"), ("cleanOffset", "true")];
    ask(&broker, request::DELETE_SUBSCRIPTIONGROUP, &clean, "").unwrap();
    assert!(broker.groups.get("G").is_none() && broker.offsets.get("T", "G", 0).is_none());
}

#[tokio::test]
async fn progress_and_its_reset() {
    let (_dir, broker) = broker();
    create(&broker, "T", "").unwrap();
    create_group(&broker, "G");
    store(&broker, "T", 5);
    broker.offsets.commit("T", "G", 0, 2, now_ms());
    let stats: ConsumeStats = read(ask(&broker, request::GET_CONSUME_STATS, &[("consumerGroup", "G")], ""));
    let queue = stats.offset_table[&MessageQueue::new("T", "b", 0)];
    assert_eq!((queue.broker_offset, queue.consumer_offset, queue.pull_offset), (5, 2, 2));
    assert!(queue.last_timestamp > 0);
    let all: ConsumeStatsList = read(ask(&broker, request::GET_BROKER_CONSUME_STATS, &[("isOrder", "false")], ""));
    assert_eq!((all.total_diff, all.total_inflight_diff), (3, 0));
    let span = ask(&broker, request::QUERY_CONSUME_TIME_SPAN, &[("topic", "T"), ("group", "G")], "");
    let span: QueryConsumeTimeSpanBody = read(span);
    assert!(span.consume_time_span_set[0].max_time_stamp > 0 && span.consume_time_span_set[0].delay_time >= 0);
    let clone = [("srcGroup", "G"), ("destGroup", "H"), ("offline", "true")];
    ask(&broker, request::CLONE_GROUP_OFFSET, &clone, "").unwrap();
    assert_eq!(broker.offsets.get("T", "H", 0), Some(2));
    let one = [("topic", "T"), ("group", "G"), ("timestamp", "0"), ("queueId", "0"), ("offset", "1")];
    let body: ResetOffsetBody = read(ask(&broker, request::INVOKE_BROKER_TO_RESET_OFFSET, &one, ""));
    assert_eq!(body.offset_table, [(MessageQueue::new("T", "b", 0), 1)].into());
    assert_eq!(broker.offsets.pending_reset("T", "G", 0), Some(1));
    let end = [("topic", "T"), ("group", "G"), ("timestamp", "-1")];
    let body: ResetOffsetBody = read(ask(&broker, request::INVOKE_BROKER_TO_RESET_OFFSET, &end, ""));
    assert_eq!(body.offset_table.into_values().collect::<Vec<_>>(), [5, 0]);
}

/// Its consumers come afterwards.
#[tokio::test]
async fn progress_is_copied_to_a_group_that_is_not_there_yet() {
    let (_dir, broker) = broker();
    broker.topics.create_internal("T", 1, 0, now_ms()).unwrap();
    broker.offsets.commit("T", "G", 0, 0, now_ms());
    let clone = [("srcGroup", "G"), ("destGroup", "H"), ("offline", "true")];
    ask(&broker, request::CLONE_GROUP_OFFSET, &clone, "").unwrap();
    assert_eq!(broker.offsets.get("T", "H", 0), Some(0));
}

#[tokio::test]
async fn progress_that_is_copied_at_a_slave_is_told_to_its_master() {
    let (_dir, broker) = broker_with(&[("brokerRole", "SLAVE"), ("brokerId", "1")]);
    broker.topics.create_internal("T", 1, 0, now_ms()).unwrap();
    broker.offsets.commit("T", "G", 0, 2, now_ms());
    let clone = [("srcGroup", "G"), ("destGroup", "H"), ("offline", "true")];
    ask(&broker, request::CLONE_GROUP_OFFSET, &clone, "").unwrap();
    let own: Vec<_> = broker.offsets.own().into_iter().map(|own| (own.topic, own.group, own.offset)).collect();
    assert_eq!(own, [("T".to_owned(), "H".to_owned(), 2)]);
}

/// A broker of before 5.0.
struct Old;

impl Service for Old {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        for command in requests {
            let Refused(code, remark) = not_supported(command.code);
            conn.reply(command.error(code, remark));
        }
    }
}

#[tokio::test]
async fn a_master_that_knows_no_request_modes_has_none() {
    let (_dir, broker) = broker_with(&[("brokerRole", "SLAVE"), ("brokerId", "1")]);
    let master = Server::bind("127.0.0.1:0", ServerConfig::default(), Arc::new(Old)).await.unwrap();
    sync::request_modes(&broker, &master.local_addr().to_string()).await.unwrap();
}

#[tokio::test]
async fn a_queue_can_be_looked_into() {
    let (_dir, broker) = broker();
    create(&broker, "T", "").unwrap();
    store(&broker, "T", 3);
    let ask_at = |index| {
        let fields = [("topic", "T"), ("queueId", "0"), ("count", "10"), ("index", index)];
        ask(&broker, request::QUERY_CONSUME_QUEUE, &fields, "").unwrap()
    };
    let found: QueryConsumeQueueResponseBody = json::decode(&ask_at("1").body).unwrap();
    assert_eq!((found.max_queue_index, found.queue_data.len()), (3, 2));
    assert_eq!(ask_at("3").remark.as_deref(), Some("Index 3 of 0@T is not exist!"));
    for (topic, queue) in [("T", "99"), ("T", "-1"), ("nowhere", "0")] {
        let fields = [("topic", topic), ("queueId", queue), ("count", "10"), ("index", "0")];
        let refused = ask(&broker, request::QUERY_CONSUME_QUEUE, &fields, "").unwrap_err();
        assert_eq!(refused, Refused::error(format!("{queue}@{topic} is not exist!")));
    }
}

#[tokio::test]
async fn a_slave_gets_whole_tables() {
    let (_dir, broker) = broker();
    for number in 0..5 {
        create(&broker, &format!("T{number}"), "").unwrap();
    }
    let fields = [("topicSeq", "0"), ("maxTopicNum", "2"), ("dataVersion", "")];
    let answer = ask(&broker, request::GET_ALL_TOPIC_CONFIG, &fields, "").unwrap();
    let total = broker.topics.names().len();
    assert_eq!(answer.ext.get("totalTopicNum"), Some(total.to_string().as_str()));
    let table: TopicConfigAndMappingSerializeWrapper = json::decode(&answer.body).unwrap();
    assert_eq!((table.topic_config_table.len(), table.data_version), (total, broker.topics.version()));
    broker.offsets.commit("T", "G", 0, 1, now_ms());
    let offsets = ask(&broker, request::GET_ALL_CONSUMER_OFFSET, &[], "").unwrap();
    let text = String::from_utf8(offsets.body.to_vec()).unwrap();
    assert!(text.contains(r#""offsetTable":{"T@G":{0:1}}"#) && !text.contains("pullOffsetTable"), "{text}");
}

#[tokio::test]
async fn what_mqadmin_computes_with_is_there() {
    let (_dir, broker) = broker();
    store(&broker, "T", 1);
    let info: KvTable = read(ask(&broker, request::GET_BROKER_RUNTIME_INFO, &[], ""));
    for key in ["putTps", "getTransferredTps", "commitLogDiskRatio", "earliestMessageTimeStamp", "commitLogMaxOffset"] {
        let first = info.table[key].split(' ').next().unwrap();
        assert!(first.parse::<f64>().is_ok_and(|number| number >= 0.0), "{key}={first}");
    }
    let config = ask(&broker, request::GET_BROKER_CONFIG, &[], "").unwrap();
    let text = String::from_utf8(config.body.to_vec()).unwrap();
    assert!(text.contains("brokerName=b\n") && text.contains("flushDiskType=ASYNC_FLUSH\n"));
    assert!(config.ext.get("version").is_some_and(|version| version.contains("counter")));
}

#[tokio::test]
async fn hours_until_full_are_told_when_the_log_grows() {
    let (_dir, broker) = broker();
    let told = || {
        let info: KvTable = read(ask(&broker, request::GET_BROKER_RUNTIME_INFO, &[], ""));
        info.table.get("hoursUntilFull").map(|hours| hours.parse::<f64>().unwrap())
    };
    broker.forecast.lock().note(0, 1000);
    assert_eq!(told(), None);
    broker.forecast.lock().note(3_600_000, i64::MAX);
    assert_eq!(told(), Some(0.0));
}

#[tokio::test]
async fn f39_a_key_changes_at_once_and_in_the_file() {
    let (dir, broker) = broker();
    let update = |text: &str| {
        let command = Command { body: text.to_owned().into(), ..Command::request(request::UPDATE_BROKER_CONFIG) };
        config::update(broker.clone(), command)
    };
    let file = || std::fs::read_to_string(dir.path().join("broker.conf")).unwrap();
    update("slaveReadEnable=true\nnobodyKnows=1\n").await.unwrap();
    assert_eq!(file(), "# mine\nbrokerName=b\nslaveReadEnable=true\n");
    assert!(broker.config().slave_read_enable && broker.config_version.lock().counter == 1);
    let refused = update("slaveReadEnable=false\ninSyncReplicas=many\n").await.unwrap_err();
    assert!(refused.1.contains("inSyncReplicas") && refused.1.contains("many"), "{refused:?}");
    assert!(broker.config().slave_read_enable && file().ends_with("slaveReadEnable=true\n"));
    update("namesrvAddr=127.0.0.1:9;127.0.0.1:10\n").await.unwrap();
    assert_eq!(broker.registrar.namesrv_list(), ["127.0.0.1:9", "127.0.0.1:10"]);
    let version = broker.topics.version();
    update("brokerPermission=4\n").await.unwrap();
    assert_ne!(broker.topics.version(), version);
    std::fs::remove_file(dir.path().join("broker.conf")).unwrap();
    assert!(update("slaveReadEnable=false\n").await.unwrap_err().1.contains("broker.conf"));
    assert!(broker.config().slave_read_enable, "what is not in the file is not in force");
}

const NEEDS: Needs = Needs { fields: &["topic", "queueId"], ints: &["queueId"], longs: &["index"] };

fn header(fields: &[(&str, &str)]) -> Result<QueryConsumeQueueRequestHeader, Refused> {
    let mut command = Command::request(request::QUERY_CONSUME_QUEUE);
    fields.iter().for_each(|(name, value)| command.ext.push(name, value));
    parse(&command, &NEEDS)
}

#[test]
fn a_refusal_names_the_field() {
    assert_eq!(header(&[("topic", "T")]), Err(Refused::error("the custom field <queueId> is null")));
    let text = header(&[("topic", "T"), ("queueId", "99999999999")]).unwrap_err().1;
    assert!(text.contains("queueId") && text.contains("99999999999"), "{text}");
    assert!(header(&[("topic", "T"), ("queueId", "1"), ("index", "x")]).unwrap_err().1.contains("index"));
    assert_eq!(header(&[("topic", "T"), ("queueId", "1"), ("index", "7")]).unwrap().index, 7);
}

#[test]
fn a_bad_body_is_named() {
    let mut command = Command::request(request::UPDATE_AND_CREATE_TOPIC_LIST);
    assert!(
        body::<CreateTopicListRequestBody>(&command)
            .unwrap_err()
            .1
            .contains("UPDATE_AND_CREATE_TOPIC_LIST has no body")
    );
    for text in ["{\"topicConfigList\":", "[1]", "\u{0}"] {
        command.body = text.to_owned().into();
        assert!(body::<CreateTopicListRequestBody>(&command).unwrap_err().1.contains("cannot be read"), "{text}");
    }
}

#[test]
fn an_unknown_code_is_not_supported() {
    assert!(work(999).is_none());
    assert_eq!(not_supported(999), Refused(3, " request type 999 not supported".into()));
}

/// A consumer that answers what its broker asks.
struct Consumer;

impl Service for Consumer {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        for command in requests {
            let text = match command.code {
                request::GET_CONSUMER_STATUS_FROM_CLIENT => {
                    r#"{"messageQueueTable":{{"brokerName":"b","queueId":0,"topic":"T"}:5}}"#.to_owned()
                }
                request::CONSUME_MESSAGE_DIRECTLY => {
                    format!("{}:{}", command.ext.get("brokerName").unwrap_or_default(), command.body.len())
                }
                _ => r#"{"properties":{}}"#.to_owned(),
            };
            conn.reply(command.ok_body(text));
        }
    }
}

async fn served(broker: &Arc<Broker>) -> (Server, String) {
    let starting = Arc::new(Starting::new(BrokerConfig::clone(&broker.config()), Arc::default()));
    starting.serve(broker);
    let front = Arc::new(Front { starting, fast: false });
    let server = Server::bind("127.0.0.1:0", ServerConfig::default(), front).await.unwrap();
    let addr = server.local_addr().to_string();
    (server, addr)
}

#[tokio::test]
async fn a_consumer_is_asked_through_its_broker() {
    let (_dir, broker) = broker();
    let (_server, addr) = served(&broker).await;
    let limit = Duration::from_secs(5);
    let consumer = Client::new(ClientConfig::default(), Some(Arc::new(Consumer)));
    let group =
        r#"{"groupName":"G","messageModel":"CLUSTERING","subscriptionDataSet":[{"topic":"T","subString":"*"}]}"#;
    let body = format!(r#"{{"clientID":"c","consumerDataSet":[{group}],"producerDataSet":[]}}"#);
    let beat = Command { version: 479, ..Command::request(request::HEART_BEAT) }.with_body(body);
    assert_eq!(consumer.invoke(&addr, beat, limit).await.unwrap().code, response::SUCCESS);
    store(&broker, "T", 1);
    let tool = Client::new(ClientConfig::default(), None);
    let msg_id = wire::message_id::offset_id(broker.store_host(), 0);
    let call = async |code: i32| {
        let mut command = Command::request(code);
        for (name, value) in
            [("consumerGroup", "G"), ("clientId", "c"), ("msgId", &msg_id), ("topic", "T"), ("group", "G")]
        {
            command.ext.push(name, value);
        }
        tool.invoke(&addr, command, limit).await.unwrap()
    };
    assert_eq!(call(request::GET_CONSUMER_RUNNING_INFO).await.body, r#"{"properties":{}}"#);
    let all = broker.admin_room.clone().acquire_many_owned(MAX_WAITING as u32).await.unwrap();
    let busy = call(request::GET_CONSUMER_RUNNING_INFO).await;
    assert!(busy.code == response::SYSTEM_BUSY && busy.remark.unwrap().starts_with("[OVERLOAD]"), "no room is left");
    drop(all);
    let direct = call(request::CONSUME_MESSAGE_DIRECTLY).await;
    assert_eq!(direct.body, format!("b:{}", broker.store.read_record(0).unwrap().len()));
    let status: GetConsumerStatusBody =
        json::decode(&call(request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS).await.body).unwrap();
    assert_eq!(status.consumer_table["c"].values().collect::<Vec<_>>(), [&5]);
    let listed: ConsumerConnection = json::decode(&call(request::GET_CONSUMER_CONNECTION_LIST).await.body).unwrap();
    assert_eq!((listed.connection_set[0].client_id.as_str(), listed.connection_set[0].version), ("c", 479));
    assert_eq!(call(999).await.remark.as_deref(), Some(" request type 999 not supported"));
    consumer.close_all();
    broker.clients.unregister_consumer("G", broker.clients.member("G", "c").map_or(0, |member| member.conn.id()));
    let gone = call(request::GET_CONSUMER_RUNNING_INFO).await;
    assert_eq!(gone.remark.as_deref(), Some("The Consumer <G> <c> not online"));
}

static STUCK: (parking_lot::Mutex<bool>, parking_lot::Condvar) =
    (parking_lot::Mutex::new(true), parking_lot::Condvar::new());

/// A request that takes as long as the test says.
fn stuck(_: &Arc<Broker>, command: &Command) -> Answer {
    let (is_stuck, freed) = &STUCK;
    freed.wait_while(&mut is_stuck.lock(), |is_stuck| *is_stuck);
    Ok(command.ok())
}

/// A task that waits for the disk leaves its thread to a new one of the same pool.
#[test]
fn requests_that_take_long_leave_threads_to_others() {
    let (_dir, broker) = broker();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).max_blocking_threads(AT_ONCE + 1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut requests: Vec<_> =
            (0..2 * AT_ONCE).map(|_| Box::pin(blocking(broker.clone(), Command::request(1), stuck))).collect();
        for request in &mut requests {
            let first = std::future::poll_fn(|cx| std::task::Poll::Ready(request.as_mut().poll(cx).is_pending()));
            assert!(first.await);
        }
        let other = tokio::time::timeout(Duration::from_secs(10), tokio::task::spawn_blocking(|| ())).await;
        *STUCK.0.lock() = false;
        STUCK.1.notify_all();
        assert!(other.is_ok(), "they take all threads");
        for request in requests {
            assert_eq!(request.await.unwrap().code, response::SUCCESS);
        }
    });
}

#[tokio::test]
async fn a_client_that_asks_for_much_leaves_room_for_others() {
    let (_dir, broker) = broker();
    let (_server, addr) = served(&broker).await;
    let clients = [(); 2].map(|()| Arc::new(Client::new(ClientConfig::default(), None)));
    let ask = |client: &Arc<Client>| {
        let (client, addr) = (client.clone(), addr.clone());
        let request = Command::request(request::GET_BROKER_RUNTIME_INFO);
        tokio::spawn(async move { client.invoke(&addr, request, Duration::from_secs(20)).await.unwrap() })
    };
    let turns = broker.admin_turns.acquire_many(AT_ONCE as u32).await.unwrap();
    let mut waiting: Vec<_> = (0..OF_ONE).map(|_| ask(&clients[0])).collect();
    while broker.admin_room.available_permits() > MAX_WAITING - OF_ONE {
        tokio::task::yield_now().await;
    }
    waiting.push(ask(&clients[1]));
    let busy = ask(&clients[0]).await.unwrap();
    assert_eq!(busy.code, response::SYSTEM_BUSY);
    assert!(busy.remark.unwrap().contains("256 requests of administration of this client"));
    drop(turns);
    for answer in waiting {
        assert_eq!(answer.await.unwrap().code, response::SUCCESS);
    }
}

#[test]
fn progress_of_a_topic_that_was_deleted_meanwhile_does_not_come_back() {
    let (_dir, broker) = broker();
    let topic = TopicConfig { topic_name: "T".into(), ..TopicConfig::default() };
    broker.topics.put(topic, now_ms()).unwrap();
    broker.groups.get_or_create("G", true, now_ms()).unwrap();
    consumer_offset::store(&broker, "T", "G", 0, 0);
    assert_eq!(broker.offsets.get("T", "G", 0), Some(0));
    ask(&broker, request::DELETE_TOPIC_IN_BROKER, &[("topic", "T")], "").unwrap();
    // A request that found the topic before.
    consumer_offset::store(&broker, "T", "G", 0, 0);
    assert_eq!(broker.offsets.get("T", "G", 0), None);
}
