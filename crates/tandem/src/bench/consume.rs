//! Pulling: one pull in flight for each queue. A queue that ends is read from its start again, so a run can be longer
//! than what is stored.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use wire::{
    Command,
    code::{request, response},
    frame,
    header::{PullMessageRequestHeader, PullMessageResponseHeader},
    sys_flag::PULL_SUBSCRIPTION,
};

use super::{
    args::ConsumeArgs,
    frames::{Answer, FIRST_OPAQUE, OFFSET_MARK, Template, next_answer},
    link::Link,
    load::remark,
    stats::Shared,
    target::{Queue, Target},
};

/// After a refusal.
const PAUSE: Duration = Duration::from_millis(10);

/// One connection that pulls from its share of the queues.
pub(super) struct Receiver {
    link: Link,
    shared: Arc<Shared>,
    index: usize,
    pullers: Vec<Puller>,
    in_flight: usize,
    batch: u64,
    /// A queue that ends is done.
    once: bool,
}

/// One queue.
struct Puller {
    queue: Queue,
    offset: i64,
    template: Template,
    start: Instant,
    is_waiting: bool,
    /// Read to its end.
    is_done: bool,
}

impl Receiver {
    pub async fn connect(args: &ConsumeArgs, target: &Target, shared: Arc<Shared>, index: usize) -> Result<Self> {
        let share = target.queues.iter().skip(index).step_by(args.common.connections);
        let pullers = share.map(|queue| Puller::new(args, queue.clone())).collect::<Result<Vec<_>>>()?;
        let link = Link::connect(&target.addr, target.tls.as_ref()).await?;
        Ok(Self { link, shared, index, pullers, in_flight: 0, batch: args.batch as u64, once: args.once })
    }

    /// Pulls until the round stops and everything is answered.
    pub async fn run(mut self) -> Result<()> {
        loop {
            self.fill();
            if self.in_flight == 0 {
                return Ok(());
            }
            self.link.exchange(None).await?;
            if self.take_answers()? {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn fill(&mut self) {
        let is_busy = |puller: &Puller| puller.is_waiting || (self.once && puller.is_done);
        for (at, puller) in self.pullers.iter_mut().enumerate().filter(|(_, puller)| !is_busy(puller)) {
            if !self.shared.goes_on() || !self.shared.spend(self.batch) {
                return;
            }
            puller.pull(at, &mut self.link.out);
            self.in_flight += 1;
        }
    }

    /// True when the broker refused something.
    fn take_answers(&mut self) -> Result<bool> {
        let now = Instant::now();
        let shared = self.shared.clone();
        let mut counts = shared.counts(self.index);
        let mut is_refused = false;
        while let Some(answer) = next_answer(&mut self.link.input)? {
            let at = (answer.opaque - FIRST_OPAQUE) as usize;
            let puller = self.pullers.get_mut(at).context("an answer to a pull that was not made")?;
            puller.is_waiting = false;
            self.in_flight -= 1;
            match puller.advance(&answer)? {
                Some(body) => {
                    let after = now.saturating_duration_since(puller.start);
                    counts.answered(after, records(&body), body.len() as u64);
                }
                None => {
                    is_refused = true;
                    counts.refused(answer.code, || remark(&answer));
                }
            }
        }
        Ok(is_refused)
    }
}

impl Puller {
    fn new(args: &ConsumeArgs, queue: Queue) -> Result<Self> {
        let header = PullMessageRequestHeader {
            consumer_group: args.group.clone(),
            topic: queue.topic.to_string(),
            queue_id: Some(queue.id),
            queue_offset: OFFSET_MARK.parse().ok(),
            max_msg_nums: args.batch,
            sys_flag: PULL_SUBSCRIPTION,
            subscription: Some("*".to_owned()),
            expression_type: Some("TAG".to_owned()),
            ..PullMessageRequestHeader::default()
        };
        let mut command = Command::request_with(request::PULL_MESSAGE, &header);
        command.serialize = args.common.serialize();
        let template = Template::new(command)?;
        Ok(Self { offset: queue.min, queue, template, start: Instant::now(), is_waiting: false, is_done: false })
    }

    fn pull(&mut self, at: usize, out: &mut Vec<u8>) {
        self.is_waiting = true;
        self.start = Instant::now();
        self.template.write(out, FIRST_OPAQUE + at as i32, &mut 0, self.offset);
    }

    /// Goes on, or back to the start at the end. `None` for a refusal.
    fn advance(&mut self, answer: &Answer) -> Result<Option<Bytes>> {
        let command = frame::decode(answer.frame.clone())?;
        let next = command.header::<PullMessageResponseHeader>().next_begin_offset;
        match answer.code {
            response::SUCCESS if next > self.offset && next < self.queue.max => self.offset = next,
            response::SUCCESS | response::PULL_NOT_FOUND => {
                self.offset = self.queue.min;
                self.is_done = true;
            }
            response::PULL_RETRY_IMMEDIATELY if next > self.offset => self.offset = next,
            response::PULL_OFFSET_MOVED => {
                self.queue.min = next.clamp(0, self.queue.max);
                self.offset = self.queue.min;
            }
            _ => return Ok(None),
        }
        Ok(Some(command.body))
    }
}

/// Records that follow one another; each begins with its length.
fn records(mut body: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(length) = body.first_chunk().map(|word| u32::from_be_bytes(*word) as usize)
        && (4..=body.len()).contains(&length)
    {
        body = &body[length..];
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::records;

    #[test]
    fn records_are_counted_by_their_lengths() {
        let body = [&[0, 0, 0, 6, 1, 2][..], &[0, 0, 0, 4], &[0, 0, 0, 9, 1]].concat();
        assert_eq!(records(&body), 2);
        assert_eq!(records(&[]), 0);
        assert_eq!(records(&[0, 0, 0, 0]), 0);
    }
}
