//! The two messages of the classic HA protocol, and nothing of their meaning.
//!
//! Slave to master: an 8-byte report, the end of the slave's commit log. Master to slave: a 12-byte header (physical
//! offset of the first body byte, body length) and that many raw commit log bytes; length 0 is a heartbeat. All
//! integers are big-endian and signed. There is no magic, no version and no checksum, so everything received is
//! hostile until a session has judged it.
//!
//! Upstream: `store/src/main/java/org/apache/rocketmq/store/ha/DefaultHAClient.java` (report) and
//! `DefaultHAConnection.java` (transfer header).

#[cfg(test)]
mod tests;

/// Bytes in a report.
pub const REPORT_LEN: usize = 8;
/// Bytes in a transfer header.
pub const TRANSFER_HEADER_LEN: usize = 12;
/// A Java slave parses a frame only when header and body fit its read buffer of 4 MiB; a longer body would stall it.
pub const MAX_BODY_LEN: u32 = 4 * 1024 * 1024 - TRANSFER_HEADER_LEN as u32;

/// The report for a log that ends at `offset`.
pub fn encode_report(offset: i64) -> [u8; REPORT_LEN] {
    offset.to_be_bytes()
}

/// What stands before the body of a frame from the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferHeader {
    /// Physical offset of the first body byte; of the next one to come in a heartbeat.
    pub offset: i64,
    /// Body bytes that follow; 0 is a heartbeat. Negative only from a peer that is no master.
    pub body_len: i32,
}

impl TransferHeader {
    /// A heartbeat that says the master will send `offset` next.
    pub fn heartbeat(offset: i64) -> Self {
        TransferHeader { offset, body_len: 0 }
    }

    /// The 12 bytes on the wire.
    pub fn encode(self) -> [u8; TRANSFER_HEADER_LEN] {
        let mut out = [0; TRANSFER_HEADER_LEN];
        out[..8].copy_from_slice(&self.offset.to_be_bytes());
        out[8..].copy_from_slice(&self.body_len.to_be_bytes());
        out
    }

    /// Reads the 12 bytes; whether the values make sense is for the session to say.
    pub fn decode(bytes: [u8; TRANSFER_HEADER_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        TransferHeader {
            offset: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            body_len: i32::from_be_bytes([i, j, k, l]),
        }
    }
}

/// Collects exactly `N` bytes from a stream cut anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Gather<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Gather<N> {
    pub(crate) fn new() -> Self {
        Gather { bytes: [0; N], filled: 0 }
    }

    /// Takes what is missing from the front of `input`; the group, once whole, and then starts over.
    pub(crate) fn take(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        let (head, rest) = input.split_at((N - self.filled).min(input.len()));
        self.bytes[self.filled..self.filled + head.len()].copy_from_slice(head);
        self.filled += head.len();
        *input = rest;
        if self.filled < N {
            return None;
        }
        self.filled = 0;
        Some(self.bytes)
    }
}

/// Cuts a slave's byte stream into reports. Groups of 8 are counted from the first byte of the connection, so no
/// fragmentation can shift them.
#[derive(Clone, Debug)]
pub struct ReportReader {
    gather: Gather<REPORT_LEN>,
}

impl ReportReader {
    /// A reader at the start of a connection.
    pub fn new() -> Self {
        ReportReader { gather: Gather::new() }
    }

    /// The next whole report in `input`, which is advanced past it; `None` once all of `input` is taken in.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<i64> {
        self.gather.take(input).map(i64::from_be_bytes)
    }
}

impl Default for ReportReader {
    fn default() -> Self {
        Self::new()
    }
}
