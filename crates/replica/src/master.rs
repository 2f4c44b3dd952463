//! The master's side of one HA connection: reports in, ranges to send out.
//!
//! A session knows which bytes of the commit log are readable ([`MasterSession::on_marks`]) and what its slave reported
//! ([`MasterSession::on_bytes`]); [`MasterSession::poll`] says what to do next. It never holds a log byte: `Send` names
//! a range, the shell reads it and writes it behind a [`crate::frame::TransferHeader`]. Sends are decided only when
//! polled and only while the bytes under way fit the window, so a slow slave costs one window and no more.
//!
//! Upstream: `store/src/main/java/org/apache/rocketmq/store/ha/DefaultHAConnection.java`. Where upstream accepts any
//! report, this session refuses what cannot be true (replication reference, table 2.5 and W-1).

use thiserror::Error;

use crate::frame::{MAX_BODY_LEN, ReportReader, TRANSFER_HEADER_LEN};
use crate::pacer::Pacer;
use crate::{DEFAULT_HEARTBEAT_INTERVAL_MS, DEFAULT_HOUSEKEEPING_INTERVAL_MS, DEFAULT_SEGMENT_SIZE};

/// What a master session is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterSettings {
    /// `mappedFileSizeCommitLog` in bytes; must be the same on both brokers.
    pub segment_size: i64,
    /// `haTransferBatchSize`: body bytes in one frame, 1 to [`MAX_BODY_LEN`] (values outside are moved to the bound).
    pub batch_size: u32,
    /// Bytes (headers included) that may be under way without [`MasterSession::on_sent`]; one frame may always go.
    pub window_bytes: u64,
    /// `haSendHeartbeatInterval`: a heartbeat goes after so long without a write.
    pub heartbeat_interval_ms: u64,
    /// `haHousekeepingInterval`: the connection is closed after so long without a read.
    pub housekeeping_interval_ms: u64,
    /// `maxHaTransferByteInSecond` if `haFlowControlEnable`, else 0 for no limit.
    pub max_bytes_per_second: u64,
}

impl Default for MasterSettings {
    fn default() -> Self {
        MasterSettings {
            segment_size: DEFAULT_SEGMENT_SIZE,
            batch_size: 32 * 1024,
            window_bytes: 512 * 1024,
            heartbeat_interval_ms: DEFAULT_HEARTBEAT_INTERVAL_MS,
            housekeeping_interval_ms: DEFAULT_HOUSEKEEPING_INTERVAL_MS,
            max_bytes_per_second: 0,
        }
    }
}

/// What the shell must do for a master session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterAction {
    /// Write a transfer header and the `len` log bytes at `offset`, then call [`MasterSession::on_sent`] with `len`.
    /// The range is readable, lies in one segment and is no longer than the batch size.
    Send {
        /// Physical offset of the first byte.
        offset: i64,
        /// Body bytes, at least 1.
        len: u32,
    },
    /// Write a header without body, then call [`MasterSession::on_sent`] with 0.
    Heartbeat {
        /// Physical offset that will be sent next.
        offset: i64,
    },
    /// Close the connection and log the reason. Nothing follows.
    Close {
        /// Why.
        reason: MasterClose,
    },
}

