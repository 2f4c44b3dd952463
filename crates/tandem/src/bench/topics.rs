//! `tandem bench topics`: makes topics one after the other, as `mqadmin` and dashboards do, and tells what they cost. Each
//! creation waits for the answer to the one before it.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail, ensure};
use client::BrokerApi;
use remoting::{Client, ClientConfig};
use tokio::sync::watch;
use wire::body::TopicConfig;

use super::{args::TopicsArgs, process};

/// Topics of a line.
const A_LINE: usize = 1000;

/// Makes them, and prints a line for each thousand.
pub(super) async fn run(args: &TopicsArgs, stop: watch::Receiver<bool>) -> Result<()> {
    ensure!((1..=1_000_000).contains(&args.topics), "--topics must be 1 to 1000000");
    ensure!((1..=10_000).contains(&args.queues), "--queues must be 1 to 10000");
    let api = BrokerApi::new(Arc::new(Client::new(ClientConfig::default(), None)));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    println!("  topics         s  broker, CPU s  name server, CPU s");
    let start = Moment::now(args)?;
    let mut line = start;
    for number in 1..=args.topics {
        if *stop.borrow() {
            bail!("stopped after {} topics", number - 1);
        }
        let topic = TopicConfig {
            topic_name: format!("TandemBench_{since}_{number}"),
            read_queue_nums: args.queues,
            write_queue_nums: args.queues,
            ..TopicConfig::default()
        };
        api.update_topic(&args.broker, &topic).await?;
        if let Some(server) = &args.namesrv {
            api.query_route(server, &topic.topic_name).await?;
        }
        if number % A_LINE == 0 {
            let now = Moment::now(args)?;
            println!("{number:>8}  {}", now.since(&line));
            line = now;
        }
    }
    println!("     all  {}", Moment::now(args)?.since(&start));
    Ok(())
}

/// A moment, and what the processes have taken until then.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    broker: Option<f64>,
    namesrv: Option<f64>,
}

impl Moment {
    fn now(args: &TopicsArgs) -> Result<Self> {
        Ok(Self { at: Instant::now(), broker: cpu(args.pid)?, namesrv: cpu(args.namesrv_pid)? })
    }

    fn since(&self, before: &Self) -> String {
        let seconds = |now: Option<f64>, before: Option<f64>| match now.zip(before) {
            Some((now, before)) => format!("{:.2}", now - before),
            None => "-".to_owned(),
        };
        let (broker, namesrv) = (seconds(self.broker, before.broker), seconds(self.namesrv, before.namesrv));
        format!("{:>8.2}  {broker:>13}  {namesrv:>18}", (self.at - before.at).as_secs_f64())
    }
}

fn cpu(pid: Option<u32>) -> Result<Option<f64>> {
    let Some(pid) = pid else { return Ok(None) };
    match process::sample(pid) {
        Some(sample) => Ok(Some(sample.cpu_seconds)),
        None => bail!("process {pid} cannot be measured (no such process?)"),
    }
}
