//! A master's log as a slave receives it: the bytes that come after what the model knows.

use wire::{
    record::{BLANK_HEAD, MAGIC_BLANK},
    record_encode::{encode, patch},
};

use super::{
    model::{Model, QUEUES, Sent, TIMER, TOPICS},
    timers::{self, Timed},
};
use crate::common::{Random, message};

/// Bytes that are on their way, from `at` on.
#[derive(Default)]
pub struct Stream {
    pub at: i64,
    pub bytes: Vec<u8>,
    /// Records whose last byte has not arrived.
    pub incoming: Vec<Sent>,
}

impl Stream {
    /// A master's next records behind what is known.
    pub fn fill(
        &mut self,
        model: &Model,
        number: &mut u64,
        segment_size: i64,
        now_ms: i64,
        timed: bool,
        random: &mut Random,
    ) {
        let mut known = model.clone();
        known.log.extend(self.incoming.iter().cloned());
        for _ in 0..=random.below(6) {
            let (topic, queue_id) = (random.below(TIMER as u64) as usize, random.below(QUEUES as u64) as i32);
            // Now and then the topic was deleted there and made again.
            let base = if random.below(60) == 0 { 0 } else { base_of(&known, topic, queue_id) };
            let body: Vec<u8> = (0..random.below(400)).map(|_| random.next() as u8).collect();
            let key = format!("r{number}");
            *number += 1;
            let properties = format!("UNIQ_KEY\x01{key}\x02").into_bytes();
            let plain =
                Sent { topic, queue_id, at: 0, end: 0, base, count: 1, key, body, timed: Timed::No, light: false };
            self.add(plain, &properties, &mut known, segment_size, now_ms);
            if timed && let Some((sent, properties)) = timed_record(&known.log, number, now_ms, random) {
                let base = base_of(&known, sent.topic, sent.queue_id);
                self.add(Sent { base, ..sent }, &properties, &mut known, segment_size, now_ms);
            }
        }
    }

    /// Where the next piece ends: a slave appends whole records and blanks.
    pub fn cut(&self, random: &mut Random) -> i64 {
        let number = random.below(self.incoming.len() as u64) as usize;
        let behind_blank = self.incoming.get(number + 1).map(|next| next.at).filter(|_| random.below(4) == 0);
        behind_blank.unwrap_or(self.incoming[number].end)
    }

    fn add(&mut self, sent: Sent, properties: &[u8], known: &mut Model, segment_size: i64, now_ms: i64) {
        let mut record = Vec::new();
        encode(&message(TOPICS[sent.topic], sent.queue_id, properties, &sent.body), &mut record).unwrap();
        let mut at = self.at + self.bytes.len() as i64;
        let left = segment_size - at % segment_size;
        if left < segment_size && left < record.len() as i64 + BLANK_HEAD as i64 {
            let mut blank = vec![0; left as usize];
            blank[..4].copy_from_slice(&(left as i32).to_be_bytes());
            blank[4..8].copy_from_slice(&MAGIC_BLANK.to_be_bytes());
            self.bytes.extend_from_slice(&blank);
            at += left;
        }
        patch(&mut record, sent.base, at, now_ms);
        self.bytes.extend_from_slice(&record);
        let end = at + record.len() as i64;
        let sent = Sent { at, end, ..sent };
        known.log.push(sent.clone());
        self.incoming.push(sent);
    }

    /// Takes the records out that end at or before `end`.
    pub fn arrived(&mut self, end: i64) -> Vec<Sent> {
        let whole = self.incoming.partition_point(|sent| sent.end <= end);
        self.incoming.drain(..whole).collect()
    }
}

/// Queue offset of the next message, of a queue that has none in the log after what came before the first segment.
fn base_of(known: &Model, topic: usize, queue_id: i32) -> i64 {
    match known.next_offset(topic, queue_id) {
        0 if known.late => 7 * topic as i64 + 11 * i64::from(queue_id),
        next => next,
    }
}

/// Now and then a timer message, or the copy of one that is due.
fn timed_record(log: &[Sent], number: &mut u64, now_ms: i64, random: &mut Random) -> Option<(Sent, Vec<u8>)> {
    match random.below(4) {
        0 => Some(timers::record(log, number, now_ms, random)),
        1 => timers::copy(log, now_ms, random),
        _ => None,
    }
}
