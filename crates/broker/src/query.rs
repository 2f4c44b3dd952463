//! QUERY_MESSAGE and VIEW_MESSAGE_BY_ID. Source: `broker/.../processor/QueryMessageProcessor.java`;
//! reference broker 11.

use wire::{
    Command,
    code::response,
    header::{QueryMessageRequestHeader, QueryMessageResponseHeader, ViewMessageRequestHeader},
};

use crate::{context::Broker, needs::Needs, persist};

/// `indexType` of a query by tags; K and U are looked up alike, as keys.
const TAG: &str = "T";

/// Entries of the index that are read while other requests wait: a fraction of a millisecond. Behind a slot that many keys share
/// there may be millions.
const FEW_ENTRIES: usize = 256;

const KEY_AND_TIMES: Needs = Needs {
    fields: &["topic", "key", "maxNum", "beginTimestamp", "endTimestamp"],
    ints: &["maxNum"],
    longs: &["beginTimestamp", "endTimestamp"],
};
const OFFSET: Needs = Needs { fields: &["offset"], ints: &[], longs: &["offset"] };

/// QUERY_MESSAGE: by key, by tags or by the client's message id. `lastKey` goes on in an index of
/// RocksDB; as in Java, index files answer with the newest.
pub fn by_key(broker: &Broker, command: &Command) -> Result<Command, String> {
    let header: QueryMessageRequestHeader = KEY_AND_TIMES.read(command)?;
    let config = broker.config();
    let unique = command.ext.get("_UNIQUE_KEY_QUERY").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let wanted = if unique { config.default_query_max_num } else { header.max_num };
    let wanted = wanted.clamp(1, config.max_msgs_num_batch.max(1));
    let times = (header.begin_timestamp, header.end_timestamp);
    let key = match header.index_type.as_deref() {
        Some(TAG) if !unique => store::tags_key(&header.key),
        _ => header.key,
    };
    let ask = |entries| broker.store.query_within(&header.topic, &key, wanted as usize, times, entries);
    let found = ask(FEW_ENTRIES).or_else(|| persist::apart(|| ask(usize::MAX))).unwrap_or_default();
    let answer_header = QueryMessageResponseHeader {
        index_last_update_timestamp: found.index_last_update_timestamp,
        index_last_update_phyoffset: found.index_last_update_phyoffset,
    };
    if found.messages.is_empty() {
        let remark = "can not find message, maybe time range not correct";
        return Ok(command.error(response::QUERY_NOT_FOUND, remark).with_header(&answer_header));
    }
    Ok(command.ok_body(found.messages).with_header(&answer_header))
}

/// VIEW_MESSAGE_BY_ID: by physical offset.
pub fn by_offset(broker: &Broker, command: &Command) -> Result<Command, String> {
    let header: ViewMessageRequestHeader = OFFSET.read(command)?;
    match broker.store.read_record(header.offset) {
        Some(record) => Ok(command.ok_body(record)),
        None => {
            let remark = format!("can not find message by the offset, {}", header.offset);
            Ok(command.error(response::SYSTEM_ERROR, remark))
        }
    }
}
