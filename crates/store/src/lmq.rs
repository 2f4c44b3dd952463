//! Light message queues (LMQ): a message of an ordinary topic names further queues `%LMQ%...` that it goes to; each gets
//! a unit that points to the same record. Source: `LmqDispatch.java`, `MultiDispatchUtils.java`, `ConsumeQueue.java`
//! (multiDispatchLmqQueue); reference store 7. A half message goes to none of them: it is not to be seen yet.

use wire::{
    property::{INNER_MULTI_DISPATCH, INNER_MULTI_QUEUE_OFFSET},
    record::RecordView,
    sys_flag, topic,
};

/// Between names, and between offsets.
const SEPARATOR: char = ',';

/// The queues that a message names, in its order; `None` when it goes to its own queue only.
pub(crate) fn names<'a>(record: &RecordView<'a>) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
    let named = || named(record);
    (!is_on_its_way(record.topic())).then(named)?
}

fn named<'a>(record: &RecordView<'a>) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
    let queued = sys_flag::is_queued(record.sys_flag());
    let text = queued.then(|| record.property(INNER_MULTI_DISPATCH))??;
    (!text.trim().is_empty()).then(|| text.split(SEPARATOR))
}

/// Retry, schedule and system topics hold messages on their way: they are dispatched from the topic they arrive at.
/// Java brokers before 5.1 (seen: 4.9.4, 5.0.0) number and dispatch these too; in records of later ones are the numbers that
/// the message had where it came from.
pub(crate) fn is_on_its_way(topic: &str) -> bool {
    topic::is_retry(topic) || topic.starts_with(topic::SYSTEM_PREFIX) || topic::is_system(topic)
}

/// True for a name that gets a queue. Others stand in records of Java brokers: without an offset, or, with a slash,
/// without units.
pub(crate) fn has_queue(name: &str) -> bool {
    name.starts_with(topic::LMQ_PREFIX) && !name.contains('/')
}

/// Queue and offset of each light queue that a stored record names. Empty where names and offsets do not agree. One that
/// [`is_on_its_way`] belongs there only if its number is the queue's next one, or if the queue has its unit.
pub(crate) fn places<'a>(record: &RecordView<'a>) -> Vec<(&'a str, i64)> {
    let Some(names) = named(record) else { return Vec::new() };
    let Some(offsets) = record.property(INNER_MULTI_QUEUE_OFFSET) else { return Vec::new() };
    let names: Vec<&str> = names.collect();
    let offsets: Vec<&str> = offsets.split(SEPARATOR).collect();
    if names.len() != offsets.len() {
        tracing::error!(
            offset = record.physical_offset(),
            names = names.len(),
            offsets = offsets.len(),
            "a record has not as many offsets as light queues: it is not put into them"
        );
        return Vec::new();
    }
    let mut places: Vec<(&str, i64)> = Vec::with_capacity(names.len());
    for (name, offset) in names.into_iter().zip(offsets) {
        let known = places.iter().any(|(other, _)| *other == name);
        if let Ok(offset) = offset.parse::<i64>()
            && offset >= 0
            && has_queue(name)
            && !known
        {
            places.push((name, offset));
        }
    }
    places
}

/// The property with the offsets of all names in their order; what has no queue gets none.
pub(crate) fn offsets_text(offsets: impl Iterator<Item = Option<i64>>) -> String {
    let mut text = String::new();
    for (number, offset) in offsets.enumerate() {
        if number > 0 {
            text.push(SEPARATOR);
        }
        if let Some(offset) = offset {
            text.push_str(&offset.to_string());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use wire::record_encode::{NewRecord, encode};

    use super::*;

    fn places_of(topic: &str, properties: &[u8]) -> Vec<(String, i64)> {
        let mut out = Vec::new();
        let message = NewRecord {
            topic,
            queue_id: 2,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:2".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            properties,
            body: b"body",
        };
        encode(&message, &mut out).unwrap();
        let record = RecordView::layout(&out).unwrap();
        places(&record).into_iter().map(|(name, offset)| (name.to_owned(), offset)).collect()
    }

    #[test]
    fn what_a_record_says() {
        let properties = b"INNER_MULTI_DISPATCH\x01%LMQ%a,%LMQ%b\x02INNER_MULTI_QUEUE_OFFSET\x0112,0\x02";
        assert_eq!(places_of("T", properties), [("%LMQ%a".into(), 12), ("%LMQ%b".into(), 0)]);
        for topic in ["%RETRY%g", "rmq_sys_wheel_timer", "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC"] {
            assert!(is_on_its_way(topic) && !is_on_its_way("T"), "{topic}");
        }
    }

    #[test]
    fn what_does_not_fit_together() {
        let with = |names: &str, offsets: &str| {
            let text = format!("INNER_MULTI_DISPATCH\x01{names}\x02INNER_MULTI_QUEUE_OFFSET\x01{offsets}\x02");
            places_of("T", text.as_bytes())
        };
        assert!(with("%LMQ%a,%LMQ%b", "1").is_empty());
        assert_eq!(with("plain,%LMQ%a", ",3"), [("%LMQ%a".into(), 3)]);
        assert_eq!(with("%LMQ%a/x,%LMQ%b", "4,5"), [("%LMQ%b".into(), 5)]);
        assert_eq!(with("%LMQ%a,%LMQ%a", "4,4"), [("%LMQ%a".into(), 4)]);
        assert!(with("%LMQ%a", "-1").is_empty() && with("%LMQ%a", "x").is_empty());
        assert!(places_of("T", b"INNER_MULTI_DISPATCH\x01%LMQ%a\x02").is_empty());
    }
}
