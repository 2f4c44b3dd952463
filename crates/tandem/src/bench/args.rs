//! The command line of `tandem bench`.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use remoting::{ClientTls, TlsSettings};
use wire::SerializeType;

/// Flags of `tandem bench`.
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub(super) mode: Mode,
}

#[derive(Subcommand)]
pub(super) enum Mode {
    /// Send messages and wait for their acknowledgements.
    Produce(ProduceArgs),
    /// Pull messages; a queue that ends is read from its start again.
    Consume(ConsumeArgs),
    /// Ask for messages by key, in no order.
    Query(QueryArgs),
    /// Make topics, one after the other.
    Topics(TopicsArgs),
}

/// What both directions share.
#[derive(Args, Clone)]
pub(super) struct Common {
    /// Address of the broker.
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// Name server that knows the broker; a list is separated by `;`.
    #[arg(long, value_name = "HOST:PORT")]
    pub namesrv: Option<String>,
    /// Made when it is missing.
    #[arg(long, default_value = "TandemBench")]
    pub topic: String,
    /// Queues of a topic that is made.
    #[arg(long, default_value_t = 8)]
    pub queues: i32,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// Messages to measure, instead of a duration.
    #[arg(long)]
    pub messages: Option<u64>,
    /// Seconds of load before measuring.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// How headers are written.
    #[arg(long, value_enum, default_value = "json")]
    encoding: Encoding,
    /// Speak TLS; how, the keys of `-D` and the file of `tls.config.file` tell.
    #[arg(long)]
    tls: bool,
    /// One key of TLS, `tls.client.…=VALUE`; may be given several times.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Process of the broker: its CPU time and memory are measured.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// A second broker, measured in alternating rounds.
    #[arg(long, value_name = "HOST:PORT")]
    pub compare: Option<String>,
    /// Process of the second broker.
    #[arg(long)]
    pub pid2: Option<u32>,
    /// Rounds of a comparison.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Encoding {
    Json,
    Binary,
}

#[derive(Args, Clone)]
pub(super) struct ProduceArgs {
    #[command(flatten)]
    pub common: Common,
    /// Topics to send to, TOPIC-0 to TOPIC-(N-1) where there are several, their queues mixed; each is made when it is missing.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub topics: usize,
    /// Requests in flight on a connection.
    #[arg(long, default_value_t = 64)]
    pub depth: usize,
    /// Bytes of a message body.
    #[arg(long, default_value_t = 1024)]
    pub size: usize,
    /// Messages of a request.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Messages a second, whatever the broker does (open loop); without it as many as are acknowledged.
    #[arg(long)]
    pub rate: Option<f64>,
}

#[derive(Args, Clone)]
pub(super) struct ConsumeArgs {
    #[command(flatten)]
    pub common: Common,
    /// Most messages of a pull.
    #[arg(long, default_value_t = 32)]
    pub batch: i32,
    /// Consumer group; its progress is not touched.
    #[arg(long, default_value = "TandemBench")]
    pub group: String,
    /// Read each queue once, from its first message to its last, and end.
    #[arg(long, conflicts_with_all = ["messages", "duration", "warmup"])]
    pub once: bool,
}

#[derive(Args, Clone)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    pub common: Common,
    /// Requests in flight on a connection.
    #[arg(long, default_value_t = 1)]
    pub depth: usize,
    /// Keys to ask for: of messages all over the topic, chosen by chance, the same ones in each run.
    #[arg(long, default_value_t = 10_000)]
    pub keys: usize,
    /// Queries a second, whatever the broker does (open loop); without it as many as are answered.
    #[arg(long)]
    pub rate: Option<f64>,
}

#[derive(Args)]
pub(super) struct TopicsArgs {
    /// Address of the broker.
    #[arg(long, value_name = "HOST:PORT")]
    pub broker: String,
    /// Topics to make.
    #[arg(long, default_value_t = 1000)]
    pub topics: usize,
    /// Queues of a topic.
    #[arg(long, default_value_t = 4)]
    pub queues: i32,
    /// Name server at which each topic must have its route as soon as it is there.
    #[arg(long, value_name = "HOST:PORT")]
    pub namesrv: Option<String>,
    /// Process of the broker: its CPU time is measured.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Process of the name server.
    #[arg(long)]
    pub namesrv_pid: Option<u32>,
}

/// What to do.
pub(super) enum Work {
    Produce(ProduceArgs),
    Consume(ConsumeArgs),
    Query(QueryArgs),
}

