//! The slave's side of one HA connection: log bytes in, whole valid records out.
//!
//! The session reports the end of its log the moment it is connected (upstream waits up to `haSendHeartbeatInterval`;
//! a Java master is content either way), takes frames in any fragmentation, and hands on only whole records that
//! passed [`crate::check`]. It never writes the log, never truncates it and never reconnects: it says what to append
//! and why it closes.
//!
//! Bytes of a record that is not complete yet are held back here, at most [`SlaveSettings::record_limit`] of them and
//! never more than were received. So the slave's log ends at a record boundary after every append, a corrupt record
//! never reaches the disk, nothing must be cut off when a connection breaks, and "stored", "valid" and "reported" are
//! one offset. The price is one copy of each byte and, when a connection breaks, receiving part of one record again.
//!
//! Upstream: `store/src/main/java/org/apache/rocketmq/store/ha/DefaultHAClient.java`.

use std::collections::VecDeque;

use thiserror::Error;

use crate::check::{CheckError, RecordCursor};
use crate::frame::{Gather, TRANSFER_HEADER_LEN, TransferHeader};
use crate::{DEFAULT_HEARTBEAT_INTERVAL_MS, DEFAULT_HOUSEKEEPING_INTERVAL_MS, DEFAULT_SEGMENT_SIZE};

/// What a slave session is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlaveSettings {
    /// `mappedFileSizeCommitLog` in bytes; must be the same on both brokers.
    pub segment_size: i64,
    /// Longest frame body accepted, in bytes. Upstream masters send `haTransferBatchSize` at most.
    pub max_body_len: u32,
    /// Longest record or blank accepted, in bytes: the bound of what is held back. It must exceed the master's
    /// `maxMessageSize` by the fixed fields, the topic and the properties (65 KiB cover them).
    pub record_limit: i64,
    /// `forceVerifyPropCRC`: the CRC property of records that have it is checked too. Upstream's slaves check nothing.
    pub verify_prop_crc: bool,
    /// `haSendHeartbeatInterval`: the report is repeated after so long without one.
    pub heartbeat_interval_ms: u64,
    /// `haHousekeepingInterval`: the connection is closed after so long without a read.
    pub housekeeping_interval_ms: u64,
}

impl Default for SlaveSettings {
    fn default() -> Self {
        SlaveSettings {
            segment_size: DEFAULT_SEGMENT_SIZE,
            max_body_len: 4 * 1024 * 1024,
            record_limit: 16 * 1024 * 1024,
            verify_prop_crc: false,
            heartbeat_interval_ms: DEFAULT_HEARTBEAT_INTERVAL_MS,
            housekeeping_interval_ms: DEFAULT_HOUSEKEEPING_INTERVAL_MS,
        }
    }
}

/// What the shell must do for a slave session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlaveAction {
    /// Write the 8 bytes of [`crate::frame::encode_report`] to the master.
    Report {
        /// End of the local log, never beyond what is stored.
        offset: i64,
    },
    /// Append `bytes` to the commit log at `offset`, its end, then call [`SlaveSession::on_appended`]. They are whole
    /// records (or a blank), lie in one segment and continue the append before.
    Append {
        /// Physical offset of the first byte.
        offset: i64,
        /// At least one whole record.
        bytes: Vec<u8>,
    },
    /// Close the connection and log the reason. Nothing follows.
    Close {
        /// Why.
        reason: SlaveClose,
    },
}

