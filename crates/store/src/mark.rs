//! Watermarks: positions of the log that only grow while a term lasts, and those who wait for them.
//! A mark never blocks its writer, polls nothing and belongs to no runtime.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// One watermark: a physical offset, in bytes. Clones share it.
#[derive(Clone, Default)]
pub struct Mark {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    value: AtomicI64,
    next_ticket: AtomicU64,
    /// Smallest offset anybody waits for, or `NOBODY`: lets an advance skip the lock. Written under the lock.
    lowest: LowestWanted,
    waiters: Mutex<BTreeMap<(i64, u64), Waker>>,
}

struct LowestWanted(AtomicI64);

const NOBODY: i64 = i64::MAX;

impl Default for LowestWanted {
    fn default() -> Self {
        Self(AtomicI64::new(NOBODY))
    }
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mark").field(&self.get()).finish()
    }
}

impl Mark {
    /// A mark that stands at `value`.
    pub fn new(value: i64) -> Self {
        let mark = Self::default();
        mark.inner.value.store(value, SeqCst);
        mark
    }

    /// Where it stands.
    pub fn get(&self) -> i64 {
        self.inner.value.load(SeqCst)
    }

    /// Moves it up to `value` and wakes exactly those who wait for at most that. A lower value changes nothing.
    pub fn advance(&self, value: i64) {
        if self.inner.value.fetch_max(value, SeqCst) < value {
            self.wake_up_to(value);
        }
    }

    /// Moves it to `value`, down as well: only a truncation or a role change does that.
    pub fn reset(&self, value: i64) {
        self.inner.value.store(value, SeqCst);
        self.wake_up_to(value);
    }

    /// Completes when the mark has reached `offset`. Dropping it cancels the wait.
    pub fn wait(&self, offset: i64) -> MarkWait {
        MarkWait { mark: self.clone(), offset, ticket: None }
    }

    /// For a thread: waits until the mark has reached `offset`, at most `timeout`; says whether it has.
    pub fn wait_blocking(&self, offset: i64, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut wait = self.wait(offset);
        loop {
            if Pin::new(&mut wait).poll(&mut context).is_ready() {
                return true;
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => std::thread::park(),
                Some(Duration::ZERO) => return false,
                Some(left) => std::thread::park_timeout(left),
            }
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.inner.waiters.lock().len()
    }

    fn wake_up_to(&self, value: i64) {
        if self.inner.lowest.0.load(SeqCst) > value {
            return;
        }
        let satisfied = {
            let mut waiters = self.inner.waiters.lock();
            let rest = waiters.split_off(&(value.saturating_add(1), 0));
            let satisfied = std::mem::replace(&mut *waiters, rest);
            self.publish_lowest(&waiters);
            satisfied
        };
        satisfied.into_values().for_each(Waker::wake);
    }

    fn publish_lowest(&self, waiters: &BTreeMap<(i64, u64), Waker>) {
        let lowest = waiters.first_key_value().map_or(NOBODY, |((offset, _), _)| *offset);
        self.inner.lowest.0.store(lowest, SeqCst);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a [`Mark`]; made by [`Mark::wait`].
#[must_use = "a wait does nothing unless it is awaited"]
pub struct MarkWait {
    mark: Mark,
    offset: i64,
    ticket: Option<u64>,
}

impl MarkWait {
    fn register(&mut self, waker: &Waker) {
        let inner = &self.mark.inner;
        let ticket = *self.ticket.get_or_insert_with(|| inner.next_ticket.fetch_add(1, SeqCst));
        let mut waiters = inner.waiters.lock();
        waiters.insert((self.offset, ticket), waker.clone());
        self.mark.publish_lowest(&waiters);
    }

    fn cancel(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let mut waiters = self.mark.inner.waiters.lock();
            if waiters.remove(&(self.offset, ticket)).is_some() {
                self.mark.publish_lowest(&waiters);
            }
        }
    }
}

impl Future for MarkWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.mark.get() < self.offset {
            self.register(context.waker());
        }
        // Looked at again after registering: an advance between the two saw either the waiter or nobody.
        if self.mark.get() < self.offset {
            return Poll::Pending;
        }
        self.cancel();
        Poll::Ready(())
    }
}

