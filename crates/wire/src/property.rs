//! Property text: `name 0x01 value 0x02` repeated, and the names that brokers and clients agree on.
//! Source: `common/.../message/MessageDecoder.java`, `MessageConst.java`; reference store 4 and 28.

use std::ops::Range;

use crate::scan::find as find_byte;

/// Ends a name.
pub const NAME_END: u8 = 1;
/// Ends a value.
pub const VALUE_END: u8 = 2;

macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => { $($(#[$doc])* pub const $constant: &str = $name;)* };
}

names! {
    /// Index keys, separated by blanks.
    KEYS = "KEYS";
    /// Tag.
    TAGS = "TAGS";
    /// "false": the producer does not wait for flush and replicas.
    WAIT = "WAIT";
    /// Delay level.
    DELAY = "DELAY";
    /// Original topic of a retried message.
    RETRY_TOPIC = "RETRY_TOPIC";
    /// Original topic of a delayed message.
    REAL_TOPIC = "REAL_TOPIC";
    /// Original queue of a delayed message.
    REAL_QUEUE_ID = "REAL_QID";
    /// Half message of a transaction.
    TRANSACTION_PREPARED = "TRAN_MSG";
    /// Producer group.
    PRODUCER_GROUP = "PGROUP";
    /// First message id of a retried message.
    ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID";
    /// Region of the broker, for traces.
    MSG_REGION = "MSG_REGION";
    /// Tracing switch of the broker.
    TRACE_ON = "TRACE_ON";
    /// The client's own message id.
    UNIQ_KEY = "UNIQ_KEY";
    /// Retry count of a message that a client sent back by a normal send.
    RECONSUME_TIME = "RECONSUME_TIME";
    /// Retry limit of a message that a client sent back by a normal send.
    MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES";
    /// Cluster of the broker.
    CLUSTER = "CLUSTER";
    /// Pop check point, never taken from a client.
    POP_CK = "POP_CK";
    /// Count of an inner batch.
    INNER_NUM = "INNER_NUM";
    /// Base queue offset of an inner batch.
    INNER_BASE = "INNER_BASE";
    /// Names of the queues that a message goes to besides its own, separated by commas.
    INNER_MULTI_DISPATCH = "INNER_MULTI_DISPATCH";
    /// The message's offsets in those queues, in the same order.
    INNER_MULTI_QUEUE_OFFSET = "INNER_MULTI_QUEUE_OFFSET";
    /// Arbitrary delay, in seconds.
    TIMER_DELAY_SEC = "TIMER_DELAY_SEC";
    /// Arbitrary delay, in milliseconds.
    TIMER_DELAY_MS = "TIMER_DELAY_MS";
    /// Time of delivery, in milliseconds since the epoch.
    TIMER_DELIVER_MS = "TIMER_DELIVER_MS";
    /// Set by the broker on a message in the timer topic.
    TIMER_OUT_MS = "TIMER_OUT_MS";
    /// When a timer message was put into the wheel; `i64::MAX` when it was due already.
    TIMER_ENQUEUE_MS = "TIMER_ENQUEUE_MS";
    /// When a timer message was taken out of the wheel.
    TIMER_DEQUEUE_MS = "TIMER_DEQUEUE_MS";
    /// How often a timer message went round the wheel.
    TIMER_ROLL_TIMES = "TIMER_ROLL_TIMES";
    /// Takes a timer message back: `topic+unique id` of it.
    TIMER_DELETE_UNIQUE_KEY = "TIMER_DEL_UNIQKEY";
    /// Time of birth, of a message made by a broker.
    BORN_TIMESTAMP = "BORN_TIMESTAMP";
    /// Original topic of a dead letter.
    DLQ_ORIGIN_TOPIC = "DLQ_ORIGIN_TOPIC";
    /// Original message id of a dead letter.
    DLQ_ORIGIN_MESSAGE_ID = "DLQ_ORIGIN_MESSAGE_ID";
    /// CRC of the whole record.
    CRC32 = "__CRC32#";
}

/// All entries that Java would read, in text order: segments of at least three bytes with a name and a value.
/// A name may come twice; the last one counts.
pub fn iter(text: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    entries(text).filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?)))
}

/// As [`iter`], of what is text already.
pub fn iter_text(text: &str) -> impl Iterator<Item = (&str, &str)> {
    spans(text.as_bytes()).filter_map(|entry| Some((text.get(entry.name())?, text.get(entry.value())?)))
}

/// As [`iter`], without looking whether they are text.
pub fn entries(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    spans(text).map(|entry| (&text[entry.name()], &text[entry.value()]))
}

/// Where the name and the value of an entry are; neither is empty.
struct Entry {
    start: usize,
    name_end: usize,
    value_end: usize,
}

impl Entry {
    fn name(&self) -> Range<usize> {
        self.start..self.name_end
    }

    fn value(&self) -> Range<usize> {
        self.name_end + 1..self.value_end
    }
}

/// As [`entries`], their places.
fn spans(text: &[u8]) -> impl Iterator<Item = Entry> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < text.len() {
            let start = at;
            let name_end = find_byte(text, at, [NAME_END, VALUE_END]);
            at = name_end + 1;
            if text.get(name_end) != Some(&NAME_END) {
                continue;
            }
            let value_end = find_byte(text, at, [VALUE_END]);
            at = value_end + 1;
            if name_end > start && value_end > name_end + 1 {
                return Some(Entry { start, name_end, value_end });
            }
        }
        None
    })
}