/// Why a slave ends its connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SlaveClose {
    /// The master's next byte is not the one this log needs.
    #[error(
        "the master sends from {master}, but this slave's log ends at {slave}: closed, nothing appended. If it \
         happens again after the reconnect, the two logs differ: empty this slave's store directory to copy again"
    )]
    WrongOffset {
        /// Offset in the frame.
        master: i64,
        /// Offset this slave needs.
        slave: i64,
    },
    /// An empty log can begin only where a segment begins.
    #[error(
        "this slave is empty and the master starts at {master}, which is not the start of a segment of {segment_size} \
         bytes: make mappedFileSizeCommitLog the same on both brokers"
    )]
    NotSegmentStart {
        /// Offset in the frame.
        master: i64,
        /// Segment size of this slave.
        segment_size: i64,
    },
    /// A body length that no master sends: the peer speaks another protocol.
    #[error(
        "frame at {offset} with a body of {len} bytes, accepted are 0 to {limit}: the peer is no master in classic \
         mode, or its haTransferBatchSize is above the limit (enableControllerMode must be the same on both brokers)"
    )]
    BodyLength {
        /// Offset in the frame.
        offset: i64,
        /// Body length in the frame.
        len: i32,
        /// Longest body accepted.
        limit: u32,
    },
    /// A frame never crosses a segment end of the master, so the segments differ.
    #[error(
        "frame at {offset} with {len} bytes crosses the end of this slave's segment of {segment_size} bytes: make \
         mappedFileSizeCommitLog the same on both brokers"
    )]
    CrossesSegment {
        /// Offset in the frame.
        offset: i64,
        /// Body length in the frame.
        len: i32,
        /// Segment size of this slave.
        segment_size: i64,
    },
    /// The bytes are not a valid log; what was valid before them is kept.
    #[error(
        "the bytes from the master are not a valid commit log {error}. Nothing from that offset on was stored or \
         acknowledged. If it happens again after the reconnect, either the master's log is damaged there or the two \
         logs differ before it: compare the brokers, then empty this slave's store directory to copy again"
    )]
    Invalid {
        /// What differs, and where.
        error: CheckError,
    },
    /// Somebody else wrote this slave's log.
    #[error(
        "this slave's log ends at {found}, beyond {appended} which this connection appended: another writer is at \
         work on it"
    )]
    LogMoved {
        /// End of the log as told.
        found: i64,
        /// End of what the session handed out.
        appended: i64,
    },
    /// The master has something else where this log has one of its last records, or had its last one when it connected.
    #[error(
        "the two logs have parted: the record here, at {offset}, is not what the master has there. Nothing more is \
         copied or acknowledged, no table is taken. If the master's log is the true one, move this slave's store directory away \
         and start empty (`tandem store diff` shows what only the old one holds); otherwise make this broker the master"
    )]
    Parted {
        /// Where the record begins.
        offset: i64,
    },
    /// This log goes on where the master's has ended.
    #[error(
        "this log ends at {slave}, beyond the master's end {master}: it holds messages that the master never had, or \
         lost. Nothing more is copied or acknowledged, no table is taken. If the master's log is the true one, move this slave's store \
         directory away and start empty; otherwise make this broker the master"
    )]
    BeyondMaster {
        /// End of this log.
        slave: i64,
        /// End of the master's log.
        master: i64,
    },
    /// Nothing was read for `haHousekeepingInterval`.
    #[error("nothing heard from the master for {silent_ms} ms (haHousekeepingInterval): connection closed")]
    Silent {
        /// Milliseconds since the last byte.
        silent_ms: u64,
    },
}

impl SlaveClose {
    /// Whether a person must act, unless the reconnect goes well: everything but silence.
    pub fn needs_operator(&self) -> bool {
        !matches!(self, SlaveClose::Silent { .. })
    }
}

/// One connection to a master.
#[derive(Clone, Debug)]
pub struct SlaveSession {
    settings: SlaveSettings,
    now_ms: u64,
    closed: bool,
    header: Gather<TRANSFER_HEADER_LEN>,
    body_left: usize,
    /// The log is empty and no frame has said where it begins.
    unplaced: bool,
    /// Offset of the next byte from the master.
    received_to: i64,
    cursor: RecordCursor,
    /// Bytes from `appended_to` to `received_to`: the beginning of a record.
    held_back: Vec<u8>,
    /// End of what was handed out to be appended.
    appended_to: i64,
    /// End of what the store says it holds.
    stored_to: i64,
    reported: i64,
    report_due: bool,
    heard: bool,
    last_read_ms: u64,
    last_write_ms: u64,
    actions: VecDeque<SlaveAction>,
}