impl Drop for MarkWait {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The marks of a store, each a physical offset in bytes.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Readable end of the log: written to the file, survives a crash of the process.
    pub appended: Mark,
    /// Made durable up to here.
    pub flushed: Mark,
    /// Consume queues and index are built up to here.
    pub dispatched: Mark,
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Polled {
        wait: MarkWait,
        count: Arc<Count>,
    }

    impl Polled {
        fn new(mark: &Mark, offset: i64) -> Self {
            Self { wait: mark.wait(offset), count: Arc::new(Count(AtomicUsize::new(0))) }
        }

        fn poll(&mut self) -> bool {
            let waker = Waker::from(self.count.clone());
            Pin::new(&mut self.wait).poll(&mut Context::from_waker(&waker)).is_ready()
        }

        fn woken(&self) -> usize {
            self.count.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn an_advance_wakes_exactly_those_it_satisfies() {
        let mark = Mark::new(10);
        let mut waits: Vec<_> = [5, 10, 11, 20, 20, 30].map(|offset| Polled::new(&mark, offset)).into();
        let ready: Vec<bool> = waits.iter_mut().map(Polled::poll).collect();
        assert_eq!(ready, [true, true, false, false, false, false]);
        mark.advance(20);
        assert_eq!(waits.iter().map(Polled::woken).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 0]);
        assert_eq!(mark.waiting(), 1);
        mark.advance(15);
        assert_eq!(mark.get(), 20);
        mark.advance(i64::MAX);
        assert_eq!((waits[5].woken(), mark.waiting()), (1, 0));
        assert!(waits.iter_mut().all(Polled::poll));
    }

    #[test]
    fn dropping_cancels() {
        let mark = Mark::new(0);
        let mut gone = Polled::new(&mark, 5);
        let mut stays = Polled::new(&mark, 7);
        assert!(!gone.poll() && !stays.poll());
        let count = gone.count.clone();
        drop(gone);
        assert_eq!(mark.waiting(), 1);
        mark.advance(7);
        assert_eq!((count.0.load(Ordering::SeqCst), stays.woken()), (0, 1));
    }

    #[test]
    fn polling_twice_keeps_one_place_and_the_last_waker() {
        let mark = Mark::new(0);
        let mut wait = Polled::new(&mark, 5);
        assert!(!wait.poll());
        let first = std::mem::replace(&mut wait.count, Arc::new(Count(AtomicUsize::new(0))));
        assert!(!wait.poll());
        assert_eq!(mark.waiting(), 1);
        mark.advance(5);
        assert_eq!((first.0.load(Ordering::SeqCst), wait.woken()), (0, 1));
    }

    #[test]
    fn a_reset_goes_down_and_keeps_waiters() {
        let mark = Mark::new(100);
        mark.reset(50);
        let mut wait = Polled::new(&mark, 60);
        assert!(!wait.poll());
        mark.reset(40);
        assert!(!wait.poll());
        mark.advance(60);
        assert!(wait.poll());
    }

    #[test]
    fn threads_wait_with_a_timeout() {
        let mark = Mark::new(0);
        assert!(!mark.wait_blocking(1, Duration::from_millis(5)));
        assert_eq!(mark.waiting(), 0);
        let waiter = thread::spawn({
            let mark = mark.clone();
            move || mark.wait_blocking(3, Duration::from_secs(30))
        });
        mark.advance(2);
        mark.advance(3);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        let mark = Mark::new(0);
        let waiters: Vec<_> = (0..4)
            .map(|lane: i64| {
                let mark = mark.clone();
                thread::spawn(move || {
                    (0..2_000).all(|step| mark.wait_blocking(step * 4 + lane, Duration::from_secs(30)))
                })
            })
            .collect();
        for value in 1..=8_000 {
            mark.advance(value);
        }
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        assert_eq!(mark.waiting(), 0);
    }
}
