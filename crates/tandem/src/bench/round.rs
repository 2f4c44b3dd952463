//! One round at one target: connections, warm-up, measuring, and a line a second for those who watch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use super::{
    args::Work,
    consume::Receiver,
    load::{Load, Sender, schedule},
    pace::Pacer,
    process::{self, Sample},
    produce, query,
    stats::{Counts, Phase, Shared},
    target::Target,
};

/// How long answers may take that are outstanding when the round stops.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// A round without any answer for this long has failed.
const STALLED: Duration = Duration::from_secs(30);

/// A round to run.
pub(super) struct Round<'a> {
    work: &'a Work,
    target: &'a Target,
    /// True once it shall end early.
    stop: watch::Receiver<bool>,
}

/// What one round came to.
pub(super) struct Outcome {
    pub counts: Counts,
    pub seconds: f64,
    /// Of the broker's process, while measuring.
    pub cpu_seconds: Option<f64>,
    /// The broker's process at the end.
    pub process: Option<Sample>,
}

impl<'a> Round<'a> {
    pub fn new(work: &'a Work, target: &'a Target, stop: watch::Receiver<bool>) -> Self {
        Self { work, target, stop }
    }

    /// Fails, too, when it is stopped before anything is measured.
    pub async fn run(&self) -> Result<Outcome> {
        let common = self.work.common();
        let shared = Arc::new(Shared::new(common.connections)?);
        let mut tasks = JoinSet::new();
        let mut watch = Watch::new(self.target.pid, self.stop.clone())?;
        let warm_up = if self.work.is_once() { Duration::ZERO } else { common.warm_up() };
        if warm_up.is_zero() {
            self.begin(&shared, &mut watch);
        }
        let _pacer = self.start(&shared, &mut tasks).await?;
        if !warm_up.is_zero() {
            watch.until(&shared, &mut tasks, Some(Instant::now() + warm_up)).await?;
            if *self.stop.borrow() {
                bail!("stopped during the warm-up: nothing was measured");
            }
            self.begin(&shared, &mut watch);
        }
        let is_timed = common.messages.is_none() && !self.work.is_once();
        let end = is_timed.then(|| Instant::now() + common.measure());
        watch.until(&shared, &mut tasks, end).await?;
        let outcome = watch.finish(&shared);
        shared.enter(Phase::Stop);
        finish(tasks).await?;
        Ok(outcome)
    }

    /// From here on it counts.
    fn begin(&self, shared: &Shared, watch: &mut Watch) {
        watch.reset(shared);
        self.work.common().messages.into_iter().for_each(|messages| shared.limit(messages));
        shared.enter(Phase::Measure);
    }

    async fn start(&self, shared: &Arc<Shared>, tasks: &mut JoinSet<Result<()>>) -> Result<Option<Pacer>> {
        match self.work {
            Work::Produce(args) => self.start_senders(produce::load(args, self.target)?, shared, tasks).await,
            Work::Query(args) => self.start_senders(query::load(args, self.target)?, shared, tasks).await,
            Work::Consume(args) => {
                for index in 0..args.common.connections {
                    tasks.spawn(Receiver::connect(args, self.target, shared.clone(), index).await?.run());
                }
                Ok(None)
            }
        }
    }

    async fn start_senders(
        &self,
        load: Load,
        shared: &Arc<Shared>,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Result<Option<Pacer>> {
        let load = Arc::new(load);
        let start = Instant::now();
        let mut alarms = Vec::new();
        for index in 0..load.connections {
            let schedule = schedule(&load, start, index);
            alarms.extend(schedule.as_ref().map(|schedule| schedule.alarm.clone()));
            tasks.spawn(Sender::connect(load.clone(), self.target, shared.clone(), index, schedule).await?.run());
        }
        Ok((!alarms.is_empty()).then(|| Pacer::start(start, alarms)))
    }
}

async fn finish(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a connection's task")??;
        }
        Ok(())
    };
    timeout(LAST_ANSWERS, all).await.unwrap_or_else(|_| bail!("some requests got no answer within 20 s"))
}

