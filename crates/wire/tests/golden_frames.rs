//! Frames of Java's own brokers and clients: ours read them and write the same.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use support::{Captured, captured};
use wire::{
    ExtFields,
    body::*,
    frame,
    header::*,
    json::{self, FromJson, Json, ToJson},
};

#[test]
fn every_frame_encodes_again_to_its_bytes() {
    let (mut equal, mut shorter) = (0, 0);
    for frame in captured() {
        let command = frame.command();
        let mut again = BytesMut::new();
        frame::encode(&command, &mut again);
        if again == frame.bytes {
            equal += 1;
            continue;
        }
        // Java reads an empty value of a binary header as absent, hence so do we, and then it is gone.
        assert!(!frame.is_json() && has_empty_value(&frame.bytes), "{} differs", frame.place);
        assert_eq!(support::decode(&again.freeze()), command, "{}", frame.place);
        shorter += 1;
    }
    assert_eq!((equal, shorter), (848, 2));
}

/// True when a binary header holds an entry whose value has no bytes.
fn has_empty_value(frame: &[u8]) -> bool {
    let header = &frame[8..];
    let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 17 + number(13);
    let end = at + 4 + number(at);
    at += 4;
    while at < end {
        at += 2 + usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
        if number(at) == 0 {
            return true;
        }
        at += 4 + number(at);
    }
    false
}

#[test]
fn headers_know_every_field_that_java_sends() {
    let mut seen = BTreeSet::new();
    for frame in captured() {
        let command = frame.command();
        let Some(again) = through_header(&frame, &command.ext) else { continue };
        let known: BTreeMap<_, _> = again.iter().collect();
        for (name, value) in command.ext.iter().filter(|(name, _)| !added_by_hooks(name)) {
            assert_eq!(known.get(name), Some(&value), "{name} of {} {}", frame.name, frame.place);
        }
        seen.insert((frame.name, frame.kind));
    }
    assert!(seen.len() >= 60, "{} kinds of headers", seen.len());
}

fn added_by_hooks(name: &str) -> bool {
    matches!(name, "MSG_REGION" | "TRACE_ON" | "IS_SUPPORT_HEART_BEAT_V2" | "IS_SUB_CHANGE" | "ReqT")
}

fn through<H: ExtHeader>(ext: &ExtFields) -> Option<ExtFields> {
    let mut again = ExtFields::new();
    H::read_ext(ext).write_ext(&mut again);
    Some(again)
}

fn through_header(frame: &Captured, ext: &ExtFields) -> Option<ExtFields> {
    if frame.kind == "response" { through_response(&frame.name, ext) } else { through_request(&frame.name, ext) }
}

fn through_response(name: &str, ext: &ExtFields) -> Option<ExtFields> {
    if ext.is_empty() {
        return None;
    }
    match name {
        "SEND_MESSAGE" | "SEND_MESSAGE_V2" | "SEND_BATCH_MESSAGE" => through::<SendMessageResponseHeader>(ext),
        "PULL_MESSAGE" => through::<PullMessageResponseHeader>(ext),
        "QUERY_MESSAGE" => through::<QueryMessageResponseHeader>(ext),
        "QUERY_CONSUMER_OFFSET" => through::<QueryConsumerOffsetResponseHeader>(ext),
        "SEARCH_OFFSET_BY_TIMESTAMP" => through::<SearchOffsetResponseHeader>(ext),
        "GET_MAX_OFFSET" => through::<GetMaxOffsetResponseHeader>(ext),
        "GET_MIN_OFFSET" => through::<GetMinOffsetResponseHeader>(ext),
        "GET_ALL_TOPIC_CONFIG" => through::<GetAllTopicConfigResponseHeader>(ext),
        "GET_ALL_SUBSCRIPTIONGROUP_CONFIG" => through::<GetAllSubscriptionGroupResponseHeader>(ext),
        "GET_BROKER_CONFIG" => through::<GetBrokerConfigResponseHeader>(ext),
        "GET_KV_CONFIG" => through::<GetKVConfigResponseHeader>(ext),
        "REGISTER_BROKER" => through::<RegisterBrokerResponseHeader>(ext),
        "QUERY_DATA_VERSION" => through::<QueryDataVersionResponseHeader>(ext),
        "WIPE_WRITE_PERM_OF_BROKER" => through::<WipeWritePermOfBrokerResponseHeader>(ext),
        "ADD_WRITE_PERM_OF_BROKER" => through::<AddWritePermOfBrokerResponseHeader>(ext),
        "EXCHANGE_BROKER_HA_INFO" => through::<ExchangeHAInfoResponseHeader>(ext),
        "RECALL_MESSAGE" => through::<RecallMessageResponseHeader>(ext),
        "HEART_BEAT" | "UNREGISTER_CLIENT" | "UPDATE_CONSUMER_OFFSET" => through::<HeartbeatRequestHeader>(ext),
        name if is_pop(name) => None,
        other => panic!("the answer to {other} has fields: {ext:?}"),
    }
}

