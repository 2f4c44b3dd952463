//! What waits to be written to one peer: heads encoded one after the other, bodies beside them as shared bytes.
//! Anyone may add; only the connection's task takes. Adding wakes that task only when it sleeps.

use std::{
    collections::VecDeque,
    io::IoSlice,
    sync::atomic::{AtomicUsize, Ordering},
    task::Waker,
};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use wire::{Command, frame};

/// A body up to this long is copied behind its head: cheaper than one more slice to write.
const COPY_LIMIT: usize = 1024;

/// The head buffer is given back when it grew beyond this.
const TAIL_KEEP: usize = 128 * 1024;

/// Slices of one vectored write.
const MAX_SLICES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Reads and writes.
    Open,
    /// Reads nothing more; closes when all is answered and written.
    Draining,
    /// Writes what it can at once, then closes.
    Closing,
    /// Gone. Whatever is added is dropped.
    Closed,
}

pub(crate) struct Outbound {
    queue: Mutex<Queue>,
    /// Bytes queued here or held by the task for writing.
    bytes: AtomicUsize,
}

struct Queue {
    stage: Stage,
    segments: VecDeque<Bytes>,
    tail: BytesMut,
    /// There while the connection's task sleeps.
    sleeper: Option<Waker>,
}

impl Outbound {
    pub fn new() -> Self {
        let queue = Queue { stage: Stage::Open, segments: VecDeque::new(), tail: BytesMut::new(), sleeper: None };
        Self { queue: Mutex::new(queue), bytes: AtomicUsize::new(0) }
    }

    /// Adds one frame; false when the connection is gone.
    pub fn push(&self, head: &Command, body: Bytes) -> bool {
        self.add(|queue| queue.push_frame(head, body.len(), std::iter::once(body)))
    }

    /// Adds one frame whose body comes in parts.
    pub fn push_parts(&self, head: &Command, body: Vec<Bytes>) -> bool {
        let length = body.iter().map(Bytes::len).sum();
        self.add(|queue| queue.push_frame(head, length, body.into_iter()))
    }

    /// Adds frames that `write` puts behind each other.
    pub fn push_written(&self, write: impl FnOnce(&mut BytesMut)) -> bool {
        self.add(|queue| {
            let before = queue.tail.len();
            write(&mut queue.tail);
            queue.tail.len() - before
        })
    }

    fn add(&self, write: impl FnOnce(&mut Queue) -> usize) -> bool {
        let mut queue = self.queue.lock();
        if queue.stage == Stage::Closed {
            return false;
        }
        let added = write(&mut queue);
        self.bytes.fetch_add(added, Ordering::Relaxed);
        let sleeper = queue.sleeper.take();
        drop(queue);
        wake(sleeper);
        true
    }

    /// Bytes that are not yet with the kernel.
    pub fn queued_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn written(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn stage(&self) -> Stage {
        self.queue.lock().stage
    }

    /// Moves on to a later stage and wakes the task.
    pub fn advance(&self, stage: Stage) {
        let mut queue = self.queue.lock();
        queue.stage = queue.stage.max(stage);
        if stage == Stage::Closed {
            queue.segments = VecDeque::new();
            queue.tail = BytesMut::new();
        }
        let sleeper = queue.sleeper.take();
        drop(queue);
        wake(sleeper);
    }

    /// Wakes the task to look at its state again.
    pub fn nudge(&self) {
        let sleeper = self.queue.lock().sleeper.take();
        wake(sleeper);
    }

    /// Moves everything queued to `writing`; the stage tells the task what to do next.
    pub fn take(&self, writing: &mut VecDeque<Bytes>) -> Stage {
        let mut queue = self.queue.lock();
        queue.sleeper = None;
        queue.close_tail();
        if writing.is_empty() {
            std::mem::swap(writing, &mut queue.segments);
        } else {
            writing.append(&mut queue.segments);
        }
        queue.stage
    }

    /// Registers the task as asleep; false when there is something to do first.
    pub fn sleep(&self, waker: &Waker, seen: Stage) -> bool {
        let mut queue = self.queue.lock();
        if queue.stage != seen || !queue.segments.is_empty() || !queue.tail.is_empty() {
            return false;
        }
        queue.sleeper = Some(waker.clone());
        true
    }

    /// The task runs again: what is added now needs no wake.
    pub fn awake(&self) {
        self.queue.lock().sleeper = None;
    }
}

fn wake(sleeper: Option<Waker>) {
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}

impl Queue {
    /// Returns the bytes added.
    fn push_frame(&mut self, head: &Command, length: usize, body: impl Iterator<Item = Bytes>) -> usize {
        let before = self.tail.len();
        frame::encode_head_for(head, length, &mut self.tail);
        let added = self.tail.len() - before + length;
        body.for_each(|part| self.push_part(part));
        added
    }

    fn push_part(&mut self, part: Bytes) {
        if part.len() <= COPY_LIMIT {
            self.tail.extend_from_slice(&part);
            return;
        }
        self.close_tail();
        self.segments.push_back(part);
    }

    fn close_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let whole = self.tail.split().freeze();
        if whole.len() > TAIL_KEEP {
            self.tail = BytesMut::new();
        }
        self.segments.push_back(whole);
    }
}

/// The first segments of `writing` as slices for one write.
pub(crate) fn slices<'a>(writing: &'a VecDeque<Bytes>, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
    let count = writing.len().min(MAX_SLICES);
    for (slot, segment) in slices.iter_mut().zip(writing) {
        *slot = IoSlice::new(segment);
    }
    count
}

/// An array for [`slices`].
pub(crate) fn empty_slices<'a>() -> [IoSlice<'a>; MAX_SLICES] {
    [IoSlice::new(&[]); MAX_SLICES]
}

/// Drops the first `written` bytes of `writing`.
pub(crate) fn consume(writing: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = writing.front_mut() {
        if first.len() > written {
            first.advance(written);
            return;
        }
        written -= first.len();
        writing.pop_front();
    }
}