/// Why a master ends the connection of a slave.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MasterClose {
    /// A report below zero: the peer is no slave.
    #[error(
        "the peer reported offset {report}, which no commit log can have: it is not a slave of this group (a port \
         scanner, or a broker in controller mode); closed, nothing counted"
    )]
    NegativeReport {
        /// What was reported.
        report: i64,
    },
    /// W-1: the slave claims bytes that this master does not have.
    #[error(
        "slave at {report} is beyond this master's end {max}: its log holds bytes this master never had, or lost; \
         not counted as an acknowledgement. If the slave's log is the true one, make it the master; otherwise empty \
         the slave's store directory and let it copy again"
    )]
    BeyondEnd {
        /// What was reported.
        report: i64,
        /// End of this master's log.
        max: i64,
    },
    /// The slave claims bytes that exist here but were never sent to it.
    #[error(
        "slave reported {report} although only bytes below {sent} were sent to it: not counted as an \
         acknowledgement. Check that the slave follows one master only"
    )]
    BeyondSent {
        /// What was reported.
        report: i64,
        /// End of what this connection was given.
        sent: i64,
    },
    /// The slave's log ends where no record of this log does: it is another log, or the other master that sent it the beginning
    /// of a record is gone, and nobody knows whether it was this one.
    #[error(
        "slave at {report} ends within a record of this log: it would go on with bytes that may not belong to what it has. \
         Nothing is sent or counted. Start a Java slave anew, so that it cuts off the record that it has a part of; if it ends within \
         a record again, the two logs have parted: move its store directory away and let it copy again"
    )]
    WithinRecord {
        /// What was reported.
        report: i64,
    },
    /// The slave needs bytes that are gone here.
    #[error(
        "slave at {slave} is below this master's minimum {min}: the bytes between were removed by retention and \
         cannot be copied. Empty the slave's store directory and start it again; it then begins with the newest \
         segment"
    )]
    BelowMin {
        /// Offset the slave needs next.
        slave: i64,
        /// First offset of this master's log.
        min: i64,
    },
    /// This master's own log became shorter than what was sent.
    #[error(
        "this master's log was cut to {max}, below {sent} which was already sent to the slave: the connection starts \
         over, and the slave is refused if it kept the bytes"
    )]
    Truncated {
        /// End of what this connection was given.
        sent: i64,
        /// New end of this master's log.
        max: i64,
    },
    /// Nothing was read for `haHousekeepingInterval`.
    #[error("nothing heard from the slave for {silent_ms} ms (haHousekeepingInterval): connection closed")]
    Silent {
        /// Milliseconds since the last byte.
        silent_ms: u64,
    },
}

impl MasterClose {
    /// Whether a person must act: the slave will be refused again when it comes back.
    pub fn needs_operator(&self) -> bool {
        matches!(self, MasterClose::BeyondEnd { .. } | MasterClose::BelowMin { .. } | MasterClose::WithinRecord { .. })
    }
}

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Closing is decided and not yet polled.
    Closing(MasterClose),
    Closed,
}

/// One connection from a slave.
#[derive(Clone, Debug)]
pub struct MasterSession {
    settings: MasterSettings,
    state: State,
    now_ms: u64,
    min_offset: i64,
    max_offset: i64,
    reports: ReportReader,
    /// Next offset to send; none before the first report, because nothing may be sent before it.
    next: Option<i64>,
    /// Where the stream to a slave began that had nothing.
    began_at: Option<i64>,
    acked: Option<i64>,
    ack_untold: bool,
    /// Nobody has asked yet whether the first report is of a log like this one.
    first_unproven: bool,
    frames_under_way: u64,
    bytes_under_way: u64,
    last_read_ms: u64,
    last_write_ms: u64,
    pacer: Pacer,
}

impl MasterSession {
    /// A session for a connection just accepted. `min_offset` and `max_offset` bound what is readable in the log
    /// *now*: older marks would make an honest slave look ahead.
    pub fn new(mut settings: MasterSettings, now_ms: u64, min_offset: i64, max_offset: i64) -> Self {
        settings.segment_size = settings.segment_size.max(1);
        settings.batch_size = settings.batch_size.clamp(1, MAX_BODY_LEN);
        let largest = frame_len(settings.batch_size);
        MasterSession {
            state: State::Open,
            now_ms,
            min_offset,
            max_offset,
            reports: ReportReader::new(),
            next: None,
            began_at: None,
            acked: None,
            ack_untold: false,
            first_unproven: true,
            frames_under_way: 0,
            bytes_under_way: 0,
            last_read_ms: now_ms,
            last_write_ms: now_ms,
            pacer: Pacer::new(now_ms, settings.max_bytes_per_second, largest),
            settings,
        }
    }

    /// Bytes read from the slave, in any fragmentation.
    pub fn on_bytes(&mut self, now_ms: u64, mut bytes: &[u8]) {
        self.advance(now_ms);
        if bytes.is_empty() || self.state != State::Open {
            return;
        }
        self.last_read_ms = self.now_ms;
        // As upstream, the last whole report of a read counts. The others must at least be possible: a peer that
        // sends one impossible value is no slave, however its bytes were cut.
        let mut last = None;
        while let Some(report) = self.reports.next(&mut bytes) {
            if let Err(reason) = self.possible(report) {
                return self.close(reason);
            }
            last = Some(report);
        }
        if let Some(report) = last
            && let Err(reason) = self.take_report(report)
        {
            self.close(reason);
        }
    }

