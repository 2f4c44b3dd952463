//! What the Java decoder accepts and real peers send: reference remoting 12.4.

mod support;

use std::collections::BTreeMap;

use support::{decode, json_frame};
use wire::{
    Command, Language,
    body::*,
    code::request,
    header::*,
    json::{self, Json},
};

fn header(text: &str) -> Command {
    decode(&json_frame(text.as_bytes(), b"body"))
}

#[test]
fn header_of_other_clients() {
    // Members in any order, unknown ones, nulls, numbers in strings, no serializeTypeCurrentRPC, a newline at the end.
    let text = "{ \"version\":\"121\",\"x\":{\"y\":[1,{}]},\"opaque\":7.0, \"language\":\"NODEJS\",\"remark\":null,\
                \"flag\":0,\"code\":\"34\",\"extFields\":{\"topic\":\"T\"}}\n";
    let command = header(text);
    assert_eq!((command.code, command.version, command.opaque, command.flag), (34, 121, 7, 0));
    assert_eq!((command.language, command.remark.as_deref()), (Language::Other, None));
    assert_eq!((command.ext.get("topic"), &command.body[..]), (Some("T"), &b"body"[..]));
}

#[test]
fn header_without_most_members() {
    let command = header("{\"code\":105}");
    assert_eq!((command.code, command.opaque, command.has_ext, command.remark.is_none()), (105, 0, false, true));
    assert!(!header("{\"code\":105,\"extFields\":null}").has_ext);
    assert!(header("{\"code\":105,\"extFields\":{}}").has_ext);
}

#[test]
fn ext_fields_of_any_kind() {
    let text =
        "{\"code\":11,\"extFields\":{\"a\":1,\"b\":1.50,\"c\":true,\"d\":null,\"e\":{\"k\":[1,\"x\"]},\"f\":\"\"}}";
    let ext = header(text).ext;
    let expected = [("a", "1"), ("b", "1.50"), ("c", "true"), ("e", "{\"k\":[1,\"x\"]}"), ("f", "")];
    assert_eq!(ext.iter().collect::<Vec<_>>(), expected);
}

