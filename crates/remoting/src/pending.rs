//! Requests that wait for their answers on one connection. Fails all of them at once when the connection closes.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI32, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use wire::Command;

/// The most requests in flight on one connection.
const MAX_PENDING: usize = 65_535;

/// Opaques of this process. A Java peer correlates by opaque alone over all its connections, so none is shared.
static NEXT_OPAQUE: AtomicI32 = AtomicI32::new(1);

#[derive(Default)]
pub(crate) struct Pending {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    closed: bool,
    answers: HashMap<i32, oneshot::Sender<Command>>,
}

/// Why a request cannot be registered.
pub(crate) enum Refused {
    Closed,
    Full,
}

impl Pending {
    /// Registers a new request. The entry goes away with its answer, with [`Pending::forget`] or with the connection.
    pub fn register(&self) -> Result<(i32, oneshot::Receiver<Command>), Refused> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        if waiting.answers.len() >= MAX_PENDING {
            return Err(Refused::Full);
        }
        let mut opaque = next_opaque();
        while waiting.answers.contains_key(&opaque) {
            opaque = next_opaque();
        }
        let (sender, receiver) = oneshot::channel();
        waiting.answers.insert(opaque, sender);
        Ok((opaque, receiver))
    }

    /// Hands an answer to its request; false when nobody waits for it.
    pub fn complete(&self, answer: Command) -> bool {
        let waiter = self.waiting.lock().answers.remove(&answer.opaque);
        waiter.is_some_and(|waiter| waiter.send(answer).is_ok())
    }

    pub fn forget(&self, opaque: i32) {
        self.waiting.lock().answers.remove(&opaque);
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().answers.len()
    }

    /// Fails everything that waits, and everything that comes later.
    pub fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let answers = std::mem::take(&mut waiting.answers);
        drop(waiting);
        drop(answers);
    }
}

/// The next correlation number of this process.
pub(crate) fn next_opaque() -> i32 {
    NEXT_OPAQUE.fetch_add(1, Ordering::Relaxed)
}