fn is_pop(name: &str) -> bool {
    ["POP_MESSAGE", "ACK_MESSAGE", "CHANGE_MESSAGE_INVISIBLETIME", "NOTIFICATION", "CODE_3442"].contains(&name)
}

fn through_request(name: &str, ext: &ExtFields) -> Option<ExtFields> {
    if ext.is_empty() {
        return None;
    }
    through_message_request(name, ext).or_else(|| through_broker_request(name, ext)).or_else(|| match name {
        name if is_pop(name) => None,
        other => panic!("{other} has fields: {ext:?}"),
    })
}

fn through_message_request(name: &str, ext: &ExtFields) -> Option<ExtFields> {
    match name {
        "SEND_MESSAGE" => through::<SendMessageRequestHeader>(ext),
        "SEND_MESSAGE_V2" | "SEND_BATCH_MESSAGE" => through::<SendMessageRequestHeaderV2>(ext),
        "CONSUMER_SEND_MSG_BACK" => through::<ConsumerSendMsgBackRequestHeader>(ext),
        "RECALL_MESSAGE" => through::<RecallMessageRequestHeader>(ext),
        "END_TRANSACTION" => through::<EndTransactionRequestHeader>(ext),
        "CHECK_TRANSACTION_STATE" => through::<CheckTransactionStateRequestHeader>(ext),
        "PULL_MESSAGE" => through::<PullMessageRequestHeader>(ext),
        "QUERY_MESSAGE" => through::<QueryMessageRequestHeader>(ext),
        "VIEW_MESSAGE_BY_ID" => through::<ViewMessageRequestHeader>(ext),
        "QUERY_CONSUMER_OFFSET" => through::<QueryConsumerOffsetRequestHeader>(ext),
        "UPDATE_CONSUMER_OFFSET" => through::<UpdateConsumerOffsetRequestHeader>(ext),
        "SEARCH_OFFSET_BY_TIMESTAMP" => through::<SearchOffsetRequestHeader>(ext),
        "GET_MAX_OFFSET" => through::<GetMaxOffsetRequestHeader>(ext),
        "GET_MIN_OFFSET" => through::<GetMinOffsetRequestHeader>(ext),
        "HEART_BEAT" | "LOCK_BATCH_MQ" | "UNLOCK_BATCH_MQ" => through::<HeartbeatRequestHeader>(ext),
        "UNREGISTER_CLIENT" => through::<UnregisterClientRequestHeader>(ext),
        "GET_CONSUMER_LIST_BY_GROUP" => through::<GetConsumerListByGroupRequestHeader>(ext),
        "NOTIFY_CONSUMER_IDS_CHANGED" => through::<NotifyConsumerIdsChangedRequestHeader>(ext),
        "INVOKE_BROKER_TO_RESET_OFFSET" | "RESET_CONSUMER_CLIENT_OFFSET" => through::<ResetOffsetRequestHeader>(ext),
        _ => None,
    }
}