impl SlaveSession {
    /// A session for a connection just made. `log_end` is the end of the local commit log and must be a record
    /// boundary (it is after recovery, and after every append of a session); 0 is an empty log. The first report is
    /// ready at once and names `log_end`, so where only flushed bytes may be acknowledged, flush before connecting.
    pub fn connected(mut settings: SlaveSettings, now_ms: u64, log_end: i64) -> Self {
        settings.segment_size = settings.segment_size.max(1);
        SlaveSession {
            now_ms,
            closed: false,
            header: Gather::new(),
            body_left: 0,
            unplaced: log_end == 0,
            received_to: log_end,
            cursor: RecordCursor::new(log_end, settings.segment_size, settings.record_limit)
                .verifying_prop_crc(settings.verify_prop_crc),
            held_back: Vec::new(),
            appended_to: log_end,
            stored_to: log_end,
            reported: log_end,
            report_due: true,
            heard: false,
            last_read_ms: now_ms,
            last_write_ms: now_ms,
            actions: VecDeque::new(),
            settings,
        }
    }

    /// Bytes read from the master, in any fragmentation. Carry out all actions before the next call: what is queued
    /// is bounded by what one call brings.
    pub fn on_bytes(&mut self, now_ms: u64, mut bytes: &[u8]) {
        self.advance(now_ms);
        if bytes.is_empty() || self.closed {
            return;
        }
        self.last_read_ms = self.now_ms;
        while !bytes.is_empty() {
            let taken = match self.body_left {
                0 => self.take_header(&mut bytes),
                _ => self.take_body(&mut bytes),
            };
            if let Err(reason) = taken {
                return self.close(reason);
            }
        }
    }

    /// The local log now holds everything below `new_max` as durably as an acknowledgement requires: call it with the
    /// written end, or with the flushed end to acknowledge only what is on disk (W-4). A lower value than before says
    /// nothing new.
    pub fn on_appended(&mut self, now_ms: u64, new_max: i64) {
        self.advance(now_ms);
        if new_max > self.appended_to {
            return self.close(SlaveClose::LogMoved { found: new_max, appended: self.appended_to });
        }
        self.stored_to = self.stored_to.max(new_max);
        self.report_due |= self.stored_to > self.reported;
    }

    /// Time passed; needed at [`SlaveSession::deadline_ms`] at the latest.
    pub fn on_tick(&mut self, now_ms: u64) {
        self.advance(now_ms);
        let silent_ms = self.now_ms.saturating_sub(self.last_read_ms);
        if silent_ms >= self.settings.housekeeping_interval_ms {
            return self.close(SlaveClose::Silent { silent_ms });
        }
        self.report_due |= self.now_ms.saturating_sub(self.last_write_ms) >= self.settings.heartbeat_interval_ms;
    }

