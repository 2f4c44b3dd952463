//! When views are built that nobody waits for: a moment after the first message, for all that came meanwhile, or as soon as
//! that is much. Knows no store: its owner tells how much there is, and builds.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::{
    sync::Notify,
    time::{Duration, sleep, timeout},
};

/// The longest that views are put off. Each time costs a timer, a write for each queue that was written to and one for the
/// index: with messages one by one, that is a share of every message.
const LONGEST: Duration = Duration::from_millis(20);

/// The least: also when views cannot be built now, however much there is, not every message tries to.
const SHORTEST: Duration = Duration::from_millis(2);

/// Bytes of the log without views from which on they are put off no longer: what a core's own cache still holds.
const MUCH: i64 = 512 << 10;

/// One for all who append.
#[derive(Default)]
pub struct PutOff {
    /// Since the last call for views.
    is_called: AtomicBool,
    bell: Notify,
    much: Notify,
}

impl PutOff {
    /// There are so many bytes without views.
    pub fn call(&self, bytes: i64) {
        if !self.is_called.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
        if bytes >= MUCH {
            self.much.notify_one();
        }
    }

    /// Returns when views are to be built. A call from then on leads to another return.
    pub async fn due(&self) {
        self.bell.notified().await;
        sleep(SHORTEST).await;
        let _ = timeout(LONGEST - SHORTEST, self.much.notified()).await;
        self.is_called.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// How long it takes, by a clock that moves only when everybody waits.
    async fn waited(put_off: &PutOff) -> Duration {
        let began = Instant::now();
        put_off.due().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn little_waits_for_more_and_much_does_not() {
        let put_off = PutOff::default();
        put_off.call(100);
        put_off.call(200);
        // Timers count whole milliseconds.
        assert!((LONGEST..LONGEST * 2).contains(&waited(&put_off).await));
        put_off.call(100);
        put_off.call(MUCH);
        assert!((SHORTEST..LONGEST / 2).contains(&waited(&put_off).await));
        assert!(timeout(Duration::from_secs(60), put_off.due()).await.is_err(), "nobody called");
    }

    #[tokio::test(start_paused = true)]
    async fn much_that_comes_later_ends_the_wait() {
        let put_off = PutOff::default();
        put_off.call(1);
        let later = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            put_off.call(MUCH);
        };
        let (waited, ()) = tokio::join!(waited(&put_off), later);
        assert!(waited < LONGEST, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_while_views_are_built_is_not_lost() {
        let put_off = PutOff::default();
        put_off.call(1);
        put_off.due().await;
        put_off.call(1);
        assert!(timeout(LONGEST * 2, put_off.due()).await.is_ok());
    }
}
