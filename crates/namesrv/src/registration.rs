//! What a broker sends when it registers: three forms of body, and the header beside them.
//! Source: `RegisterBrokerBody.java`, `DefaultRequestProcessor.registerBroker`; reference remoting 11.9.
//!
//! Bytes in, a [`Registration`] or a text for the sender out. Reads no more of a compressed body than
//! [`MAX_INFLATED`] bytes, and reserves nothing that a length in it only promises.

use std::{collections::BTreeMap, io::Read};

use flate2::read::ZlibDecoder;
use wire::{
    Command,
    body::{
        DataVersion, RegisterBrokerBody, TopicConfig, TopicConfigAndMappingSerializeWrapper,
        TopicConfigSerializeWrapper, TopicFilterType,
    },
    frame::MAX_FRAME,
    header::RegisterBrokerRequestHeader,
    json::{self, FromJson, Json, JsonError},
    record::body_crc,
};

use crate::{request::Refusal, routes::Registration};

/// The most that a compressed body may be when it is not compressed.
pub const MAX_INFLATED: u64 = 4 * MAX_FRAME as u64;

/// From this version on (V3_0_11) the body holds filter servers too.
const WITH_FILTER_SERVERS: i32 = 37;
/// From this version on (V5_0_0) a compressed body holds static topics too.
const WITH_MAPPINGS: i32 = 413;

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("{0}")]
    Json(#[from] JsonError),
    #[error("{0}")]
    Inflate(#[from] std::io::Error),
    #[error("the compressed body ends inside {0}")]
    Short(&'static str),
    #[error("topic entry '{0}' is not 'name readQueues writeQueues perm filterType attributes'")]
    Topic(String),
    #[error("the compressed body has more than {MAX_INFLATED} bytes inside")]
    Large,
}

/// Reads a REGISTER_BROKER request, whose required fields are there.
pub fn read(request: &Command, connection: u64, delete_unlisted: bool) -> Result<Registration, Refusal> {
    let header: RegisterBrokerRequestHeader = request.header();
    if header.body_crc32 != 0 && body_crc(&request.body) != header.body_crc32 as u32 {
        return Err(Refusal::system("crc32 not match"));
    }
    let body = read_body(request, header.compressed)
        .map_err(|error| Refusal::system(format!("Failed to decode RegisterBrokerBody: {error}")))?;
    let content = body.topic_config_serialize_wrapper;
    Ok(Registration {
        cluster: header.cluster_name,
        broker: header.broker_name,
        broker_id: header.broker_id,
        addr: header.broker_addr,
        ha_addr: header.ha_server_addr,
        zone: header.zone_name,
        heartbeat_timeout_ms: header.heartbeat_timeout_millis.map(|millis| millis.max(0) as u64),
        acting_master: header.enable_acting_master,
        version: content.data_version,
        topics: named(content.topic_config_table),
        mappings: content.topic_queue_mapping_info_map.into_iter().map(|(name, info)| (name, bare_ids(info))).collect(),
        filter_servers: (request.version >= WITH_FILTER_SERVERS).then_some(body.filter_server_list),
        connection,
        delete_unlisted,
    })
}

/// An entry without a name has the one it stands under.
fn named(table: BTreeMap<String, TopicConfig>) -> Vec<TopicConfig> {
    let named = |(name, topic): (String, TopicConfig)| match topic.topic_name.is_empty() {
        true => TopicConfig { topic_name: name, ..topic },
        false => topic,
    };
    table.into_iter().map(named).collect()
}

/// A static topic with bare queue ids, which is how Java hands them on however they came.
fn bare_ids(mut mapping: Json) -> Json {
    let Json::Obj(members) = &mut mapping else { return mapping };
    let ids = members.iter_mut().filter(|(name, _)| name.as_str() == Some("currIdMap"));
    for (_, map) in ids {
        let Json::Obj(entries) = map else { continue };
        for (key, _) in entries {
            if let Some(id) = key.to_i64() {
                *key = Json::Num(id.to_string());
            }
        }
    }
    mapping
}

fn read_body(request: &Command, compressed: bool) -> Result<RegisterBrokerBody, BodyError> {
    if request.version < WITH_FILTER_SERVERS {
        let old: TopicConfigSerializeWrapper = json::decode(&request.body)?;
        return Ok(body_of(old.data_version, old.topic_config_table));
    }
    match compressed && !request.body.is_empty() {
        true => inflated(&request.body, request.version),
        false => Ok(json::decode(&request.body)?),
    }
}

fn body_of(data_version: DataVersion, topic_config_table: BTreeMap<String, TopicConfig>) -> RegisterBrokerBody {
    let content = TopicConfigAndMappingSerializeWrapper { data_version, topic_config_table, ..Default::default() };
    RegisterBrokerBody { topic_config_serialize_wrapper: content, ..Default::default() }
}

fn inflated(body: &[u8], version: i32) -> Result<RegisterBrokerBody, BodyError> {
    let mut plain = Vec::new();
    ZlibDecoder::new(body).take(MAX_INFLATED + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > MAX_INFLATED {
        return Err(BodyError::Large);
    }
    let mut rest = plain.as_slice();
    let data_version = json::decode(block(&mut rest, "the data version")?)?;
    let mut body = body_of(data_version, Default::default());
    let content = &mut body.topic_config_serialize_wrapper;
    for _ in 0..number(&mut rest, "the number of topics")? {
        let topic = topic_of(&String::from_utf8_lossy(block(&mut rest, "a topic")?))?;
        content.topic_config_table.insert(topic.topic_name.clone(), topic);
    }
    // Java goes on without filter servers when it cannot read them.
    body.filter_server_list = json::decode(block(&mut rest, "the filter servers")?).unwrap_or_default();
    if version >= WITH_MAPPINGS {
        for _ in 0..number(&mut rest, "the number of static topics")? {
            let mapping = Json::parse(block(&mut rest, "a static topic")?)?;
            let topic = mapping.get("topic").and_then(String::from_json).unwrap_or_default();
            content.topic_queue_mapping_info_map.insert(topic, mapping);
        }
    }
    Ok(body)
}

fn number(rest: &mut &[u8], what: &'static str) -> Result<u32, BodyError> {
    let (word, tail) = rest.split_first_chunk::<4>().ok_or(BodyError::Short(what))?;
    *rest = tail;
    // A negative count is none, as the loops of Java have it.
    Ok(i32::from_be_bytes(*word).max(0) as u32)
}

fn block<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], BodyError> {
    let length = number(rest, what)? as usize;
    let (block, tail) = rest.split_at_checked(length).ok_or(BodyError::Short(what))?;
    *rest = tail;
    Ok(block)
}

/// Source: `TopicConfig.decode`. Order and flags are not in it; attributes do not matter to routes.
fn topic_of(text: &str) -> Result<TopicConfig, BodyError> {
    let wrong = || BodyError::Topic(text.to_owned());
    let parts: Vec<&str> = text.splitn(6, ' ').collect();
    let [name, read, write, perm, filter, ..] = parts[..] else { return Err(wrong()) };
    let number = |part: &str| part.parse().map_err(|_| wrong());
    Ok(TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: number(read)?,
        write_queue_nums: number(write)?,
        perm: number(perm)?,
        topic_filter_type: TopicFilterType::from_name(filter).ok_or_else(wrong)?,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};
    use wire::code::request;

    use super::*;

    fn deflate(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn push(out: &mut Vec<u8>, block: &str) {
        out.extend((block.len() as i32).to_be_bytes());
        out.extend(block.as_bytes());
    }

    fn compressed_plain() -> Vec<u8> {
        let mut plain = Vec::new();
        push(&mut plain, r#"{"counter":3,"stateVersion":0,"timestamp":7}"#);
        plain.extend(2i32.to_be_bytes());
        push(&mut plain, "T1 4 8 6 SINGLE_TAG {}");
        push(&mut plain, r#"T2 1 1 4 MULTI_TAG {"message.type":"FIFO"}"#);
        push(&mut plain, r#"["10.0.0.9:1"]"#);
        plain.extend(1i32.to_be_bytes());
        push(&mut plain, r#"{"bname":"broker-a","currIdMap":{0:0},"topic":"T1","totalQueues":8}"#);
        plain
    }

    fn request(body: Vec<u8>, compressed: bool) -> Command {
        let header = RegisterBrokerRequestHeader { compressed, broker_name: "broker-a".into(), ..Default::default() };
        Command::request_with(request::REGISTER_BROKER, &header).with_body(body)
    }

    fn remark(request: &Command) -> String {
        read(request, 1, false).unwrap_err().remark
    }

    #[test]
    fn compressed_body() {
        let request = request(deflate(&compressed_plain()), true);
        let registration = read(&request, 9, true).unwrap();
        assert_eq!(registration.version, DataVersion { counter: 3, state_version: 0, timestamp: 7 });
        let topics: Vec<_> = registration
            .topics
            .iter()
            .map(|t| (t.topic_name.as_str(), t.read_queue_nums, t.write_queue_nums, t.perm))
            .collect();
        assert_eq!(topics, [("T1", 4, 8, 6), ("T2", 1, 1, 4)]);
        assert_eq!(registration.filter_servers.unwrap(), ["10.0.0.9:1"]);
        assert_eq!(registration.mappings["T1"].get("totalQueues").unwrap().to_i64(), Some(8));
        assert_eq!((registration.connection, registration.delete_unlisted), (9, true));
        let before_5 = read(&Command { version: 400, ..request }, 1, false).unwrap();
        assert!(before_5.mappings.is_empty());
    }

    #[test]
    fn every_cut_of_a_compressed_body_is_an_error() {
        let plain = compressed_plain();
        for end in 0..plain.len() {
            let text = remark(&request(deflate(&plain[..end]), true));
            assert!(text.starts_with("Failed to decode RegisterBrokerBody: the compressed body ends inside"), "{text}");
        }
    }

    #[test]
    fn a_small_body_with_much_inside_is_refused() {
        let bomb = deflate(&vec![0; MAX_INFLATED as usize + 1]);
        assert!(bomb.len() < 1 << 20);
        assert!(remark(&request(bomb, true)).contains("has more than"));
    }

    #[test]
    fn garbage_is_an_error_with_a_reason() {
        for (body, compressed) in [(&b"{{{"[..], false), (b"[1,2]", false), (b"not zlib", true), (&[0xff; 40], false)] {
            let text = remark(&request(body.to_vec(), compressed));
            assert!(text.starts_with("Failed to decode RegisterBrokerBody: "), "{text}");
        }
        let mut plain = Vec::new();
        push(&mut plain, "{}");
        plain.extend(1i32.to_be_bytes());
        push(&mut plain, "T1 many 8 6 SINGLE_TAG {}");
        assert!(remark(&request(deflate(&plain), true)).contains("'T1 many 8 6 SINGLE_TAG {}'"));
    }

    #[test]
    fn the_checksum_counts_when_it_is_there() {
        let body = br#"{"filterServerList":[]}"#.to_vec();
        let mut good = request(body.clone(), false);
        good.ext.set("bodyCrc32", &body_crc(&body).to_string());
        assert!(read(&good, 1, false).is_ok());
        good.ext.set("bodyCrc32", "1");
        assert_eq!(remark(&good), "crc32 not match");
    }

    #[test]
    fn no_body_is_an_empty_registration_of_version_zero() {
        let registration = read(&request(Vec::new(), true), 1, false).unwrap();
        assert_eq!((registration.version, registration.topics.len()), (DataVersion::default(), 0));
    }

    #[test]
    fn a_broker_from_before_filter_servers_sends_topics_alone() {
        let body = br#"{"dataVersion":{"counter":1},"topicConfigTable":{"T":{"perm":4,"readQueueNums":2}}}"#;
        let request = Command { version: 30, ..request(body.to_vec(), true) };
        let registration = read(&request, 1, false).unwrap();
        assert_eq!((registration.topics[0].topic_name.as_str(), registration.topics[0].perm), ("T", 4));
        assert_eq!(registration.filter_servers, None);
    }
}
