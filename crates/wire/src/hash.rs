//! Java's `String.hashCode`, which tags, index keys and lock stripes are made of.

/// `String.hashCode` of `text`: over UTF-16 units, wrapping at 32 bits.
pub fn java_hash(text: &str) -> i32 {
    java_hash_on(0, text)
}

/// The hash of a text that goes on with `text`, when what is before it has `hash`.
pub fn java_hash_on(hash: i32, text: &str) -> i32 {
    if text.is_ascii() {
        return ascii_hash_on(hash, text.as_bytes());
    }
    text.encode_utf16().fold(hash, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

/// Four units a step: one multiplication waits for the one before it, so single steps take four times as long.
fn ascii_hash_on(hash: i32, units: &[u8]) -> i32 {
    const POWERS: [i32; 4] = [31 * 31 * 31, 31 * 31, 31, 1];
    let (steps, rest) = units.as_chunks::<4>();
    let hash = steps.iter().fold(hash, |hash, step| {
        let sum: i32 = step.iter().zip(POWERS).map(|(unit, power)| i32::from(*unit) * power).sum();
        hash.wrapping_mul(31 * POWERS[0]).wrapping_add(sum)
    });
    rest.iter().fold(hash, |hash, unit| hash.wrapping_mul(31).wrapping_add((*unit).into()))
}

/// Tags code of a record: 0 without tags, else the hash of the whole tags text, sign-extended.
pub fn tags_code(tags: Option<&str>) -> i64 {
    tags.filter(|tags| !tags.is_empty()).map_or(0, |tags| java_hash(tags).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        for (text, hash) in [("TagA", 2598919), ("TagB", 2598920), ("*", 42), ("TopicTest#KEY1", -1656969516)] {
            assert_eq!(java_hash(text), hash, "{text}");
        }
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        assert_eq!(java_hash("\u{1F600}"), 0xD83D * 31 + 0xDE00);
        assert_eq!(tags_code(Some("")), 0);
        for length in 0..40 {
            let text = "0aZ~ \u{7f}\u{1}xyz/_-+".repeat(3)[..length].to_owned();
            let one_by_one = text.chars().fold(7i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit as i32));
            assert_eq!(java_hash_on(7, &text), one_by_one, "{text:?}");
        }
        assert_eq!(java_hash_on(java_hash("TopicTest#"), "KEY1"), java_hash("TopicTest#KEY1"));
    }
}