    /// The frame whose body was `len` bytes (0: a heartbeat) was handed to the network. Writes complete in order.
    pub fn on_sent(&mut self, now_ms: u64, len: u32) {
        self.advance(now_ms);
        self.last_write_ms = self.now_ms;
        self.frames_under_way = self.frames_under_way.saturating_sub(1);
        self.bytes_under_way = self.bytes_under_way.saturating_sub(frame_len(len));
    }

    /// The readable log is now `min_offset..max_offset`. Call it after every append: nothing else wakes the sender.
    pub fn on_marks(&mut self, now_ms: u64, min_offset: i64, max_offset: i64) {
        self.advance(now_ms);
        self.min_offset = min_offset;
        self.max_offset = max_offset;
        let Some(next) = self.next else { return };
        if next > max_offset {
            self.close(MasterClose::Truncated { sent: next, max: max_offset });
        } else if next < min_offset {
            self.close(MasterClose::BelowMin { slave: next, min: min_offset });
        }
    }

    /// Time passed; needed at [`MasterSession::deadline_ms`] at the latest.
    pub fn on_tick(&mut self, now_ms: u64) {
        self.advance(now_ms);
        let silent_ms = self.now_ms.saturating_sub(self.last_read_ms);
        if silent_ms >= self.settings.housekeeping_interval_ms {
            self.close(MasterClose::Silent { silent_ms });
        }
    }

    /// The next thing to do; call it until it answers `None` after every input.
    pub fn poll(&mut self) -> Option<MasterAction> {
        match self.state {
            State::Closed => None,
            State::Closing(_) => self.take_close().map(|reason| MasterAction::Close { reason }),
            State::Open => self.poll_send().or_else(|| self.poll_heartbeat()),
        }
    }

    /// A new acknowledgement, to be asked for after each [`MasterSession::on_bytes`] and before anything is sent: the slave holds
    /// everything below this offset, which is never beyond what this master holds. `None` when there is none, or when the
    /// connection is to be closed. It is no action: a shell that is busy writing must not hold it back.
    ///
    /// `is_ours` tells whether a log that ends at an offset is the beginning of this one as far as can be known: a record ends there,
    /// or this master itself sent the slave that part of a record. It is asked for the first report; without that the connection
    /// is closed. What the slave reports later it has from here.
    pub fn take_ack(&mut self, is_ours: impl FnOnce(i64) -> bool) -> Option<i64> {
        if self.state != State::Open || !std::mem::take(&mut self.ack_untold) {
            return None;
        }
        let report = self.acked?;
        if std::mem::take(&mut self.first_unproven) && !is_ours(report) {
            self.close(MasterClose::WithinRecord { report });
            return None;
        }
        Some(report)
    }

    /// The frame that [`MasterSession::poll`] named last has `len` bytes instead of `planned`, so that it ends with a record. To be
    /// told before [`MasterSession::on_sent`]; what is sent must lie in one segment of the readable log.
    pub fn resize(&mut self, planned: u32, len: u32) {
        let by = i64::from(len) - i64::from(planned);
        self.next = self.next.map(|next| next + by);
        self.bytes_under_way = self.bytes_under_way.saturating_add_signed(by);
        self.pacer.spend(u64::from(len.saturating_sub(planned)));
    }

    /// Why the connection is to be closed, ahead of whatever [`MasterSession::poll`] would say first: a shell that is stuck in
    /// a write, as its peer reads nothing, must end all the same. Nothing follows.
    pub fn take_close(&mut self) -> Option<MasterClose> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closing(reason) => Some(reason),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// First byte that a slave has which came with an empty log; `None` for one that had something.
    pub fn began_at(&self) -> Option<i64> {
        self.began_at
    }