/// Looks at the counts once a second and adds them up.
struct Watch {
    stop: watch::Receiver<bool>,
    pid: Option<u32>,
    total: Counts,
    second: Counts,
    started: Instant,
    looked: Instant,
    answered: Instant,
    first: Option<Sample>,
    last: Option<Sample>,
}

impl Watch {
    fn new(pid: Option<u32>, stop: watch::Receiver<bool>) -> Result<Self> {
        let now = Instant::now();
        let first = pid.and_then(process::sample);
        let (total, second) = (Counts::new()?, Counts::new()?);
        Ok(Self { stop, pid, total, second, started: now, looked: now, answered: now, first, last: first })
    }

    /// Forgets what was counted.
    fn reset(&mut self, shared: &Shared) {
        self.first = self.pid.and_then(process::sample);
        self.last = self.first;
        self.total.clear();
        self.started = Instant::now();
        self.looked = self.started;
        shared.take(&mut self.second);
    }

    /// Prints a line a second until `end`, until all connections have done their work, or until it is stopped.
    async fn until(&mut self, shared: &Shared, tasks: &mut JoinSet<Result<()>>, end: Option<Instant>) -> Result<()> {
        loop {
            let line = self.looked + Duration::from_secs(1);
            let next = end.map_or(line, |end| end.min(line));
            tokio::select! {
                () = sleep_until(next.into()) => {}
                Ok(_) = self.stop.wait_for(|stop| *stop) => return Ok(()),
                ended = tasks.join_next() => match ended {
                    Some(ended) => {
                        ended.context("a connection's task")??;
                        continue;
                    }
                    None => return Ok(()),
                },
            }
            if Some(next) == end {
                return Ok(());
            }
            self.look(shared)?;
        }
    }

    fn look(&mut self, shared: &Shared) -> Result<()> {
        shared.take(&mut self.second);
        let now = Instant::now();
        let process = self.pid.and_then(process::sample);
        self.print(shared.phase(), now - self.looked, process);
        self.total.absorb(&self.second);
        self.looked = now;
        self.last = process;
        if self.second.messages > 0 {
            self.answered = now;
        }
        if now - self.answered > STALLED {
            bail!("no answer for 30 s");
        }
        Ok(())
    }

    fn print(&self, phase: Phase, elapsed: Duration, process: Option<Sample>) {
        let per_second = |count: u64| count as f64 / elapsed.as_secs_f64();
        let mark = if phase == Phase::Warm { "warm-up" } else { "" };
        let quantile = |q: f64| self.second.latency.value_at_quantile(q) as f64 / 1e6;
        let cpu = match (process, self.last) {
            (Some(now), Some(before)) => {
                let share = (now.cpu_seconds - before.cpu_seconds) / elapsed.as_secs_f64() * 100.0;
                format!("  cpu {share:4.0} %  anon {:6.1} MB", now.anonymous as f64 / 1e6)
            }
            _ => String::new(),
        };
        eprintln!(
            "{:5.0} s {:>10.0} msg/s {:>8.1} MB/s  p50 {:>8.3} ms  p99 {:>8.3} ms{cpu}  {mark}",
            self.started.elapsed().as_secs_f64(),
            per_second(self.second.messages),
            per_second(self.second.bytes) / 1e6,
            quantile(0.5),
            quantile(0.99),
        );
        for (code, (count, remark)) in &self.second.refusals {
            eprintln!("        {count} answers of {} ({code}): {remark}", wire::code::response::name(*code));
        }
    }

    fn finish(&mut self, shared: &Shared) -> Outcome {
        let seconds = self.started.elapsed().as_secs_f64();
        let process = self.pid.and_then(process::sample);
        shared.take(&mut self.second);
        self.total.absorb(&self.second);
        let cpu = |now: Sample| Some(now.cpu_seconds - self.first?.cpu_seconds);
        Outcome { counts: self.total.clone(), seconds, cpu_seconds: process.and_then(cpu), process }
    }
}
