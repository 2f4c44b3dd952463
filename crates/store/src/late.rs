//! Properties that only the append lock knows: the base offset of an inner batch, the offsets in light queues, the CRC of
//! the whole record. Room for them is made behind the record before the lock is taken; under it their text is written
//! and the record's lengths follow. Source: `BatchConsumeQueue.java` (assignQueueOffset), `CommitLog.java`
//! (handlePropertiesForLmqMsg, doAppend); reference store 5, 6.2, 7.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use wire::{
    property::{self, CRC32, INNER_BASE, INNER_MULTI_QUEUE_OFFSET, WAIT},
    record::RecordView,
    record_crc::{self, CRC_TAIL},
    record_encode::MAX_PROPERTIES,
    sys_flag,
};

use crate::{config::StoreConfig, lmq, queue::Queue};

/// Digits of the greatest offset.
const DIGITS: usize = 19;

/// What is still to be written into one record.
pub(crate) struct Late {
    /// Bytes of the record without it.
    pub(crate) fixed: usize,
    /// Bytes kept free behind the record.
    pub(crate) room: usize,
    properties_at: usize,
    inner_base: bool,
    crc: bool,
    /// One for each name, in their order.
    pub(crate) light: Vec<Light>,
}

/// One queue that a record is put into besides its own.
pub(crate) struct Light {
    pub(crate) name: String,
    /// `None`: it has no queue.
    pub(crate) queue: Option<Arc<Queue>>,
    pub(crate) offset: i64,
    /// The same name came before: the counter has moved already.
    pub(crate) repeated: bool,
}

impl Late {
    /// Appends a record to `out`, without what is written later and with room for it; `None` when there is nothing to
    /// write later, and nothing was appended.
    pub(crate) fn prepare(record: &RecordView<'_>, config: &StoreConfig, out: &mut Vec<u8>) -> Option<Self> {
        let inner_base = record.sys_flag() & sys_flag::INNER_BATCH != 0 && sys_flag::is_queued(record.sys_flag());
        let light = if config.enable_lmq { light_of(record) } else { Vec::new() };
        // Numbers of where the message came from: as this record's they would count for its light queues.
        let strange = config.enable_lmq && lmq::is_on_its_way(record.topic());
        let strange = strange && record.property(INNER_MULTI_QUEUE_OFFSET).is_some();
        // A CRC that a client made up, or that belongs to the record this one is a copy of: who checks would take it for this one's.
        let posed = !config.append_prop_crc && record_crc::claimed(record.bytes()).is_some();
        if !inner_base && light.is_empty() && !config.append_prop_crc && !strange && !posed {
            return None;
        }
        let mut written_later: Vec<&str> = Vec::new();
        let mut room = 0;
        if inner_base {
            written_later.push(INNER_BASE);
            room += INNER_BASE.len() + DIGITS + 3;
        }
        if !light.is_empty() {
            // As Java: these messages lose WAIT, which only the broker that got it needs.
            written_later.extend([INNER_MULTI_QUEUE_OFFSET, WAIT]);
            room += INNER_MULTI_QUEUE_OFFSET.len() + light.len() * (DIGITS + 1) + 3;
        }
        if strange {
            written_later.push(INNER_MULTI_QUEUE_OFFSET);
            room += 1;
        }
        if config.append_prop_crc {
            written_later.push(CRC32);
            room += CRC_TAIL + 1;
        }
        if posed {
            written_later.push(CRC32);
        }
        let start = out.len();
        out.extend_from_slice(&record.bytes()[..record.properties_at()]);
        out.extend_from_slice(&property::without(record.properties(), &written_later));
        if posed && record_crc::claimed(&out[start..]).is_some() {
            // The end of another property looks like one. Without its separator it reads the same, and is none.
            out.pop();
        }
        let fixed = out.len() - start;
        let properties_at = record.properties_at();
        set_lengths(&mut out[start..], properties_at, fixed);
        out.resize(out.len() + room, 0);
        Some(Self { fixed, room, properties_at, inner_base, crc: config.append_prop_crc, light })
    }

    /// Gives the record its places in the light queues. [`Late::take_back`] undoes it.
    pub(crate) fn take_places(&mut self) {
        for number in 0..self.light.len() {
            let (before, light) = self.light.split_at_mut(number);
            let light = &mut light[0];
            let Some(queue) = &light.queue else { continue };
            let same = before.iter().find(|other| other.name == light.name);
            light.repeated = same.is_some();
            light.offset = same.map_or_else(|| queue.next_offset.fetch_add(1, SeqCst), |other| other.offset);
        }
    }

    pub(crate) fn take_back(&self) {
        for light in self.light.iter().filter(|light| !light.repeated) {
            if let Some(queue) = &light.queue {
                queue.next_offset.store(light.offset, SeqCst);
            }
        }
    }

    /// Writes what is known now, without the CRC itself. `bytes` is the record with its room; returns the record's
    /// size, or the length of its properties where they are too long.
    pub(crate) fn complete(&self, bytes: &mut [u8], queue_offset: i64) -> Result<usize, usize> {
        let mut text = Vec::with_capacity(self.room);
        let add = |text: &mut Vec<u8>, name: &str, value: &str| property::push(text, name, value);
        if self.inner_base {
            add(&mut text, INNER_BASE, &queue_offset.to_string());
        }
        if !self.light.is_empty() {
            let offsets = self.light.iter().map(|light| light.queue.as_ref().map(|_| light.offset));
            add(&mut text, INNER_MULTI_QUEUE_OFFSET, &lmq::offsets_text(offsets));
        }
        // Java's batches get no separator here: with properties that do not end with one, the CRC is lost for readers.
        let goes_on = self.crc || !text.is_empty();
        let open = goes_on && self.fixed > self.properties_at && bytes[self.fixed - 1] != property::VALUE_END;
        let separator = usize::from(open);
        let tail = if self.crc { CRC_TAIL } else { 0 };
        let size = self.fixed + separator + text.len() + tail;
        let properties = size - self.properties_at;
        if properties > MAX_PROPERTIES {
            return Err(properties);
        }
        if open {
            bytes[self.fixed] = property::VALUE_END;
        }
        let at = self.fixed + separator;
        bytes[at..at + text.len()].copy_from_slice(&text);
        set_lengths(bytes, self.properties_at, size);
        Ok(size)
    }

    /// The last step, when everything else is in the record.
    pub(crate) fn seal(&self, record: &mut [u8]) {
        if self.crc {
            record_crc::seal(record);
        }
    }
}

fn set_lengths(record: &mut [u8], properties_at: usize, size: usize) {
    record[..4].copy_from_slice(&(size as i32).to_be_bytes());
    record[properties_at - 2..properties_at].copy_from_slice(&((size - properties_at) as i16).to_be_bytes());
}

fn light_of(record: &RecordView<'_>) -> Vec<Light> {
    let names = lmq::names(record).into_iter().flatten();
    names.map(|name| Light { name: name.to_owned(), queue: None, offset: 0, repeated: false }).collect()
}
