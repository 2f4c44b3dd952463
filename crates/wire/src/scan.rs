//! Looks for bytes in names and values, eight at a time: most are shorter than what a search in long texts needs to begin.

const ONES: u64 = 0x0101_0101_0101_0101;

/// Where the first byte at or behind `from` is that is one of `wanted`; the length of `text`, or `from` when that is
/// more, when there is none.
#[inline]
pub(crate) fn find<const N: usize>(text: &[u8], from: usize, wanted: [u8; N]) -> usize {
    let mut at = from;
    while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let found = wanted.iter().fold(0, |found, byte| found | zeros(word ^ (ONES * u64::from(*byte))));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while text.get(at).is_some_and(|byte| !wanted.contains(byte)) {
        at += 1;
    }
    at
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
            for (length, place) in (0..20).flat_map(|length| (0..=length).map(move |place| (length, place))) {
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
}
