//! JSON text to the byte, with the samples of the reference (remoting 13, name server 1.9, store 23).

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use proptest::prelude::*;
use wire::{
    Language,
    body::*,
    json::{self, FromJson, Json, ToJson},
};

/// Decodes and encodes again to the same bytes.
fn keeps<T: FromJson + ToJson + Default>(text: &str) -> T {
    let value: T = json::decode(text.as_bytes()).unwrap();
    assert_eq!(json::encode(&value), text);
    value
}

const LEGACY: &str = r#"{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}]}"#;
const STANDARD: &str = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}]}"#;
const STATIC: &str = r#"{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"orderTopicConf":"broker-a:8","queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}],"topicQueueMappingByBroker":{"broker-a":{"bname":"broker-a","currIdMap":{0:0,1:1},"dirty":false,"epoch":1,"scope":"__global__","topic":"T","totalQueues":8}}}"#;

#[test]
fn route_in_both_forms() {
    let route: TopicRouteData = keeps(LEGACY);
    assert_eq!(json::encode_standard(&route), STANDARD);
    assert_eq!(json::decode::<TopicRouteData>(STANDARD.as_bytes()), Ok(route));
    let route: TopicRouteData = keeps(STATIC);
    let quoted = STATIC.replace("{0:", "{\"0\":").replace(",1:", ",\"1\":");
    assert_eq!(json::encode_standard(&route), quoted);
}

