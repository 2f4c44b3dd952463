//! The body of a batch: checked whole before anything of it is stored.
//! Source: `MessageDecoder.java` (decodeMessage of a batch); reference remoting 14.2. A length that points backwards
//! or past the end refuses the batch (F-25).

use wire::{code::response, topic};

use super::Refused;

/// One message of a batch, in place.
pub struct Message<'a> {
    /// User flag.
    pub flag: i32,
    /// Body.
    pub body: &'a [u8],
    /// Property text.
    pub properties: &'a [u8],
    /// The total size that the client wrote is the one of its fields.
    pub sized: bool,
}

/// Most messages of an inner batch: the count of a queue unit has 16 bits.
const MAX_INNER: usize = i16::MAX as usize;

/// Messages of a body that is stored as it is. Consumers step through it by the total sizes, so these must be right.
pub fn count_inner(messages: &[Message<'_>]) -> Result<usize, Refused> {
    if let Some(place) = messages.iter().position(|message| !message.sized) {
        let remark = format!("message {} of the batch is broken: its total size is not that of its fields", place + 1);
        return Err(Refused(response::MESSAGE_ILLEGAL, remark));
    }
    match messages.len() > MAX_INNER {
        true => {
            let remark = format!("an inner batch may hold {MAX_INNER} messages, this one has {}", messages.len());
            Err(Refused(response::MESSAGE_ILLEGAL, remark))
        }
        false => Ok(messages.len()),
    }
}

const ENTRY_MIN: usize = 22;

/// Takes a batch apart.
pub fn split(mut body: &[u8], topic_length: usize, max_message_size: i32) -> Result<Vec<Message<'_>>, Refused> {
    if topic_length > topic::MAX_TOPIC {
        let remark = format!("message topic length too long {topic_length}");
        return Err(Refused(response::MESSAGE_ILLEGAL, remark));
    }
    if body.len() > max_message_size as usize {
        let remark = format!("message body size exceeded, msg total size: {}, limit {max_message_size}", body.len());
        return Err(Refused(response::MESSAGE_ILLEGAL, remark));
    }
    let mut messages = Vec::new();
    while !body.is_empty() {
        let (message, used) = entry(body).ok_or_else(|| {
            let remark =
                format!("message {} of the batch is broken: its lengths do not fit the batch", messages.len() + 1);
            Refused(response::MESSAGE_ILLEGAL, remark)
        })?;
        messages.push(message);
        body = &body[used..];
    }
    if messages.is_empty() {
        return Err(Refused(response::MESSAGE_ILLEGAL, "the batch is empty".into()));
    }
    Ok(messages)
}

/// The first entry and its length, which comes from its fields: upstream does not trust the total size either.
fn entry(bytes: &[u8]) -> Option<(Message<'_>, usize)> {
    if bytes.len() < ENTRY_MIN {
        return None;
    }
    let int = |at: usize| bytes.get(at..at + 4).map(|word| i32::from_be_bytes(word.try_into().unwrap_or_default()));
    let body_length = usize::try_from(int(16)?).ok()?;
    let at = 20usize.checked_add(body_length)?;
    let body = bytes.get(20..at)?;
    let length = bytes.get(at..at + 2)?;
    let length = usize::try_from(i16::from_be_bytes([length[0], length[1]])).ok()?;
    let properties = bytes.get(at + 2..at + 2 + length)?;
    let used = at + 2 + length;
    let sized = usize::try_from(int(0)?).ok() == Some(used);
    Some((Message { flag: int(12)?, body, properties, sized }, used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(body: &[u8], properties: &[u8], length: u16) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&((22 + body.len() + properties.len()) as i32).to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&7i32.to_be_bytes());
        out.extend_from_slice(&(body.len() as i32).to_be_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(properties);
        out
    }

    #[test]
    fn a_body_that_consumers_unwrap_must_have_right_sizes() {
        let mut all = encoded(b"one", b"a\x01b\x02", 4);
        all.extend_from_slice(&encoded(b"two", b"", 0));
        let messages = split(&all, 5, 4096).unwrap_or_else(|_| panic!("a good batch"));
        assert_eq!(count_inner(&messages).ok(), Some(2));
        all[3] += 1;
        let messages = split(&all, 5, 4096).unwrap_or_else(|_| panic!("a good batch"));
        let Err(Refused(code, remark)) = count_inner(&messages) else { panic!("accepted") };
        assert!(code == response::MESSAGE_ILLEGAL && remark.contains("message 1"), "{remark}");
    }

    #[test]
    fn f25_a_property_length_out_of_range_refuses_the_whole_batch() {
        let good = encoded(b"one", b"a\x01b\x02", 4);
        let mut all = good.clone();
        all.extend_from_slice(&encoded(b"", b"", 0));
        let messages = split(&all, 5, 4096).unwrap_or_else(|_| panic!("a good batch"));
        assert_eq!(
            (messages.len(), messages[0].flag, messages[0].body, messages[0].properties),
            (2, 7, &b"one"[..], &b"a\x01b\x02"[..])
        );
        for length in [0x8001, 0x7FFF] {
            let mut bad = good.clone();
            bad.extend_from_slice(&encoded(b"two", &[b'x'; 100], length));
            bad.extend_from_slice(&good);
            let Err(Refused(code, remark)) = split(&bad, 5, 1 << 20) else { panic!("{length:x} was accepted") };
            assert!(code == response::MESSAGE_ILLEGAL && remark.contains("message 2"), "{remark}");
        }
        for cut in 1..good.len() {
            assert!(split(&good[..cut], 5, 4096).is_err(), "{cut}");
        }
    }
}
