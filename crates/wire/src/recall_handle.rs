//! The handle by which a producer takes a timer message back: base64url of `v1 topic broker time id`.
//! Source: `common/.../producer/RecallMessageHandle.java`; reference broker 2.8.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a handle names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallHandle {
    /// Topic the message goes to.
    pub topic: String,
    /// Broker that holds it.
    pub broker_name: String,
    /// Within the tick before its time, as text, ms.
    pub time_ms: String,
    /// Its unique id.
    pub unique_id: String,
}

impl RecallHandle {
    /// The text that producers are given.
    pub fn encode(&self) -> String {
        let plain = format!("v1 {} {} {} {}", self.topic, self.broker_name, self.time_ms, self.unique_id);
        encode_base64(plain.as_bytes())
    }

    /// Reads a handle; `None` where Java would not.
    pub fn decode(text: &str) -> Option<Self> {
        let plain = String::from_utf8(decode_base64(text)?).ok()?;
        let mut items = plain.split(' ');
        if items.next() != Some("v1") {
            return None;
        }
        let mut item = || items.next().map(str::to_owned);
        let handle = Self { topic: item()?, broker_name: item()?, time_ms: item()?, unique_id: item()? };
        (!handle.unique_id.is_empty()).then_some(handle)
    }
}

fn encode_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for number in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * number)) as usize & 63];
            out.push(if number <= chunk.len() { digit.into() } else { '=' });
        }
    }
    out
}

/// Padding may be missing, but not wrong.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if digits.len() % 4 == 1 || (padding > 0 && (padding > 2 || !text.len().is_multiple_of(4))) {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.as_bytes().chunks(4) {
        let mut group = 0;
        for byte in chunk {
            group = group << 6 | ALPHABET.iter().position(|digit| digit == byte)? as u32;
        }
        group <<= 6 * (4 - chunk.len());
        out.extend_from_slice(&group.to_be_bytes()[1..chunk.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_java_writes_it() {
        let handle = RecallHandle {
            topic: "TopicTest".into(),
            broker_name: "broker-a".into(),
            time_ms: "1700000000001".into(),
            unique_id: "AC1100012AF2".into(),
        };
        let text = handle.encode();
        assert_eq!(text, "djEgVG9waWNUZXN0IGJyb2tlci1hIDE3MDAwMDAwMDAwMDEgQUMxMTAwMDEyQUYy");
        assert_eq!(RecallHandle::decode(&text), Some(handle));
        assert_eq!(encode_base64(b"ab?>"), "YWI_Pg==");
        assert_eq!(decode_base64("YWI_Pg").unwrap(), b"ab?>");
    }

    #[test]
    fn nothing_else_is_a_handle() {
        let encoded = |plain: &str| encode_base64(plain.as_bytes());
        let bad = [String::new(), "*".into(), "A".into(), "YWI_Pg=".into(), encoded("v2 a b c d"), encoded("v1 a b c")];
        for text in bad {
            assert_eq!(RecallHandle::decode(&text), None, "{text}");
        }
    }
}
