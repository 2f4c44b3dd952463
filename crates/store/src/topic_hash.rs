//! How topics are hashed in the table of queues: with keys, as clients choose the names, and in a few multiplications, as
//! every message asks for its queue.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers with keys that nobody outside knows.
#[derive(Clone)]
pub(crate) struct TopicHash {
    start: u64,
    factor: u64,
}

impl Default for TopicHash {
    fn default() -> Self {
        let random = RandomState::new();
        Self { start: random.hash_one(0), factor: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for TopicHash {
    type Hasher = TopicHasher;

    fn build_hasher(&self) -> TopicHasher {
        TopicHasher { hash: self.start, factor: self.factor }
    }
}

/// Hashes one topic.
pub(crate) struct TopicHasher {
    hash: u64,
    factor: u64,
}

impl TopicHasher {
    /// All bits of the product count: each bit of a word moves bits at both ends, which the table looks at.
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.hash ^ word) * u128::from(self.factor);
        self.hash = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for TopicHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.fold(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = rest.len() as u8;
        self.fold(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, byte: u8) {
        // What `str` puts behind its bytes; one more round spreads the last word.
        self.fold(byte.into());
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_that_differ_little_are_spread() {
        let hash = TopicHash::default();
        let names = (0..65_536).map(|number| format!("%RETRY%group-{number:05}"));
        let hashes: Vec<u64> = names.map(|name| hash.hash_one(name)).collect();
        for part in [|hash: &u64| hash & 0xFFFF, |hash: &u64| hash >> 48] {
            // Of as many balls in as many bins 63 % of the bins get one.
            let filled = hashes.iter().map(part).collect::<HashSet<_>>().len();
            assert!((39_000..43_500).contains(&filled), "{filled} with {:x} {:x}", hash.start, hash.factor);
        }
    }

    #[test]
    fn zeros_and_lengths_count() {
        let hash = TopicHash::default();
        let names = ["", "\0", "\0\0", "a", "a\0", "aaaaaaaa", "aaaaaaaa\0", "aaaaaaa", "aaaaaaa\u{8}"];
        let different: HashSet<u64> = names.iter().map(|name| hash.hash_one(name)).collect();
        assert_eq!(different.len(), names.len());
    }
}