fn through_broker_request(name: &str, ext: &ExtFields) -> Option<ExtFields> {
    match name {
        "UPDATE_AND_CREATE_TOPIC" | "UPDATE_AND_CREATE_STATIC_TOPIC" => through::<CreateTopicRequestHeader>(ext),
        "DELETE_TOPIC_IN_BROKER" => through::<DeleteTopicRequestHeader>(ext),
        "GET_TOPIC_CONFIG" => through::<GetTopicConfigRequestHeader>(ext),
        "GET_TOPIC_STATS_INFO" => through::<GetTopicStatsInfoRequestHeader>(ext),
        "DELETE_SUBSCRIPTIONGROUP" => through::<DeleteSubscriptionGroupRequestHeader>(ext),
        "GET_CONSUMER_CONNECTION_LIST" => through::<GetConsumerConnectionListRequestHeader>(ext),
        "GET_PRODUCER_CONNECTION_LIST" => through::<GetProducerConnectionListRequestHeader>(ext),
        "GET_CONSUME_STATS" => through::<GetConsumeStatsRequestHeader>(ext),
        "GET_BROKER_CONSUME_STATS" => through::<GetConsumeStatsInBrokerHeader>(ext),
        "QUERY_TOPIC_CONSUME_BY_WHO" => through::<QueryTopicConsumeByWhoRequestHeader>(ext),
        "VIEW_BROKER_STATS_DATA" => through::<ViewBrokerStatsDataRequestHeader>(ext),
        "QUERY_CONSUME_QUEUE" => through::<QueryConsumeQueueRequestHeader>(ext),
        "GET_ALL_TOPIC_CONFIG" => through::<GetAllTopicConfigRequestHeader>(ext),
        "GET_ALL_SUBSCRIPTIONGROUP_CONFIG" => through::<GetAllSubscriptionGroupRequestHeader>(ext),
        "EXCHANGE_BROKER_HA_INFO" => through::<ExchangeHAInfoRequestHeader>(ext),
        "RESET_MASTER_FLUSH_OFFSET" => through::<ResetMasterFlushOffsetHeader>(ext),
        "REGISTER_BROKER" => through::<RegisterBrokerRequestHeader>(ext),
        "UNREGISTER_BROKER" => through::<UnRegisterBrokerRequestHeader>(ext),
        "GET_ROUTEINFO_BY_TOPIC" => through::<GetRouteInfoRequestHeader>(ext),
        "QUERY_DATA_VERSION" => through::<QueryDataVersionRequestHeader>(ext),
        "BROKER_HEARTBEAT" => through::<BrokerHeartbeatRequestHeader>(ext),
        "GET_BROKER_MEMBER_GROUP" => through::<GetBrokerMemberGroupRequestHeader>(ext),
        "PUT_KV_CONFIG" => through::<PutKVConfigRequestHeader>(ext),
        "GET_KV_CONFIG" => through::<GetKVConfigRequestHeader>(ext),
        "DELETE_KV_CONFIG" => through::<DeleteKVConfigRequestHeader>(ext),
        "WIPE_WRITE_PERM_OF_BROKER" => through::<WipeWritePermOfBrokerRequestHeader>(ext),
        "ADD_WRITE_PERM_OF_BROKER" => through::<AddWritePermOfBrokerRequestHeader>(ext),
        "DELETE_TOPIC_IN_NAMESRV" => through::<DeleteTopicFromNamesrvRequestHeader>(ext),
        _ => None,
    }
}

#[test]
fn bodies_keep_every_member_that_java_sends() {
    let mut seen = BTreeSet::new();
    for frame in captured() {
        let body = frame.command().body;
        let is_json = matches!(body.first(), Some(b'{' | b'['));
        let Some(again) = is_json.then(|| through_body(&frame, &body)).flatten() else { continue };
        let java = settled(Json::parse(&body).unwrap());
        let ours = settled(Json::parse(again.as_bytes()).unwrap());
        assert_eq!(ours.to_text(), java.to_text(), "{} {}", frame.name, frame.place);
        seen.insert((frame.name, frame.kind));
    }
    assert!(seen.len() >= 30, "{} kinds of bodies", seen.len());
}

/// Maps and sets have no order in Java: both sides are sorted. Members Java derives and we leave out are dropped.
fn settled(json: Json) -> Json {
    match json {
        Json::Obj(members) => {
            let kept = members.into_iter().filter(|(key, _)| !derived(key));
            let mut members: Vec<_> = kept.map(|(key, value)| (settled(key), settled(value))).collect();
            members.sort_by_key(|(key, _)| key.to_text());
            Json::Obj(members)
        }
        Json::Arr(items) => {
            let mut items: Vec<_> = items.into_iter().map(settled).collect();
            items.sort_by_key(Json::to_text);
            Json::Arr(items)
        }
        other => other,
    }
}

fn derived(key: &Json) -> bool {
    matches!(key.as_str(), Some("groupTopicMap" | "pullOffsetTable"))
}

/// The body through our type in Java's form; a route in the standard form when the keys of Java's are quoted.
fn text<T: FromJson + ToJson + Default>(body: &[u8]) -> Option<String> {
    let value: T = json::decode(body).unwrap();
    let standard = body.windows(16).any(|part| part.starts_with(b"\"brokerAddrs\":{\""));
    let text = if standard { json::encode_standard(&value) } else { json::encode(&value) };
    Some(String::from_utf8(text.to_vec()).unwrap())
}

