//! The read buffer of one connection: bytes in, commands out. It grows as bytes arrive and never by what a length
//! word promises; what a burst needed is given back after it.

use bytes::{Buf, BytesMut};
use wire::{
    Command, ExtFields,
    frame::{self, FrameError},
};

/// The least room for one read, and the most an idle connection keeps.
const SMALLEST_READ: usize = 4 * 1024;

/// Reads that leave most of their room unused before the room is halved.
const CALM_READS: u32 = 16;

pub(crate) struct Inbound {
    bytes: BytesMut,
    max_frame: usize,
    largest_read: usize,
    /// Room for the next read. Doubles when a read fills it.
    room: usize,
    calm_reads: u32,
}

impl Inbound {
    pub fn new(max_frame: usize, largest_read: usize) -> Self {
        let largest_read = largest_read.max(SMALLEST_READ);
        Self { bytes: BytesMut::new(), max_frame, largest_read, room: SMALLEST_READ, calm_reads: 0 }
    }

    /// The buffer, with room for one read behind its bytes.
    pub fn room(&mut self) -> &mut BytesMut {
        self.bytes.reserve(self.room);
        &mut self.bytes
    }

    /// Adapts the room to what a read brought.
    pub fn adapt(&mut self, read: usize) {
        if read >= self.room {
            self.room = (self.room * 2).min(self.largest_read);
            self.calm_reads = 0;
        } else if read < self.room / 4 {
            self.calm_reads += 1;
            if self.calm_reads >= CALM_READS {
                self.room = (self.room / 2).max(SMALLEST_READ);
                self.calm_reads = 0;
            }
        } else {
            self.calm_reads = 0;
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Everything that came, for another reader.
    pub fn take(&mut self) -> BytesMut {
        std::mem::take(&mut self.bytes)
    }

    pub fn skip(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    /// The next command; `None` when more bytes are needed. Its fields get the memory of `fields`.
    pub fn next(&mut self, fields: &mut ExtFields) -> Result<Option<Command>, FrameError> {
        frame::next(&mut self.bytes, self.max_frame, fields)
    }

    /// Gives memory back before the connection sleeps.
    pub fn relax(&mut self) {
        if self.bytes.is_empty() {
            if self.room == SMALLEST_READ || self.bytes.capacity() > 2 * self.largest_read {
                self.bytes = BytesMut::new();
            }
        } else if self.bytes.capacity() > 2 * self.largest_read + 4 * self.bytes.len() {
            self.bytes = BytesMut::from(&self.bytes[..]);
        }
    }

    /// Gives everything back that an idle connection does not need.
    pub fn rest(&mut self) {
        self.room = SMALLEST_READ;
        self.relax();
    }

    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(inbound: &mut Inbound, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = inbound.room;
            let read = bytes.len().min(room);
            inbound.room().extend_from_slice(&bytes[..read]);
            inbound.adapt(read);
            bytes = &bytes[read..];
        }
    }

    #[test]
    fn a_promised_length_reserves_nothing() {
        let mut inbound = Inbound::new(frame::MAX_FRAME, 64 * 1024);
        feed(&mut inbound, &(15 * 1024 * 1024u32).to_be_bytes());
        assert!(inbound.next(&mut ExtFields::new()).unwrap().is_none());
        assert!(inbound.capacity() <= 2 * SMALLEST_READ, "{}", inbound.capacity());
    }

    #[test]
    fn a_big_frame_leaves_no_big_buffer() {
        let mut inbound = Inbound::new(frame::MAX_FRAME, 64 * 1024);
        let mut bytes = BytesMut::new();
        frame::encode(&Command::request(1).with_body(vec![7u8; 4 << 20]), &mut bytes);
        bytes.extend_from_slice(&[0, 0]);
        feed(&mut inbound, &bytes);
        assert_eq!(inbound.next(&mut ExtFields::new()).unwrap().unwrap().body.len(), 4 << 20);
        inbound.relax();
        assert_eq!(inbound.bytes(), [0, 0]);
        assert!(inbound.capacity() < 256 * 1024, "{}", inbound.capacity());
        inbound.skip(2);
        inbound.rest();
        assert_eq!(inbound.capacity(), 0);
    }

    #[test]
    fn room_follows_the_load() {
        let mut inbound = Inbound::new(frame::MAX_FRAME, 64 * 1024);
        for _ in 0..10 {
            inbound.adapt(inbound.room);
        }
        assert_eq!(inbound.room, 64 * 1024);
        for _ in 0..200 {
            inbound.adapt(100);
        }
        assert_eq!(inbound.room, SMALLEST_READ);
    }
}