#[test]
fn samples_of_the_reference() {
    keeps::<ClusterInfo>(
        r#"{"brokerAddrTable":{"broker-a":{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}},"clusterAddrTable":{"DefaultCluster":["broker-a"]}}"#,
    );
    keeps::<TopicConfigSerializeWrapper>(
        r#"{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},"topicConfigTable":{"T":{"attributes":{},"order":false,"perm":6,"readQueueNums":8,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":8}}}"#,
    );
    keeps::<RegisterBrokerBody>(
        r#"{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},"mappingDataVersion":{"counter":0,"stateVersion":0,"timestamp":1},"topicConfigTable":{"T":{"attributes":{},"order":false,"perm":6,"readQueueNums":8,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":8}},"topicQueueMappingDetailMap":{},"topicQueueMappingInfoMap":{}}}"#,
    );
    keeps::<ConsumerOffsetSerializeWrapper>(
        r#"{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},"offsetTable":{"T@G":{0:100,1:200}}}"#,
    );
    keeps::<SubscriptionGroupWrapper>(
        r#"{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},"forbiddenTable":{},"subscriptionGroupTable":{"G":{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"G","groupRetryPolicy":{"type":"CUSTOMIZED"},"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}}}"#,
    );
    keeps::<HeartbeatData>(
        r#"{"clientID":"10.0.0.9@1#2","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"G","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","subString":"TagA || TagB","subVersion":1700000000000,"tagsSet":["TagA","TagB"],"topic":"T"}],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[{"groupName":"PG"}],"withoutSub":false}"#,
    );
    keeps::<LockBatchRequestBody>(
        r#"{"clientId":"c","consumerGroup":"G","mqSet":[{"brokerName":"broker-a","queueId":0,"topic":"T"}],"onlyThisBroker":false}"#,
    );
    keeps::<LockBatchResponseBody>(r#"{"lockOKMQSet":[{"brokerName":"broker-a","queueId":0,"topic":"T"}]}"#);
}

#[test]
fn more_samples_of_the_reference() {
    keeps::<ConsumeStats>(
        r#"{"consumeTps":0.0,"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:{"brokerOffset":10,"consumerOffset":5,"lastTimestamp":1700000000000,"pullOffset":7}}}"#,
    );
    keeps::<TopicStatsTable>(
        r#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:{"lastUpdateTimestamp":1700000000000,"maxOffset":10,"minOffset":0}},"topicPutTps":12.5}"#,
    );
    keeps::<KvTable>(r#"{"table":{"k":"v"}}"#);
    let clients: ConsumerConnection = keeps(
        r#"{"connectionSet":[{"clientAddr":"10.0.0.9:5000","clientId":"c","language":"JAVA","version":479}],"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","subscriptionTable":{"T":{"classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","subString":"TagA || TagB","subVersion":1700000000000,"tagsSet":["TagA","TagB"],"topic":"T"}}}"#,
    );
    assert_eq!(clients.connection_set[0].language, Language::Java);
    keeps::<GetBrokerMemberGroupResponseBody>(
        r#"{"brokerMemberGroup":{"brokerAddrs":{1:"a",2:"b"},"brokerName":"broker-a","cluster":"DefaultCluster"}}"#,
    );
    keeps::<QueryAssignmentRequestBody>(
        r#"{"clientId":"c","consumerGroup":"G","messageModel":"CLUSTERING","strategyName":"AVG","topic":"T"}"#,
    );
    keeps::<QueryAssignmentResponseBody>(
        r#"{"messageQueueAssignments":[{"messageQueue":{"brokerName":"broker-a","queueId":0,"topic":"T"},"mode":"POP"}]}"#,
    );
    keeps::<QueryAssignmentResponseBody>("{}");
    // Go cuts this text by hand, hence to the byte.
    keeps::<ResetOffsetBody>(
        r#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:5,{"brokerName":"b","queueId":1,"topic":"T"}:6}}"#,
    );
    keeps::<DelayOffsetSerializeWrapper>(
        r#"{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1700000000000},"offsetTable":{3:10,4:25}}"#,
    );
    keeps::<QueryCorrectionOffsetBody>(r#"{"correctionOffsets":{0:5}}"#);
}

#[test]
fn derived_members_are_not_written() {
    let text = r#"{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":2},"groupTopicMap":{"G":["T"]},"offsetTable":{"T@G":{0:1}},"pullOffsetTable":{"T@G":{0:9}}}"#;
    let offsets: ConsumerOffsetSerializeWrapper = json::decode(text.as_bytes()).unwrap();
    let expected = r#"{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":2},"offsetTable":{"T@G":{0:1}}}"#;
    assert_eq!(json::encode(&offsets), expected);
}

#[test]
fn config_files() {
    let data_version = DataVersion { counter: 3, state_version: 0, timestamp: 1_700_000_000_000 };
    let mut table = TopicConfigSerializeWrapper { data_version, ..Default::default() };
    let topic =
        TopicConfig { topic_name: "TopicTest".into(), read_queue_nums: 4, write_queue_nums: 4, ..Default::default() };
    table.topic_config_table.insert("TopicTest".into(), topic);
    let expected = "{\n\t\"dataVersion\":{\n\t\t\"counter\":3,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1700000000000\n\t},\n\t\
                    \"topicConfigTable\":{\n\t\t\"TopicTest\":{\n\t\t\t\"attributes\":{},\n\t\t\t\"order\":false,\n\t\t\t\"perm\":6,\n\t\t\t\
                    \"readQueueNums\":4,\n\t\t\t\"topicFilterType\":\"SINGLE_TAG\",\n\t\t\t\"topicName\":\"TopicTest\",\n\t\t\t\
                    \"topicSysFlag\":0,\n\t\t\t\"writeQueueNums\":4\n\t\t}\n\t}\n}";
    assert_eq!(json::pretty(&table), expected);

    let offsets: ConsumerOffsetSerializeWrapper = json::decode(b"{offsetTable:{'T@G':{0:5,1:6},'U@G':{}}}").unwrap();
    let expected = "{\n\t\"dataVersion\":{\n\t\t\"counter\":0,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":0\n\t},\n\t\
                    \"offsetTable\":{\n\t\t\"T@G\":{0:5,1:6\n\t\t},\n\t\t\"U@G\":{}\n\t}\n}";
    assert_eq!(json::pretty(&offsets), expected);
    assert_eq!(json::pretty(&vec![1, 2]), "[\n\t1,\n\t2\n]");
    assert_eq!(json::pretty(&BTreeSet::from([1, 2])), "[1,2]");
    assert_eq!(json::decode::<ConsumerOffsetSerializeWrapper>(expected.as_bytes()), Ok(offsets));
}

#[test]
fn escapes() {
    let text = "a\"b\\c/d\u{8}\u{C}\n\r\t\u{0}\u{1}\u{B}\u{1F}\u{7F}\u{85}é<\u{2028}\u{2029}中\u{1F600}";
    let java = r#""a\"b\\c/d\b\f\n\r\t\u0000\u0001\u000B\u001F\u007F\u0085é<\u2028\u2029中😀""#;
    let standard = r#""a\"b\\c\/d\b\f\n\r\t\u0000\u0001\u000B\u001F\u007F\u0085\u00E9<\u2028\u2029\u4E2D\uD83D\uDE00""#;
    assert_eq!(json::encode(text), java);
    assert_eq!(json::encode_standard(text), standard);
    for form in [java, standard] {
        assert_eq!(Json::parse(form.as_bytes()).unwrap().as_str(), Some(text));
    }
    let mut buffer = bytes::BytesMut::new();
    let mut writer = json::Writer::over(&mut buffer);
    writer.string(text);
    writer.raw(",");
    writer.integer(i64::MIN);
    assert_eq!(buffer, format!("{java},{}", i64::MIN));
}

#[test]
fn numbers_of_the_standard_form() {
    let limit = (1_i64 << 53) - 1;
    let text = |number: i64| String::from_utf8(json::encode_standard(&number).to_vec()).unwrap();
    assert_eq!((text(limit), text(limit + 1)), (limit.to_string(), format!("\"{}\"", limit + 1)));
    assert_eq!((text(-limit), text(-limit - 1)), ((-limit).to_string(), format!("\"{}\"", -limit - 1)));
    assert_eq!(json::encode(&i64::MAX), i64::MAX.to_string());
    let raw = Json::parse(b"{2:1,10:9223372036854775807,1:2.50}").unwrap();
    assert_eq!(json::encode_standard(&raw), r#"{"1":2.50,"2":1,"10":"9223372036854775807"}"#);
    assert_eq!(json::encode(&raw), "{2:1,10:9223372036854775807,1:2.50}");
}

#[test]
fn doubles_as_java_writes_them() {
    let cases = [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (12.5, "12.5"),
        (15_000_000_000.0, "1.5E10"),
        (10_000_000.0, "1.0E7"),
        (9_999_999.0, "9999999.0"),
        (0.001, "0.001"),
        (0.0001, "1.0E-4"),
        (-0.04996003197442046, "-0.04996003197442046"),
        (1.7976931348623157e308, "1.7976931348623157E308"),
        (f64::NAN, "null"),
        (f64::INFINITY, "null"),
    ];
    for (number, text) in cases {
        assert_eq!(json::encode(&number), text);
    }
}

#[test]
fn nulls_are_left_out() {
    let list = TopicList { broker_addr: None, topic_list: BTreeSet::from(["T".to_owned()]) };
    assert_eq!(json::encode(&list), r#"{"topicList":["T"]}"#);
    let map = BTreeMap::from([(1, None), (2, Some(true))]);
    assert_eq!(json::encode(&map), "{2:true}");
    let map: HashMap<String, i32> = [("b", 1), ("a", 2)].map(|(key, value)| (key.to_owned(), value)).into();
    assert_eq!(json::encode(&map), r#"{"a":2,"b":1}"#);
    assert_eq!(json::encode(&vec![None, Some(1)]), "[null,1]");
}

#[test]
fn order_of_versions() {
    let version = |state_version, counter, timestamp| DataVersion { counter, state_version, timestamp };
    assert!(version(1, 0, 0) > version(0, 9, 9));
    assert!(version(0, 2, 0) > version(0, 1, 9));
    assert!(version(0, 0, 2) > version(0, 0, 1));
    let mut next = version(4, 7, 0);
    next.next(1_700_000_000_000);
    assert_eq!(next, version(4, 8, 1_700_000_000_000));
    next.next_in_state(5, 6);
    assert_eq!(next, version(6, 9, 5));
}

#[test]
fn order_of_members_is_checked() {
    assert!(json::sorted(&["a", "aB", "ab", "b"]));
    assert!(!json::sorted(&["b", "a"]) && !json::sorted(&["a", "a"]) && !json::sorted(&["ab", "a"]));
}

#[test]
fn order_of_queues() {
    let queue = |topic: &str, broker: &str, id| MessageQueue::new(topic, broker, id);
    let sorted = [queue("A", "z", 9), queue("B", "a", 1), queue("B", "a", 2), queue("B", "b", 0)];
    assert!(sorted.is_sorted());
}

fn any_json() -> impl Strategy<Value = Json> {
    let number =
        prop_oneof![any::<i64>().prop_map(|n| n.to_string()), "-?[0-9]{1,20}\\.[0-9]{1,5}([eE][+-]?[0-9]{1,3})?"];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number.prop_map(Json::Num),
        any::<String>().prop_map(Json::Str),
    ];
    let key = prop_oneof![
        any::<String>().prop_map(Json::Str),
        any::<i32>().prop_map(|number| Json::Num(number.to_string())),
        any::<String>().prop_map(|text| Json::Obj(vec![(Json::Str("k".into()), Json::Str(text))])),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Json::Arr),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(Json::Obj),
        ]
    })
}

proptest! {
    #[test]
    fn text_and_back(json in any_json()) {
        prop_assert_eq!(Json::parse(json.to_text().as_bytes()).unwrap(), json.clone());
        prop_assert_eq!(Json::parse(json::pretty(&json).as_bytes()).unwrap(), json.clone());
        let standard = json::encode_standard(&json);
        prop_assert!(standard.is_ascii());
        prop_assert!(Json::parse(&standard).is_ok());
    }

    #[test]
    fn parsing_never_panics(text in ".{0,60}") {
        let _ = Json::parse(text.as_bytes());
    }
}

/// All members of a text whose values are strings, and how reading ended.
fn members(text: &[u8], plain: bool) -> (Vec<(String, String)>, Result<(), json::JsonError>) {
    let mut reader = json::Reader::new(text);
    let mut found = Vec::new();
    let mut read = || {
        if !reader.begin_object()? {
            return reader.skip_value();
        }
        loop {
            let name = match plain.then(|| reader.plain_name()).flatten() {
                Some(name) => str::from_utf8(&text[name]).unwrap().to_owned(),
                None => match reader.next_name()? {
                    Some(name) => name.into_owned(),
                    None => return reader.end(),
                },
            };
            let value = match plain {
                true => match reader.plain_value() {
                    Some(value) => Some(str::from_utf8(&text[value]).unwrap().to_owned()),
                    None => {
                        let mut value = String::from("before ");
                        reader.string_into(&mut value)?.then(|| value.split_off(7))
                    }
                },
                false => reader.plain_string()?.map(Cow::into_owned),
            };
            match value {
                Some(value) => found.push((name, value)),
                None => reader.skip_value()?,
            }
        }
    };
    let end = read();
    (found, end)
}

/// Of which texts are made that nearly are such members.
const PIECES: &[&[u8]] = &[
    b"\"ab\":\"cdef\"",
    b"\"ab\":\"cdef\",",
    b"\"ab\":\"cdef\",",
    b"\"a\":\"123456789\",",
    b",",
    b"\"",
    b":",
    b"\\u0001",
    b"\\",
    b" ",
    b"'",
    b"7",
    b"{",
    b"}",
    b"x",
    "\u{e4}".as_bytes(),
    b"\xc3",
];

#[test]
fn members_are_taken_one_way_or_the_other() {
    let texts: [&[u8]; 5] = [
        br#"{"a":"b","c":"d"}"#,
        br#"{"a":"12345678","bcdefghij":"k\n","l":""}"#,
        br#"{"a":1,"b":"c" ,"d":"e","f":'g',"h":"i"}"#,
        b"{\"a\":\"\xff\",\"b\":\"c\"}",
        b"{\"a\":\"b\"\"c\":\"d\"}",
    ];
    for text in texts {
        assert_eq!(members(text, true), members(text, false), "{}", String::from_utf8_lossy(text));
    }
    assert_eq!(members(texts[0], true).0, [("a".into(), "b".into()), ("c".into(), "d".into())]);
}

proptest! {
    #[test]
    fn any_members_are_taken_one_way_or_the_other(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..20)) {
        let text = [&b"{"[..], &pieces.concat(), b"}"].concat();
        prop_assert_eq!(members(&text, true), members(&text, false));
    }
}