    /// The next thing to do; call it until it answers `None` after every input. Appends come before the report, so
    /// one report covers all that one read brought.
    pub fn poll(&mut self) -> Option<SlaveAction> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if self.closed || !std::mem::take(&mut self.report_due) {
            return None;
        }
        self.last_write_ms = self.now_ms;
        self.reported = self.stored_to;
        Some(SlaveAction::Report { offset: self.reported })
    }

    /// When [`SlaveSession::on_tick`] has something to do if nothing else happens; `None` once closed.
    pub fn deadline_ms(&self) -> Option<u64> {
        let silent = self.last_read_ms.saturating_add(self.settings.housekeeping_interval_ms);
        let report = self.last_write_ms.saturating_add(self.settings.heartbeat_interval_ms);
        (!self.closed).then_some(silent.min(report))
    }

    /// Bytes of an incomplete record that are held back.
    pub fn held_back(&self) -> usize {
        self.held_back.len()
    }

    /// Whether the master has sent a frame that fits this log: the connection is good.
    pub fn heard_from_master(&self) -> bool {
        self.heard
    }

    fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn close(&mut self, reason: SlaveClose) {
        if !self.closed {
            self.closed = true;
            self.held_back = Vec::new();
            self.actions.push_back(SlaveAction::Close { reason });
        }
    }

    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<(), SlaveClose> {
        let Some(header) = self.header.take(bytes).map(TransferHeader::decode) else {
            return Ok(());
        };
        if self.unplaced {
            self.place(header.offset)?;
        }
        if header.offset != self.received_to {
            return Err(SlaveClose::WrongOffset { master: header.offset, slave: self.received_to });
        }
        self.body_left = self.body_len(header)?;
        self.heard = true;
        Ok(())
    }

    /// The first frame for an empty log says where the log begins.
    fn place(&mut self, offset: i64) -> Result<(), SlaveClose> {
        let segment_size = self.settings.segment_size;
        if offset < 0 || offset % segment_size != 0 || offset.checked_add(segment_size).is_none() {
            return Err(SlaveClose::NotSegmentStart { master: offset, segment_size });
        }
        self.unplaced = false;
        self.received_to = offset;
        self.appended_to = offset;
        self.cursor = RecordCursor::new(offset, segment_size, self.settings.record_limit)
            .verifying_prop_crc(self.settings.verify_prop_crc);
        Ok(())
    }

    fn body_len(&self, header: TransferHeader) -> Result<usize, SlaveClose> {
        let TransferHeader { offset, body_len: len } = header;
        let limit = self.settings.max_body_len;
        let segment_size = self.settings.segment_size;
        let body_len = u32::try_from(len).ok().filter(|len| *len <= limit);
        let body_len = body_len.ok_or(SlaveClose::BodyLength { offset, len, limit })?;
        if i64::from(body_len) > segment_size - offset % segment_size {
            return Err(SlaveClose::CrossesSegment { offset, len, segment_size });
        }
        Ok(body_len as usize)
    }

    fn take_body(&mut self, bytes: &mut &[u8]) -> Result<(), SlaveClose> {
        let (piece, rest) = bytes.split_at(self.body_left.min(bytes.len()));
        *bytes = rest;
        self.body_left -= piece.len();
        self.received_to += piece.len() as i64;
        self.held_back.extend_from_slice(piece);
        let fed = self.cursor.feed(piece);
        self.release();
        fed.map(|_| ()).map_err(|error| SlaveClose::Invalid { error })
    }

    /// Hands out the records that became whole; the beginning of the next one stays.
    fn release(&mut self) {
        let whole = (self.cursor.valid_to() - self.appended_to) as usize;
        if whole == 0 {
            return;
        }
        let rest = self.held_back.split_off(whole);
        let bytes = std::mem::replace(&mut self.held_back, rest);
        self.actions.push_back(SlaveAction::Append { offset: self.appended_to, bytes });
        self.appended_to = self.cursor.valid_to();
    }
}

/// How a connection to the master ended, for [`Reconnect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// No connection came about, or the network or the master ended it.
    Cut {
        /// [`SlaveSession::heard_from_master`]; false if there was no session.
        heard_from_master: bool,
    },
    /// The session closed it.
    Closed(SlaveClose),
}

/// How long to wait before the next connection.
///
/// Upstream waits 5 s after every failure, which costs a synchronous master seconds of failed sends (F-06). Here a
/// connection that worked is replaced at once; one that never carried a frame (a master that is away, or refuses this
/// slave) is retried ever more slowly, and one that this slave refused after the upstream wait.
#[derive(Clone, Debug, Default)]
pub struct Reconnect {
    failures: u32,
}

impl Reconnect {
    /// Wait after a connection that worked.
    pub const FIRST_MS: u64 = 100;
    /// Longest wait, that of upstream.
    pub const LONGEST_MS: u64 = 5_000;

    /// Milliseconds to wait after a connection ended like this.
    pub fn delay_ms(&mut self, end: &SessionEnd) -> u64 {
        let worked = match end {
            SessionEnd::Closed(reason) if reason.needs_operator() => return Self::LONGEST_MS,
            SessionEnd::Closed(_) => true,
            SessionEnd::Cut { heard_from_master } => *heard_from_master,
        };
        self.failures = if worked { 0 } else { self.failures.saturating_add(1) };
        Self::FIRST_MS.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST_MS)
    }
}