fn through_body(frame: &Captured, body: &[u8]) -> Option<String> {
    if frame.kind == "response" { through_answer(&frame.name, body) } else { through_question(&frame.name, body) }
}

fn through_question(name: &str, body: &[u8]) -> Option<String> {
    match name {
        "REGISTER_BROKER" => text::<RegisterBrokerBody>(body),
        "QUERY_DATA_VERSION" => text::<DataVersion>(body),
        "HEART_BEAT" => text::<HeartbeatData>(body),
        "LOCK_BATCH_MQ" => text::<LockBatchRequestBody>(body),
        "UNLOCK_BATCH_MQ" => text::<UnlockBatchRequestBody>(body),
        "CHECK_CLIENT_CONFIG" => text::<CheckClientRequestBody>(body),
        "SET_MESSAGE_REQUEST_MODE" => text::<SetMessageRequestModeRequestBody>(body),
        "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP" => text::<SubscriptionGroupConfig>(body),
        "RESET_CONSUMER_CLIENT_OFFSET" => text::<ResetOffsetBody>(body),
        "UPDATE_AND_CREATE_STATIC_TOPIC" | "BATCH_ACK_MESSAGE" => text::<Json>(body),
        other => unknown_body(other, body),
    }
}

fn through_answer(name: &str, body: &[u8]) -> Option<String> {
    match name {
        "REGISTER_BROKER" | "GET_BROKER_RUNTIME_INFO" => text::<KvTable>(body),
        "GET_ALL_CONSUMER_OFFSET" => text::<ConsumerOffsetSerializeWrapper>(body),
        "GET_ALL_DELAY_OFFSET" => text::<DelayOffsetSerializeWrapper>(body),
        "GET_ALL_MESSAGE_REQUEST_MODE" => text::<MessageRequestModeSerializeWrapper>(body),
        "GET_ALL_PRODUCER_INFO" => text::<ProducerTableInfo>(body),
        "GET_ALL_SUBSCRIPTIONGROUP_CONFIG" => text::<SubscriptionGroupWrapper>(body),
        "GET_ALL_TOPIC_CONFIG" => text::<TopicConfigAndMappingSerializeWrapper>(body),
        "GET_ALL_TOPIC_LIST_FROM_NAMESERVER" | "GET_SYSTEM_TOPIC_LIST_FROM_BROKER" => text::<TopicList>(body),
        "GET_BROKER_CLUSTER_INFO" => text::<ClusterInfo>(body),
        "GET_BROKER_CONSUME_STATS" => text::<ConsumeStatsList>(body),
        "GET_BROKER_HA_STATUS" => text::<HARuntimeInfo>(body),
        "GET_BROKER_MEMBER_GROUP" => text::<GetBrokerMemberGroupResponseBody>(body),
        "GET_CONSUMER_LIST_BY_GROUP" => text::<GetConsumerListByGroupResponseBody>(body),
        "GET_CONSUMER_CONNECTION_LIST" => text::<ConsumerConnection>(body),
        "GET_CONSUME_STATS" => text::<ConsumeStats>(body),
        "GET_PRODUCER_CONNECTION_LIST" => text::<ProducerConnection>(body),
        "GET_ROUTEINFO_BY_TOPIC" => text::<TopicRouteData>(body),
        "GET_TIMER_METRICS" => text::<TimerMetricsSerializeWrapper>(body),
        "GET_TOPIC_CONFIG" => text::<TopicConfig>(body),
        "GET_TOPIC_STATS_INFO" => text::<TopicStatsTable>(body),
        "INVOKE_BROKER_TO_RESET_OFFSET" => text::<ResetOffsetBody>(body),
        "LOCK_BATCH_MQ" => text::<LockBatchResponseBody>(body),
        "QUERY_CONSUME_QUEUE" => text::<QueryConsumeQueueResponseBody>(body),
        "QUERY_TOPIC_CONSUME_BY_WHO" => text::<GroupList>(body),
        "VIEW_BROKER_STATS_DATA" => text::<BrokerStatsData>(body),
        "QUERY_DATA_VERSION" => text::<DataVersion>(body),
        "GET_COLD_DATA_FLOW_CTR_INFO" => text::<Json>(body),
        other => unknown_body(other, body),
    }
}

/// Message bodies may begin like JSON by chance; what is JSON has to be known.
fn unknown_body(name: &str, body: &[u8]) -> Option<String> {
    assert!(Json::parse(body).is_err(), "{name} has a body: {}", String::from_utf8_lossy(body));
    None
}
