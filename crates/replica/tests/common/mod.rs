//! What several tests need: a seeded generator, records, and logs made of them.
#![allow(dead_code, missing_docs)]

use replica::check::{MAGIC_BLANK, MAGIC_V1, MAGIC_V2};

/// xorshift64*: enough for tests, the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        // A zero state would stay zero; the multiplication spreads small seeds.
        Rng(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 to `bound - 1`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// A record's variable parts.
#[derive(Clone)]
pub struct Message {
    pub magic: u32,
    pub sys_flag: i32,
    pub body: Vec<u8>,
    pub topic: Vec<u8>,
    pub properties: Vec<u8>,
}

impl Message {
    pub fn new(body: &[u8]) -> Self {
        Message {
            magic: MAGIC_V1,
            sys_flag: 0,
            body: body.to_vec(),
            topic: b"TopicTest".to_vec(),
            properties: b"TAGS\x01TagA\x02".to_vec(),
        }
    }

    pub fn random(rng: &mut Rng, body_max: u64) -> Self {
        let v2 = rng.chance(20);
        let topic_len = if v2 { 128 + rng.below(100) } else { 1 + rng.below(60) } as usize;
        let (body_len, properties_len) = (rng.below(body_max) as usize, rng.below(120) as usize);
        Message {
            magic: if v2 { MAGIC_V2 } else { MAGIC_V1 },
            sys_flag: [0, 0x10, 0x20, 0x30, 0x1][rng.below(5) as usize],
            body: rng.bytes(body_len),
            topic: rng.bytes(topic_len),
            properties: rng.bytes(properties_len),
        }
    }

    /// The record at `offset` (store reference, 3.2).
    pub fn encode(&self, offset: i64) -> Vec<u8> {
        let mut out = Vec::new();
        let crc = if self.body.is_empty() { 0 } else { crc32fast::hash(&self.body) & 0x7FFF_FFFF };
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.magic.to_be_bytes());
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&7i64.to_be_bytes());
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&self.sys_flag.to_be_bytes());
        out.extend_from_slice(&1_700_000_000_000i64.to_be_bytes());
        out.resize(out.len() + if self.sys_flag & 0x10 != 0 { 20 } else { 8 }, 127);
        out.extend_from_slice(&1_700_000_000_123i64.to_be_bytes());
        out.resize(out.len() + if self.sys_flag & 0x20 != 0 { 20 } else { 8 }, 127);
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&(self.body.len() as i32).to_be_bytes());
        out.extend_from_slice(&self.body);
        match self.magic {
            MAGIC_V2 => out.extend_from_slice(&(self.topic.len() as i16).to_be_bytes()),
            _ => out.push(self.topic.len() as u8),
        }
        out.extend_from_slice(&self.topic);
        out.extend_from_slice(&(self.properties.len() as i16).to_be_bytes());
        out.extend_from_slice(&self.properties);
        let total = (out.len() as i32).to_be_bytes();
        out[..4].copy_from_slice(&total);
        out
    }
}

/// A commit log in memory that begins at `base` and rolls segments as a broker does.
pub struct Log {
    pub segment_size: i64,
    pub base: i64,
    pub bytes: Vec<u8>,
    /// Ends of records and blanks.
    pub ends: Vec<i64>,
}

impl Log {
    pub fn new(base: i64, segment_size: i64) -> Self {
        Log { segment_size, base, bytes: Vec::new(), ends: vec![base] }
    }

    pub fn end(&self) -> i64 {
        self.base + self.bytes.len() as i64
    }

    pub fn read(&self, offset: i64, len: usize) -> &[u8] {
        let at = (offset - self.base) as usize;
        &self.bytes[at..at + len]
    }

    /// Appends a record, after a blank with filler from `rng` if it does not fit.
    pub fn push(&mut self, message: &Message, rng: &mut Rng) {
        let rest = self.segment_size - self.end() % self.segment_size;
        if message.encode(0).len() as i64 + 8 > rest {
            self.push_blank(rng);
        }
        let record = message.encode(self.end());
        self.bytes.extend_from_slice(&record);
        self.ends.push(self.end());
    }

    pub fn push_blank(&mut self, rng: &mut Rng) {
        let rest = self.segment_size - self.end() % self.segment_size;
        self.bytes.extend_from_slice(&(rest as i32).to_be_bytes());
        self.bytes.extend_from_slice(&MAGIC_BLANK.to_be_bytes());
        self.bytes.extend(rng.bytes(rest as usize - 8));
        self.ends.push(self.end());
    }

    pub fn fill(&mut self, records: usize, body_max: u64, rng: &mut Rng) {
        for _ in 0..records {
            let message = Message::random(rng, body_max);
            self.push(&message, rng);
        }
    }

    /// End of the last whole record at or below `offset`.
    pub fn whole_at(&self, offset: i64) -> i64 {
        self.ends[self.ends.partition_point(|end| *end <= offset) - 1]
    }
}

/// The seeds to run: `TANDEM_SEED`, or the first `count`.
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("TANDEM_SEED") {
        Ok(seed) => vec![seed.parse().expect("TANDEM_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}