/// Names and values as they are, escaped, and in a header that is no UTF-8.
#[test]
fn ext_fields_of_any_spelling() {
    for (text, expected) in [
        (
            r#"{"extFields":{"a":"b","c\u0001":"d\u0001e\u0039\u007F\u00e4\uD83D\uDE00","f":"\u00fF"}}"#,
            "d\u{1}e9\u{7f}\u{e4}\u{1F600}",
        ),
        (r#"{"extFields":{"c\u0001":7,"f":"\u00ff","c\u0001":'d"\n' , "a":"b"}}"#, "d\"\n"),
    ] {
        let ext = header(text).ext;
        assert_eq!(
            (ext.get("a"), ext.get("c\u{1}"), ext.get("f")),
            (Some("b"), Some(expected), Some("\u{ff}")),
            "{text}"
        );
    }
    let command = decode(&json_frame(b"{\"code\":-9,\"extFields\":{\"a\":\"b\",\"c\":\"\xff\",\"d\\n\":\"e\"}}", b""));
    let expected = [("a", "b"), ("c", "\u{FFFD}"), ("d\n", "e")];
    assert_eq!((command.code, command.ext.iter().collect::<Vec<_>>()), (-9, expected.to_vec()));
}

/// The last ones count, and a megabyte of them takes no longer than anything else of that size.
#[test]
fn ext_fields_again_and_again() {
    let many = format!("{{{}\"extFields\":{{\"c\":\"d\"}}}}", "\"extFields\":{\"a\":\"b\"},".repeat(100_000));
    for text in [many.as_str(), "{\"extFields\":{\"a\":\"\\n\"},\"extFields\":null,\"extFields\":{\"c\":\"d\"}}"] {
        assert_eq!(header(text).ext.iter().collect::<Vec<_>>(), [("c", "d")]);
    }
    let command = header("{\"extFields\":{\"a\":\"b\"},\"extFields\":null}");
    assert!(!command.has_ext && command.ext.is_empty());
}

#[test]
fn header_that_is_hardly_json() {
    let command = header("{code:34,'ext_fields':{topic:'T',},,\"OPAQUE\":9,language:'java',}\0");
    assert_eq!((command.code, command.opaque, command.language), (34, 9, Language::Java));
    assert_eq!(command.ext.get("topic"), Some("T"));
}

#[test]
fn headers_that_java_refuses() {
    for text in ["", "[]", "7", "{\"code\":1}x", "{\"code\":1", "{\"code\":{}}", "{\"code\":1,\"extFields\":[]}"] {
        let mut frame = json_frame(text.as_bytes(), b"");
        let frame = frame.split_off(4);
        assert!(wire::frame::decode(frame).is_err(), "{text}");
    }
}

#[test]
fn booleans_and_numbers_of_headers() {
    let mut command = Command::request(request::UPDATE_AND_CREATE_TOPIC);
    for (name, value) in [("order", "1"), ("force", "TRUE"), ("perm", "six"), ("readQueueNums", "+4"), ("x", "y")] {
        command.ext.push(name, value);
    }
    let header: CreateTopicRequestHeader = command.header();
    assert_eq!((header.order, header.force, header.perm, header.read_queue_nums), (true, Some(true), 0, 4));
    command.ext.push("order", "0");
    assert!(!command.header::<CreateTopicRequestHeader>().order);
    assert_eq!(header.topic_sys_flag, None);
}

#[test]
fn the_code_decides_how_a_send_is_spelled() {
    macro_rules! filled {
        ($kind:ident) => {
            $kind {
                producer_group: "P".into(),
                topic: "T".into(),
                default_topic: "D".into(),
                default_topic_queue_nums: 1,
                queue_id: -1,
                sys_flag: 2,
                born_timestamp: 3,
                flag: 4,
                properties: Some("p".into()),
                reconsume_times: Some(5),
                unit_mode: Some(true),
                max_reconsume_times: Some(6),
                batch: Some(true),
                bname: Some("b".into()),
                lo: None,
            }
        };
    }
    let (long, short) = (filled!(SendMessageRequestHeader), filled!(SendMessageRequestHeaderV2));
    let read = SendRequest {
        producer_group: "P",
        topic: "T",
        default_topic: "D",
        default_topic_queue_nums: 1,
        queue_id: Some(-1),
        sys_flag: Some(2),
        born_timestamp: Some(3),
        flag: Some(4),
        properties: "p",
        reconsume_times: Some(5),
        unit_mode: true,
        max_reconsume_times: Some(6),
        batch: true,
    };
    let both = [
        Command::request_with(request::SEND_MESSAGE, &long),
        Command::request_with(request::SEND_REPLY_MESSAGE, &long),
        Command::request_with(request::SEND_MESSAGE_V2, &short),
        Command::request_with(request::SEND_BATCH_MESSAGE, &short),
        Command::request_with(request::SEND_REPLY_MESSAGE_V2, &short),
    ];
    for command in both {
        assert_eq!(SendRequest::of(&command), read, "{}", command.code);
    }
    let mut mixed = Command::request_with(request::SEND_MESSAGE, &short);
    assert_eq!(SendRequest::of(&mixed), SendRequest::default());
    mixed.ext.push("queueId", "seven");
    mixed.ext.push("batch", "0");
    mixed.ext.push("bornTimestamp", "+8");
    let read = SendRequest::of(&mixed);
    assert_eq!((read.queue_id, read.batch, read.born_timestamp, read.reconsume_times), (None, false, Some(8), None));
}

#[test]
fn absent_is_not_zero_where_it_matters() {
    let header: UpdateConsumerOffsetRequestHeader = Command::default().header();
    assert_eq!((header.queue_id, header.commit_offset), (None, None));
    let header: PullMessageRequestHeader = Command::default().header();
    assert_eq!((header.queue_id, header.queue_offset), (None, None));
    assert!(Command::default().header::<GetMaxOffsetRequestHeader>().committed);
    assert_eq!(Command::default().header::<ResetOffsetRequestHeader>().queue_id, -1);
}

#[test]
fn bodies_of_other_clients() {
    // Go: no fingerprint, no withoutSub; a subscription without a type; enums as ordinals and in any case.
    let text = br#"{"clientID":"c","producerDataSet":null,"consumerDataSet":[{"groupName":"G","consumeType":"consume_passively",
        "messageModel":"CLUSTERING","consumeFromWhere":"NOWHERE","unitMode":0,"subscriptionDataSet":[{"topic":"T",
        "subString":"*","subVersion":"17","codeSet":[],"tagsSet":[]},null,7]}]}"#;
    let heartbeat: HeartbeatData = json::decode(text).unwrap();
    let group = &heartbeat.consumer_data_set[0];
    assert_eq!((heartbeat.heartbeat_fingerprint, heartbeat.without_sub, group.unit_mode), (0, false, false));
    assert_eq!((group.consume_type, group.consume_from_where), (ConsumeType::Passively, ConsumeFromWhere::LastOffset));
    assert_eq!(group.subscription_data_set.len(), 1);
    let subscription = &group.subscription_data_set[0];
    assert_eq!((subscription.expression_type.as_str(), subscription.sub_version), ("TAG", 17));
    let data: ConsumerData = json::decode(b"{\"consumeType\":2,\"messageModel\":9}").unwrap();
    assert_eq!((data.consume_type, data.message_model), (ConsumeType::Pop, MessageModel::Clustering));
}