    /// When [`MasterSession::on_tick`] has something to do if nothing else happens; `None` once closed.
    pub fn deadline_ms(&self) -> Option<u64> {
        if self.state == State::Closed {
            return None;
        }
        let mut deadline = self.last_read_ms.saturating_add(self.settings.housekeeping_interval_ms);
        if self.may_heartbeat() {
            deadline = deadline.min(self.last_write_ms.saturating_add(self.settings.heartbeat_interval_ms));
        }
        if let Some((_, len)) = self.sendable() {
            deadline = deadline.min(self.now_ms.saturating_add(self.pacer.wait_ms(frame_len(len))));
        }
        Some(deadline)
    }

    /// True while there are bytes to send that [`MasterSettings::max_bytes_per_second`] holds back.
    pub fn is_paced(&self) -> bool {
        self.sendable().is_some_and(|(_, len)| self.pacer.wait_ms(frame_len(len)) > 0)
    }

    /// Offset that will be sent next; `None` before the first report.
    pub fn next_offset(&self) -> Option<i64> {
        self.next
    }

    /// Bytes handed out as actions and not yet confirmed by [`MasterSession::on_sent`].
    pub fn bytes_under_way(&self) -> u64 {
        self.bytes_under_way
    }

    fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        self.pacer.refill(self.now_ms);
    }

    fn close(&mut self, reason: MasterClose) {
        if self.state == State::Open {
            self.state = State::Closing(reason);
        }
    }

    fn possible(&self, report: i64) -> Result<(), MasterClose> {
        if report < 0 {
            return Err(MasterClose::NegativeReport { report });
        }
        if report > self.max_offset {
            return Err(MasterClose::BeyondEnd { report, max: self.max_offset });
        }
        Ok(())
    }

    fn take_report(&mut self, report: i64) -> Result<(), MasterClose> {
        match self.next {
            None => {
                let start = self.start_for(report)?;
                self.next = Some(start);
                self.began_at = (report == 0).then_some(start);
            }
            Some(sent) if report > sent => return Err(MasterClose::BeyondSent { report, sent }),
            Some(_) => {}
        }
        self.ack_untold |= self.acked != Some(report);
        self.acked = Some(report);
        Ok(())
    }

    /// Where the stream begins. An empty slave gets the newest segment from its base, as upstream does: older ones
    /// are never copied.
    fn start_for(&self, report: i64) -> Result<i64, MasterClose> {
        let start = match report {
            0 => self.max_offset - self.max_offset % self.settings.segment_size,
            _ => report,
        };
        if start < self.min_offset {
            return Err(MasterClose::BelowMin { slave: start, min: self.min_offset });
        }
        Ok(start)
    }

    fn poll_send(&mut self) -> Option<MasterAction> {
        let (offset, len) = self.sendable()?;
        if self.pacer.wait_ms(frame_len(len)) > 0 {
            return None;
        }
        self.pacer.spend(frame_len(len));
        self.next = Some(offset + i64::from(len));
        self.start_write(len);
        Some(MasterAction::Send { offset, len })
    }

    /// The next frame that the log, the segment, the batch size and the window allow.
    fn sendable(&self) -> Option<(i64, u32)> {
        let offset = self.next?;
        let in_segment = self.settings.segment_size - offset % self.settings.segment_size;
        let len = (self.max_offset - offset).min(in_segment).min(i64::from(self.settings.batch_size));
        let len = u32::try_from(len).ok().filter(|len| *len > 0)?;
        let fits = self.bytes_under_way + frame_len(len) <= self.settings.window_bytes;
        (fits || self.frames_under_way == 0).then_some((offset, len))
    }

    fn poll_heartbeat(&mut self) -> Option<MasterAction> {
        let idle_ms = self.now_ms.saturating_sub(self.last_write_ms);
        if !self.may_heartbeat() || idle_ms < self.settings.heartbeat_interval_ms {
            return None;
        }
        let offset = self.next?;
        self.start_write(0);
        Some(MasterAction::Heartbeat { offset })
    }

    /// A write that is stuck is no idleness, and a second heartbeat behind it would only pile up.
    fn may_heartbeat(&self) -> bool {
        self.next.is_some() && self.frames_under_way == 0
    }

    fn start_write(&mut self, len: u32) {
        self.last_write_ms = self.now_ms;
        self.frames_under_way += 1;
        self.bytes_under_way += frame_len(len);
    }
}

fn frame_len(body_len: u32) -> u64 {
    u64::from(body_len) + TRANSFER_HEADER_LEN as u64
}
