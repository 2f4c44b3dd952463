//! A byte allowance per second (`haFlowControlEnable`, `maxHaTransferByteInSecond`).
//!
//! Upstream counts header bytes only and sends empty frames in a tight loop once the allowance is gone; here bodies
//! count, and a frame waits until all of it is allowed. It never sleeps: it says how long to wait.

/// An allowance that fills with time and is spent by frames.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    bytes_per_second: u64,
    /// In thousandths of a byte, so that one millisecond of any rate is a whole number.
    credit_milli: u64,
    /// What a frame took that was longer than planned; paid before anything is saved up.
    debt_milli: u64,
    cap_milli: u64,
    refilled_ms: u64,
}

impl Pacer {
    /// `bytes_per_second` 0 is no limit. At most a tenth of a second, or one frame of `largest`, is saved up.
    pub(crate) fn new(now_ms: u64, bytes_per_second: u64, largest: u64) -> Self {
        let cap_milli = bytes_per_second.saturating_mul(100).max(largest.saturating_mul(1000));
        Pacer { bytes_per_second, credit_milli: 0, debt_milli: 0, cap_milli, refilled_ms: now_ms }
    }

    pub(crate) fn refill(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.refilled_ms);
        self.refilled_ms = self.refilled_ms.max(now_ms);
        let earned = elapsed_ms.saturating_mul(self.bytes_per_second);
        let paid = earned.min(self.debt_milli);
        self.debt_milli -= paid;
        self.credit_milli = self.credit_milli.saturating_add(earned - paid).min(self.cap_milli);
    }

    /// Milliseconds until `len` bytes (at most the largest frame) may go; 0 is now.
    pub(crate) fn wait_ms(&self, len: u64) -> u64 {
        if self.bytes_per_second == 0 {
            return 0;
        }
        let needed = len.saturating_mul(1000).saturating_add(self.debt_milli);
        needed.saturating_sub(self.credit_milli).div_ceil(self.bytes_per_second)
    }

    pub(crate) fn spend(&mut self, len: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let milli = len.saturating_mul(1000);
        self.debt_milli = self.debt_milli.saturating_add(milli.saturating_sub(self.credit_milli));
        self.credit_milli = self.credit_milli.saturating_sub(milli);
    }
}