impl Mode {
    /// What is done to messages, or the topics to make.
    pub fn work(self) -> Result<Work, TopicsArgs> {
        match self {
            Self::Produce(args) => Ok(Work::Produce(args)),
            Self::Consume(args) => Ok(Work::Consume(args)),
            Self::Query(args) => Ok(Work::Query(args)),
            Self::Topics(args) => Err(args),
        }
    }
}

impl Common {
    /// The broker, or what to ask the name server for.
    pub fn first_address(&self) -> Result<Option<String>> {
        ensure!(self.broker.is_some() || self.namesrv.is_some(), "--broker or --namesrv is needed");
        Ok(self.broker.clone())
    }

    /// How to speak TLS; `None` for plain.
    pub fn tls(&self) -> Result<Option<ClientTls>> {
        let mut settings = TlsSettings::default();
        for (key, value) in crate::keys(&self.set)? {
            ensure!(settings.set(key, value)?, "-D {key}: only the keys of TLS count here");
        }
        if self.tls {
            settings.set("tls.enable", "true")?;
            settings.read_file()?.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        Ok(ClientTls::new(&settings)?)
    }

    pub fn measure(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }

    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }

    pub fn serialize(&self) -> SerializeType {
        match self.encoding {
            Encoding::Json => SerializeType::Json,
            Encoding::Binary => SerializeType::RocketMq,
        }
    }
}

impl Work {
    pub fn common(&self) -> &Common {
        match self {
            Self::Produce(args) => &args.common,
            Self::Consume(args) => &args.common,
            Self::Query(args) => &args.common,
        }
    }

    /// The verb.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Produce(_) => "produce",
            Self::Consume(_) => "consume",
            Self::Query(_) => "query",
        }
    }

    /// What was done to the messages.
    pub fn done(&self) -> &'static str {
        match self {
            Self::Produce(_) => "produced",
            Self::Consume(_) => "consumed",
            Self::Query(_) => "found",
        }
    }

    /// Each queue is read once, and all of that counts.
    pub fn is_once(&self) -> bool {
        matches!(self, Self::Consume(args) if args.once)
    }

    /// Refuses numbers that make no sense.
    pub fn check(&self) -> Result<()> {
        let common = self.common();
        let seconds = |value: f64| value.is_finite() && (0.0..1e6).contains(&value);
        ensure!(seconds(common.duration) && common.duration > 0.0, "--duration must be above 0");
        ensure!(seconds(common.warmup), "--warmup must not be negative");
        ensure!((1..=10_000).contains(&common.connections), "--connections must be 1 to 10000");
        ensure!((1..=10_000).contains(&common.queues), "--queues must be 1 to 10000");
        ensure!((1..=1000).contains(&common.rounds), "--rounds must be 1 to 1000");
        ensure!(common.messages != Some(0), "--messages must be above 0");
        match self {
            Self::Produce(args) => args.check(),
            Self::Consume(args) => {
                ensure!((1..=1024).contains(&args.batch), "--batch must be 1 to 1024");
                Ok(())
            }
            Self::Query(args) => {
                check_depth(args.depth)?;
                ensure!((1..=1_000_000).contains(&args.keys), "--keys must be 1 to 1000000");
                check_rate(args.rate)
            }
        }
    }
}

fn check_depth(depth: usize) -> Result<()> {
    ensure!((1..=100_000).contains(&depth), "--depth must be 1 to 100000");
    Ok(())
}

fn check_rate(rate: Option<f64>) -> Result<()> {
    match rate {
        Some(rate) if !(0.01..=1e7).contains(&rate) => bail!("--rate must be 0.01 to 10000000"),
        _ => Ok(()),
    }
}

impl ProduceArgs {
    /// The topics to send to.
    pub fn names(&self) -> Vec<String> {
        let name = &self.common.topic;
        match self.topics {
            1 => vec![name.clone()],
            topics => (0..topics).map(|number| format!("{name}-{number}")).collect(),
        }
    }

    fn check(&self) -> Result<()> {
        check_depth(self.depth)?;
        ensure!((1..=100_000).contains(&self.topics), "--topics must be 1 to 100000");
        ensure!((1..=10_000).contains(&self.batch), "--batch must be 1 to 10000");
        let bytes = self.size.checked_mul(self.batch).context("--size times --batch is too big")?;
        ensure!(bytes <= 15 << 20, "--size times --batch must stay below 15 MiB, the limit of a frame");
        check_rate(self.rate)
    }
}
