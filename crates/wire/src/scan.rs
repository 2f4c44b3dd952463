//! Looks for bytes in names and values, eight at a time: most are shorter than what a search in long texts needs to begin.

const ONES: u64 = 0x0101_0101_0101_0101;

/// Where the first byte at or behind `from` is that is one of `wanted`; the length of `text`, or `from` when that is
/// more, when there is none. Near ones are found here, others elsewhere: that keeps small what it becomes a part of.
#[inline]
pub(crate) fn find<const N: usize>(text: &[u8], from: usize, wanted: [u8; N]) -> usize {
    let near = text.get(from..).and_then(<[u8]>::first_chunk);
    match near.map(|word| hits(word, wanted)) {
        Some(0) => find_further(text, from + 8, wanted),
        Some(found) => from + place_of(found),
        None => find_further(text, from, wanted),
    }
}

#[inline(never)]
fn find_further<const N: usize>(text: &[u8], from: usize, wanted: [u8; N]) -> usize {
    let (words, rest) = text.get(from..).unwrap_or_default().as_chunks();
    for (number, word) in words.iter().enumerate() {
        let found = hits(word, wanted);
        if found != 0 {
            return from + number * 8 + place_of(found);
        }
    }
    let place = rest.iter().position(|byte| wanted.contains(byte)).unwrap_or(rest.len());
    from + words.len() * 8 + place
}

/// Marks the first byte that is one of `wanted`, and perhaps some behind it.
#[inline]
fn hits<const N: usize>(word: &[u8; 8], wanted: [u8; N]) -> u64 {
    let word = u64::from_le_bytes(*word);
    wanted.iter().fold(0, |found, byte| found | zeros(word ^ (ONES * u64::from(*byte))))
}

fn place_of(found: u64) -> usize {
    found.trailing_zeros() as usize / 8
}

/// True when all bytes are ASCII that can be printed, and none is one of `without`.
#[inline]
pub(crate) fn is_printable<const N: usize>(word: &[u8; 8], without: [u8; N]) -> bool {
    let low = u64::from_le_bytes(*word).wrapping_sub(ONES * 0x20) | u64::from_le_bytes(*word);
    low & (ONES << 7) == 0 && hits(word, [0x7F]) | hits(word, without) == 0
}

/// Marks the lowest zero byte, and perhaps some above it.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the plain way: each byte at each place, before and behind others.
    #[test]
    fn finds_the_first() {
        for byte in 0..=255u8 {
            for (length, place) in (0..40).flat_map(|length| (0..=length).map(move |place| (length, place))) {
                for filler in [b'a', 0x80, byte.wrapping_add(1), byte.wrapping_sub(1)] {
                    let mut text = vec![filler; length];
                    text.get_mut(place).into_iter().for_each(|at| *at = byte);
                    for from in [0, 1, length] {
                        let plain = |wanted: &[u8]| {
                            let at = text.iter().skip(from).position(|it| wanted.contains(it));
                            at.map_or(length.max(from), |at| at + from)
                        };
                        assert_eq!(find(&text, from, [byte]), plain(&[byte]), "{text:?} {from}");
                        assert_eq!(find(&text, from, [1, byte]), plain(&[1, byte]), "{text:?} {from}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_can_be_printed() {
        for (byte, place) in (0..=255u8).flat_map(|byte| (0..8).map(move |place| (byte, place))) {
            for filler in [b' ', b'~', b'!'] {
                let mut word = [filler; 8];
                word[place] = byte;
                let plain = (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
                assert_eq!(is_printable(&word, [b'"', b'\\']), plain, "{word:?}");
            }
        }
    }
}