/// The value of `name`.
pub fn find<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    let named = entries(text).filter(|(key, _)| *key == name.as_bytes());
    named.filter_map(|(_, value)| std::str::from_utf8(value).ok()).last()
}

/// Appends the entries of `from` that `keeps` says yes to. Those that follow each other are copied at once.
pub fn push_kept<'a>(text: &mut Vec<u8>, from: &'a str, mut keeps: impl FnMut(&'a str, &'a str) -> bool) {
    let mut kept = 0..0;
    for entry in spans(from.as_bytes()) {
        if !keeps(&from[entry.name()], &from[entry.value()]) {
            continue;
        }
        if kept.is_empty() || entry.start != kept.end + 1 {
            push_whole(text, &from.as_bytes()[kept]);
            kept = entry.start..entry.start;
        }
        kept.end = entry.value_end;
    }
    push_whole(text, &from.as_bytes()[kept]);
}

/// Appends entries, the last one without its end.
fn push_whole(text: &mut Vec<u8>, entries: &[u8]) {
    if !entries.is_empty() {
        text.extend_from_slice(entries);
        text.push(VALUE_END);
    }
}

/// Appends one entry.
pub fn push(text: &mut Vec<u8>, name: &str, value: &str) {
    if !text.is_empty() && text.last() != Some(&VALUE_END) {
        text.push(VALUE_END);
    }
    text.extend_from_slice(name.as_bytes());
    text.push(NAME_END);
    text.extend_from_slice(value.as_bytes());
    text.push(VALUE_END);
}

/// A copy of `text` without the entries named in `names`; other bytes stay as they are.
pub fn without(text: &[u8], names: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for segment in text.split_inclusive(|byte| *byte == VALUE_END) {
        let name = segment.split(|byte| *byte == NAME_END).next().unwrap_or_default();
        let named = segment.contains(&NAME_END) && names.iter().any(|n| n.as_bytes() == name);
        if !named {
            out.extend_from_slice(segment);
        }
    }
    out
}

/// Replaces or adds one entry.
pub fn set(text: &mut Vec<u8>, name: &str, value: &str) {
    if find(text, name).is_some() {
        *text = without(text, &[name]);
    }
    push(text, name, value);
}

/// True unless the producer said `WAIT=false`.
pub fn waits_for_store(text: &[u8]) -> bool {
    !find(text, WAIT).is_some_and(|wait| wait.eq_ignore_ascii_case("false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_java() {
        let text = b"a\x011\x02b\x01\x02\x01x\x02junk\x02c\x012\x013\x02a\x014";
        assert_eq!(iter(text).collect::<Vec<_>>(), [("a", "1"), ("c", "2\u{1}3"), ("a", "4")]);
        assert_eq!(find(text, "a"), Some("4"));
        assert_eq!(find(text, "b"), None);
    }

    /// Against the plain way, on texts of few kinds of bytes.
    #[test]
    fn entries_at_all_distances() {
        let plain = |text: &[u8]| {
            let segments = text.split(|byte| *byte == VALUE_END);
            let pairs = segments.filter_map(|segment| {
                let at = segment.iter().position(|byte| *byte == NAME_END)?;
                Some((segment[..at].to_vec(), segment[at + 1..].to_vec()))
            });
            pairs.filter(|(name, value)| !name.is_empty() && !value.is_empty()).collect::<Vec<_>>()
        };
        let mut state = 1u64;
        for length in (0..40).chain(0..40).chain([200; 40]) {
            let text: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    [0, NAME_END, VALUE_END, 3, b'a', b'b', 0x81, 0xff][(state >> 60) as usize & 7]
                })
                .collect();
            let found: Vec<_> = entries(&text).map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            assert_eq!(found, plain(&text), "{text:?}");
            if let Ok(text) = str::from_utf8(&text) {
                assert!(iter_text(text).eq(iter(text.as_bytes())), "{text:?}");
            }
        }
    }

    /// Against one by one.
    #[test]
    fn kept_entries() {
        let entries = ["a\x011\x02", "b\x012\x01x\x02", "", "\x02", "junk\x02", "c\x01\x02", "\x01d\x02", "e\x013"];
        for number in 0..8usize.pow(4) {
            let text: String = (0..4).map(|place| entries[number >> (3 * place) & 7]).collect();
            for unwanted in ["", "a", "b"] {
                let (mut kept, mut expected) = (Vec::new(), Vec::new());
                push_kept(&mut kept, &text, |name, _| name != unwanted);
                let wanted = iter_text(&text).filter(|(name, _)| *name != unwanted);
                wanted.for_each(|(name, value)| push(&mut expected, name, value));
                assert_eq!(kept, expected, "{text:?} without {unwanted}");
            }
        }
    }

    #[test]
    fn edits() {
        let mut text = b"KEYS\x01k\x02TAGS\x01t\x02".to_vec();
        set(&mut text, "KEYS", "n");
        assert_eq!(text, b"TAGS\x01t\x02KEYS\x01n\x02");
        assert_eq!(without(&text, &["TAGS"]), b"KEYS\x01n\x02");
        assert!(waits_for_store(&text));
        push(&mut text, WAIT, "false");
        assert!(!waits_for_store(&text));
        let mut open = b"a\x01b".to_vec();
        push(&mut open, "c", "d");
        assert_eq!(open, b"a\x01b\x02c\x01d\x02");
    }
}
