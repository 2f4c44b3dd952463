//! `tandem store cat`: chosen messages as JSON lines.

use std::io::{BufWriter, ErrorKind, StdoutLock, Write};

use anyhow::{Result, bail};
use clap::Args;
use store::inspect::{Found, Reader, Selection, StoreView, read, read_one};
use wire::{json::Json, message_id, property, record::RecordView};

use super::{
    End,
    place::Place,
    table::{json_line, number, object},
};

/// Flags of `tandem store cat`.
#[derive(Args)]
pub(super) struct CatArgs {
    #[command(flatten)]
    place: Place,
    /// Of this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Of this queue.
    #[arg(long, requires = "topic")]
    queue: Option<i32>,
    /// From this offset of the queue on.
    #[arg(long, requires = "queue")]
    offset: Option<i64>,
    /// With this key (one of KEYS) or unique id, through the index.
    #[arg(long)]
    key: Option<String>,
    /// The message of this id: the one that names its place in the log (offsetMsgId), or the unique id of its producer.
    #[arg(long, conflicts_with_all = ["key", "offset", "physical"])]
    id: Option<String>,
    /// Read the whole log for the key or id, whatever the index says.
    #[arg(long)]
    scan: bool,
    /// Stored at or after, milliseconds since 1970.
    #[arg(long, value_name = "MS")]
    from: Option<i64>,
    /// Stored at or before, milliseconds since 1970.
    #[arg(long, value_name = "MS")]
    to: Option<i64>,
    /// The one message that begins at this byte of the log.
    #[arg(long, value_name = "OFFSET", conflicts_with_all = ["topic", "key", "from", "to"])]
    physical: Option<i64>,
    /// At most so many.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    count: u64,
}

/// Prints what was chosen.
pub(super) fn run(args: &CatArgs) -> Result<End> {
    let view = args.place.open(true)?;
    let mut lines =
        Lines { out: BufWriter::new(std::io::stdout().lock()), left: args.count, failed: None, damaged: false };
    if let Some(physical) = args.physical {
        if !read_one(&view, physical, &mut lines)? {
            bail!("no whole message begins at {physical} of the log");
        }
    } else if args.count > 0 && !by_place(args, &view, &mut lines)? {
        let (topic, key) = (args.topic.clone(), args.key.clone().or(args.id.clone()));
        let (queue_id, offset, from, to, scan) = (args.queue, args.offset, args.from, args.to, args.scan);
        let selection = Selection { topic, queue_id, offset, key, from, to, scan, ..Selection::default() };
        if let Found::WithoutIndex(why) = read(&view, &selection, &mut lines)? {
            let _ = writeln!(std::io::stderr(), "tandem: {why}; the log was read instead");
        }
        if let Some(id) = args.id.as_deref().filter(|_| lines.left == args.count) {
            let hint = if args.scan { "" } else { " in the index; --scan reads the whole log" };
            bail!("no message has the id {id}{hint}");
        }
    }
    let flushed = lines.out.flush().err();
    view.still_there()?;
    match lines.failed.or(flushed) {
        // Who reads has enough.
        Some(error) if error.kind() == ErrorKind::BrokenPipe => Ok(End::Well),
        Some(error) => Err(error.into()),
        None => Ok(if lines.damaged { End::Damage } else { End::Well }),
    }
}

/// Prints the message of an id that names its place, if there is one. Producers make ids of the same form.
fn by_place(args: &CatArgs, view: &StoreView, lines: &mut Lines) -> Result<bool> {
    let Some((id, (_, physical))) = args.id.as_deref().and_then(|id| Some((id, message_id::parse_offset_id(id)?)))
    else {
        return Ok(false);
    };
    let mut named = Named { id, found: false, lines };
    read_one(view, physical, &mut named)?;
    Ok(named.found)
}

/// Lets the message through whose own id it is.
struct Named<'a> {
    id: &'a str,
    found: bool,
    lines: &'a mut Lines,
}

impl Reader for Named<'_> {
    fn record(&mut self, record: &RecordView<'_>) -> bool {
        let own = message_id::offset_id(record.store_host(), record.physical_offset());
        self.found = own.eq_ignore_ascii_case(self.id);
        self.found && self.lines.record(record)
    }

    fn skipped(&mut self, _: i64, _: i64, _: &str) {}
}

struct Lines {
    out: BufWriter<StdoutLock<'static>>,
    left: u64,
    failed: Option<std::io::Error>,
    damaged: bool,
}

impl Reader for Lines {
    fn record(&mut self, record: &RecordView<'_>) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        self.failed = writeln!(self.out, "{}", json_line(&json(record))).err();
        self.failed.is_none() && self.left > 0
    }

    fn skipped(&mut self, from: i64, to: i64, why: &str) {
        self.damaged = true;
        let _ = writeln!(std::io::stderr(), "tandem: bytes {from} to {to} of the log are passed over: {why}");
    }
}

fn json(record: &RecordView<'_>) -> Json {
    let properties = property::iter(record.properties()).map(|(name, value)| (name.into(), value.into()));
    let body = match std::str::from_utf8(record.body()) {
        Ok(text) => ("body", text.into()),
        Err(_) => ("bodyBase64", base64(record.body()).as_str().into()),
    };
    object([
        ("topic", record.topic().into()),
        ("queueId", number(record.queue_id())),
        ("queueOffset", record.queue_offset().into()),
        ("physicalOffset", record.physical_offset().into()),
        ("size", number(record.size())),
        ("storeTimestamp", record.store_timestamp().into()),
        ("bornTimestamp", record.born_timestamp().into()),
        ("bornHost", record.born_host().to_string().as_str().into()),
        ("storeHost", record.store_host().to_string().as_str().into()),
        ("offsetMsgId", message_id::offset_id(record.store_host(), record.physical_offset()).as_str().into()),
        ("flag", number(record.flag())),
        ("sysFlag", number(record.sys_flag())),
        ("reconsumeTimes", number(record.reconsume_times())),
        ("preparedTransactionOffset", record.prepared_transaction_offset().into()),
        ("properties", Json::Obj(properties.collect())),
        body,
    ])
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= part.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_rfc_4648() {
        let of = |text: &str| base64(text.as_bytes());
        assert_eq!((of(""), of("f"), of("fo"), of("foo")), ("".into(), "Zg==".into(), "Zm8=".into(), "Zm9v".into()));
        assert_eq!((of("foobar"), base64(&[0xFF, 0xFE, 0xFB])), ("Zm9vYmFy".into(), "//77".into()));
    }
}
