//! Requests of one kind: each connection keeps `depth` of them in flight, as fast as answers come or at a fixed rate.
//!
//! At a fixed rate a latency counts from the moment the request should have gone out, so a broker that stalls cannot
//! hide the requests that waited meanwhile.

use std::{
    process,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use wire::{code::response, frame};

use super::{
    frames::{Answer, FIRST_OPAQUE, Template, next_answer},
    link::Link,
    pace::Alarm,
    stats::{Counts, Shared},
    target::Target,
};

/// Bytes queued for writing before answers are looked at.
const ENOUGH: usize = 256 * 1024;

/// What the connections of a round ask for.
pub(super) struct Load {
    /// Requests, taken in turn.
    pub templates: Vec<Template>,
    /// Requests in flight on a connection.
    pub depth: usize,
    /// Messages of a request.
    pub messages: u64,
    /// Bytes of their bodies; without it the bytes of the answers count.
    pub bytes: Option<u64>,
    /// In an open loop.
    pub requests_a_second: Option<f64>,
    pub connections: usize,
}

/// When the requests of one connection are due.
pub(super) struct Schedule {
    pub alarm: Arc<Alarm>,
    pub next: Instant,
    pub interval: Duration,
}

/// One connection that sends.
pub(super) struct Sender {
    link: Link,
    shared: Arc<Shared>,
    index: usize,
    load: Arc<Load>,
    /// Which template is next.
    turn: usize,
    /// Makes every unique id another one.
    number: u64,
    /// When the request of each slot went out, or should have.
    slots: Vec<Instant>,
    free: Vec<usize>,
    schedule: Option<Schedule>,
}

impl Sender {
    pub async fn connect(
        load: Arc<Load>,
        target: &Target,
        shared: Arc<Shared>,
        index: usize,
        schedule: Option<Schedule>,
    ) -> Result<Self> {
        Ok(Self {
            link: Link::connect(&target.addr, target.tls.as_ref()).await?,
            shared,
            index,
            turn: index * load.templates.len() / load.connections,
            number: first_number(index),
            slots: vec![Instant::now(); load.depth],
            free: (0..load.depth).rev().collect(),
            load,
            schedule,
        })
    }

    /// Sends until the round stops and everything is answered.
    pub async fn run(mut self) -> Result<()> {
        loop {
            self.fill();
            let is_idle = self.free.len() == self.slots.len();
            if is_idle && !self.shared.goes_on() {
                return Ok(());
            }
            let bell = self.schedule.as_ref().map(|schedule| schedule.alarm.clone());
            self.link.exchange(bell.as_ref().map(|alarm| &alarm.bell)).await?;
            self.take_answers()?;
        }
    }

    fn fill(&mut self) {
        let now = Instant::now();
        while self.link.out.len() < ENOUGH && !self.free.is_empty() && self.shared.goes_on() {
            let Some(start) = self.due(now) else { return };
            if !self.shared.spend(self.load.messages) {
                return;
            }
            self.send(start);
        }
    }

    /// The start of the next request, when it is due. Asks to be woken when it is not.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let Some(schedule) = &mut self.schedule else { return Some(now) };
        if schedule.next > now {
            schedule.alarm.set(schedule.next);
            return None;
        }
        let start = schedule.next;
        schedule.next += schedule.interval;
        Some(start)
    }

    fn send(&mut self, start: Instant) {
        let Some(slot) = self.free.pop() else { return };
        self.slots[slot] = start;
        let template = &self.load.templates[self.turn];
        self.turn = (self.turn + 1) % self.load.templates.len();
        template.write(&mut self.link.out, FIRST_OPAQUE + slot as i32, &mut self.number, 0);
    }

    fn take_answers(&mut self) -> Result<()> {
        let now = Instant::now();
        let shared = self.shared.clone();
        let mut counts = shared.counts(self.index);
        while let Some(answer) = next_answer(&mut self.link.input)? {
            let slot = (answer.opaque - FIRST_OPAQUE) as usize;
            let start = *self.slots.get(slot).context("an answer to a request that was not made")?;
            self.free.push(slot);
            self.count(&mut counts, &answer, now.saturating_duration_since(start));
        }
        Ok(())
    }

    fn count(&self, counts: &mut Counts, answer: &Answer, after: Duration) {
        let messages = self.load.messages;
        let bytes = self.load.bytes.unwrap_or(answer.frame.len() as u64);
        match answer.code {
            response::SUCCESS => counts.answered(after, messages, bytes),
            // Stored, but not as safely as was asked for.
            response::FLUSH_DISK_TIMEOUT | response::FLUSH_SLAVE_TIMEOUT | response::SLAVE_NOT_AVAILABLE => {
                counts.answered(after, messages, bytes);
                counts.refused(answer.code, || remark(answer));
            }
            code => counts.refused(code, || remark(answer)),
        }
    }
}

/// The words of a refusal.
pub(super) fn remark(answer: &Answer) -> String {
    frame::decode(answer.frame.clone()).ok().and_then(|command| command.remark).unwrap_or_default()
}

/// Unique ids of this process and connection.
fn first_number(index: usize) -> u64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    (seconds << 44) ^ (u64::from(process::id()) << 40) ^ ((index as u64) << 32)
}

/// The schedule of connection `index`: the connections take turns.
pub(super) fn schedule(load: &Load, start: Instant, index: usize) -> Option<Schedule> {
    let interval = Duration::from_secs_f64(load.connections as f64 / load.requests_a_second?);
    let offset = interval.mul_f64(index as f64 / load.connections as f64);
    Some(Schedule { alarm: Alarm::new(start), next: start + offset, interval })
}