#[test]
fn keys_of_maps_in_every_form() {
    let queue = MessageQueue::new("T", "b", 3);
    let expected = BTreeMap::from([(queue, 5)]);
    for key in [
        r#"{"brokerName":"b","queueId":3,"topic":"T"}"#,
        r#"{topic:'T',queueId:'3',brokerName:'b'}"#,
        r#""{\"brokerName\":\"b\",\"queueId\":3,\"topic\":\"T\"}""#,
    ] {
        let text = format!("{{\"offsetTable\":{{{key}:5}}}}");
        let body: ResetOffsetBody = json::decode(text.as_bytes()).unwrap();
        assert_eq!(body.offset_table, expected, "{key}");
    }
    let body: DelayOffsetSerializeWrapper =
        json::decode(b"{offsetTable:{1:10,\"2\":\"20\",'3':30.0,x:1,4:null}}").unwrap();
    assert_eq!(body.offset_table, BTreeMap::from([(1, 10), (2, 20), (3, 30)]));
}

#[test]
fn defaults_stand_for_what_is_absent_or_null() {
    let text = br#"{"groupName":"G","retryMaxTimes":null,"consume_enable":"false","groupRetryPolicy":null,"later":{}}"#;
    let group: SubscriptionGroupConfig = json::decode(text).unwrap();
    let expected =
        SubscriptionGroupConfig { group_name: "G".into(), consume_enable: false, ..SubscriptionGroupConfig::default() };
    assert_eq!(group, expected);
    assert_eq!((group.retry_max_times, group.retry_queue_nums, group.consume_timeout_minute), (16, 1, 15));
    let topic: TopicConfig = json::decode(b"").unwrap();
    assert_eq!((topic.perm, topic.read_queue_nums, topic.write_queue_nums), (6, 16, 16));
    assert_eq!(json::decode::<TopicConfig>(b"null"), Ok(topic));
    assert!(json::decode::<TopicConfig>(b"[]").is_err());
}

#[test]
fn booleans_of_bodies() {
    for (text, value) in [("true", true), ("1", true), ("\"true\"", true), ("\"1\"", true), ("0", false), ("7", false)]
    {
        assert_eq!(Json::parse(text.as_bytes()).unwrap().to_bool(), Some(value), "{text}");
    }
    assert_eq!(Json::parse(b"'maybe'").unwrap().to_bool(), None);
}

#[test]
fn numbers() {
    let number = |text: &str| Json::parse(text.as_bytes()).unwrap().to_i64();
    assert_eq!(number("9223372036854775807"), Some(i64::MAX));
    assert_eq!(number("-9223372036854775808"), Some(i64::MIN));
    assert_eq!(
        (number("34.0"), number("'34'"), number("' 34 '"), number("true")),
        (Some(34), Some(34), Some(34), Some(1))
    );
    assert_eq!(
        (number("1e3"), number("1e30"), number("'x'"), number("[]"), number("null")),
        (Some(1000), None, None, None, None)
    );
    assert_eq!(Json::parse(b"'2.5'").unwrap().to_f64(), Some(2.5));
}

#[test]
fn strings() {
    let text = |text: &[u8]| Json::parse(text).unwrap().as_str().unwrap().to_owned();
    assert_eq!(text(br#""a\u0001b\n\/\\\"\'\x41\v""#), "a\u{1}b\n/\\\"'A\u{B}");
    assert_eq!(text(br#""\uD83D\uDE00""#), "\u{1F600}");
    assert_eq!(text(br#""\uD83D\u0041 \uDE00""#), "\u{FFFD}A \u{FFFD}");
    assert_eq!(text(b"\"\xFFa\""), "\u{FFFD}a");
    assert_eq!(text(b"'it said \"a\"'"), "it said \"a\"");
}

#[test]
fn members_are_found_by_similar_names() {
    let json = Json::parse(br#"{"a_b":1,"AB":2,"a":3,"a":4}"#).unwrap();
    let number = |name: &str| json.get(name).and_then(Json::to_i64);
    assert_eq!(
        (number("AB"), number("a_b"), number("a"), number("aB"), number("c")),
        (Some(2), Some(1), Some(4), Some(2), None)
    );
}
