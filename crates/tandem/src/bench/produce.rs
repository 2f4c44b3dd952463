//! Sending: each connection keeps `depth` requests in flight, as fast as answers come or at a fixed rate.
//!
//! At a fixed rate a latency counts from the moment the request should have gone out, so a broker that stalls cannot
//! hide the requests that waited meanwhile.

use std::{
    process,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use client::{OutgoingMessage, encode_batch};
use wire::{
    Command,
    code::{request, response},
    frame,
    header::SendMessageRequestHeaderV2,
    property,
    topic::AUTO_CREATE,
};

use super::{
    args::ProduceArgs,
    frames::{Answer, FIRST_OPAQUE, NUMBER_MARK, Template, next_answer},
    link::Link,
    pace::Alarm,
    stats::{Counts, Shared},
    target::Target,
};

/// Bytes queued for writing before answers are looked at.
const ENOUGH: usize = 256 * 1024;

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
    templates: Vec<Template>,
    /// Which template is next.
    turn: usize,
    /// Makes every unique id another one.
    number: u64,
    messages: u64,
    bytes: u64,
    /// When the request of each slot went out, or should have.
    slots: Vec<Instant>,
    free: Vec<usize>,
    schedule: Option<Schedule>,
}

impl Sender {
    pub async fn connect(
        args: &ProduceArgs,
        target: &Target,
        shared: Arc<Shared>,
        index: usize,
        schedule: Option<Schedule>,
    ) -> Result<Self> {
        let ids = target.queues.iter().map(|queue| queue.id);
        let templates = ids.map(|id| template(args, id)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            link: Link::connect(&target.addr, target.tls.as_ref()).await?,
            shared,
            index,
            turn: index % templates.len().max(1),
            templates,
            number: first_number(index),
            messages: args.batch as u64,
            bytes: (args.batch * args.size) as u64,
            slots: vec![Instant::now(); args.depth],
            free: (0..args.depth).rev().collect(),
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
            if !self.shared.spend(self.messages) {
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
        let template = &self.templates[self.turn];
        self.turn = (self.turn + 1) % self.templates.len();
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
        match answer.code {
            response::SUCCESS => counts.answered(after, self.messages, self.bytes),
            // Stored, but not as safely as was asked for.
            response::FLUSH_DISK_TIMEOUT | response::FLUSH_SLAVE_TIMEOUT | response::SLAVE_NOT_AVAILABLE => {
                counts.answered(after, self.messages, self.bytes);
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

fn template(args: &ProduceArgs, queue_id: i32) -> Result<Template> {
    let is_batch = args.batch > 1;
    let header = SendMessageRequestHeaderV2 {
        producer_group: "TandemBench".to_owned(),
        topic: args.common.topic.clone(),
        default_topic: AUTO_CREATE.to_owned(),
        default_topic_queue_nums: args.common.queues,
        queue_id,
        born_timestamp: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64),
        properties: (!is_batch).then(properties),
        reconsume_times: Some(0),
        unit_mode: Some(false),
        batch: Some(is_batch),
        ..SendMessageRequestHeaderV2::default()
    };
    let code = if is_batch { request::SEND_BATCH_MESSAGE } else { request::SEND_MESSAGE_V2 };
    let mut command = Command::request_with(code, &header);
    command.serialize = args.common.serialize();
    let payload: Vec<u8> = (0..args.size).map(|at| b'a' + (at % 26) as u8).collect();
    Template::new(command.with_body(if is_batch { batch(args.batch, &payload) } else { payload.into() }))
}

/// What every client adds to its messages.
fn properties() -> String {
    let mut text = Vec::new();
    property::push(&mut text, property::UNIQ_KEY, &unique_id());
    property::push(&mut text, property::WAIT, "true");
    String::from_utf8_lossy(&text).into_owned()
}

fn unique_id() -> String {
    format!("7F00000100000000{NUMBER_MARK}")
}

fn batch(count: usize, payload: &[u8]) -> bytes::Bytes {
    let message =
        OutgoingMessage::new(payload.to_vec()).with(property::UNIQ_KEY, &unique_id()).with(property::WAIT, "true");
    encode_batch(&vec![message; count])
}

/// The schedule of connection `index`: the connections take turns.
pub(super) fn schedule(args: &ProduceArgs, start: Instant, index: usize) -> Option<Schedule> {
    let interval = Duration::from_secs_f64(1.0 / args.connection_rate()?);
    let offset = interval.mul_f64(index as f64 / args.common.connections as f64);
    Some(Schedule { alarm: Alarm::new(start), next: start + offset, interval })
}
