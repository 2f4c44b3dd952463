//! `tandem up`: a name server, a master and a slave in one process, to try it and to develop against.

use std::{
    panic::resume_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ::namesrv::NameServer;
use anyhow::{Context, Result, anyhow, bail};
use broker::{BrokerConfig, RunningBroker, StartError};
use clap::Args;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinSet,
};

use crate::{
    say,
    signals::{HangUp, Signals},
};

/// Flags of `tandem up`.
#[derive(Args)]
pub struct UpArgs {
    /// Directory for all data.
    #[arg(long, default_value = "./tandem-data")]
    data: PathBuf,
    /// Address that clients are told; another machine needs one that leads here.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port of the name server.
    #[arg(long, default_value_t = 9876)]
    namesrv_port: u16,
    /// Port of the master; the fast port is 2 below, replication 1 above.
    #[arg(long, default_value_t = 10911)]
    master_port: u16,
    /// Port of the slave; the fast port is 2 below, replication 1 above.
    #[arg(long, default_value_t = 10921)]
    slave_port: u16,
    /// Further keys for both brokers, `KEY=VALUE`; may be given several times. Those of TLS are for the name server too,
    /// brokerRole is the master's alone.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// A part of the process has threads of its own, so that its log lines begin with its name.
struct Part {
    name: &'static str,
    handle: Handle,
    /// Until it is dropped.
    threads: Option<Runtime>,
}

impl Part {
    fn new(name: &'static str) -> Result<Self> {
        let threads = Builder::new_multi_thread().enable_all().thread_name(name).build()?;
        Ok(Self { name, handle: threads.handle().clone(), threads: Some(threads) })
    }

    /// Ends with what `work` gives; given up, it gives up `work`.
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let mut task = JoinSet::new();
        task.spawn_on(work, &self.handle);
        let ended = task.join_next().await.expect("one task was given");
        ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // A recovery that was given up is not waited for.
        self.threads.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// A broker and its place, which is empty until it has started.
struct Member {
    part: Part,
    running: Option<RunningBroker>,
}

impl Member {
    fn new(role: &'static str) -> Result<Self> {
        Ok(Self { part: Part::new(role)?, running: None })
    }

    async fn start(&mut self, args: &UpArgs, data: &Path) -> Result<()> {
        let role = self.part.name;
        let config = broker_config(args, data, role)?;
        let serves = self.part.run(RunningBroker::serve(config, None)).await;
        let running = self.running.insert(serves.map_err(|error| match error {
            error @ StartError::Listen { .. } => {
                anyhow!("the {role} does not start: {error} (its ports follow --{role}-port)")
            }
            error => anyhow!(error).context(format!("the {role} does not start")),
        })?);
        self.part.run(running.join()).await;
        Ok(())
    }

    async fn shutdown(self) -> Result<()> {
        match self.running {
            Some(running) => Ok(self.part.run(running.shutdown()).await?),
            None => Ok(()),
        }
    }
}

/// Runs until a signal; Ctrl-C stops all cleanly.
pub async fn run(args: UpArgs) -> Result<()> {
    let data = writable(&args.data)?;
    let mut signals = Signals::new()?;
    let namesrv = Part::new("namesrv")?;
    let name_server = start_namesrv(&namesrv, &args, &data).await?;
    let (mut master, mut slave) = (Member::new("master")?, Member::new("slave")?);
    let started = tokio::select! {
        started = until_ready(&args, &data, &mut master, &mut slave) => Some(started),
        () = signals.end(HangUp::Ends) => None,
    };
    if let (Some(Ok(())), Some(master), Some(slave)) = (&started, &master.running, &slave.running) {
        welcome(&args, &data, master, slave);
        signals.end(HangUp::Ends).await;
        say(format_args!("stopping …"));
    }
    // The master first: what it has taken is acknowledged while its slave is still there.
    let stopped = [master.shutdown().await, slave.shutdown().await];
    namesrv.run(name_server.shutdown()).await;
    started.into_iter().chain(stopped).collect()
}

/// Both at once: after a kill both recover, and sends wait for the slower one. What has started is in its place even when
/// this is dropped.
async fn until_ready(args: &UpArgs, data: &Path, master: &mut Member, slave: &mut Member) -> Result<()> {
    tokio::try_join!(master.start(args, data), slave.start(args, data))?;
    if let Some(master) = &master.running {
        until_paired(master).await;
    }
    Ok(())
}

/// Until the slave follows, so that the first send finds it; a slave that does not come is no reason to wait for ever.
async fn until_paired(master: &RunningBroker) {
    let end = Instant::now() + Duration::from_secs(10);
    while master.broker.replicas.connections() == 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The data directory, made and tried: a full or unwritable one is said before anything starts.
fn writable(path: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot create the data directory {}", path.display()))?;
    let probe = path.join(".writable");
    std::fs::write(&probe, [0u8; 4096]).and_then(|()| std::fs::remove_file(&probe)).with_context(|| {
        format!("cannot write to the data directory {}; choose another with --data", path.display())
    })?;
    path.canonicalize().with_context(|| path.display().to_string())
}

async fn start_namesrv(part: &Part, args: &UpArgs, data: &Path) -> Result<NameServer> {
    let in_data = |name: &str| data.join("namesrv").join(name).display().to_string();
    let mut config = ::namesrv::NamesrvConfig {
        listen_port: args.namesrv_port,
        kv_config_path: in_data("kvConfig.json"),
        config_store_path: in_data("namesrv.properties"),
        ..::namesrv::NamesrvConfig::default()
    };
    for (key, value) in crate::keys(&args.set)?.filter(|(key, _)| key.starts_with("tls.")) {
        config.set(key, value)?;
    }
    part.run(NameServer::start(config)).await.map_err(|error| match error {
        error @ ::namesrv::StartError::Listen { .. } => anyhow!("{error}; another one: --namesrv-port"),
        error => error.into(),
    })
}

fn broker_config(args: &UpArgs, data: &Path, role: &str) -> Result<BrokerConfig> {
    let mut config = BrokerConfig::default();
    let (id, port, broker_role) = match role {
        "master" => ("0", args.master_port, "SYNC_MASTER"),
        _ => ("1", args.slave_port, "SLAVE"),
    };
    let entries = [
        ("brokerName", "broker-a".to_owned()),
        ("brokerId", id.to_owned()),
        ("brokerRole", broker_role.to_owned()),
        ("listenPort", port.to_string()),
        ("brokerIP1", args.host.clone()),
        ("brokerIP2", args.host.clone()),
        ("namesrvAddr", format!("127.0.0.1:{}", args.namesrv_port)),
        ("inSyncReplicas", "2".to_owned()),
        ("slaveReadEnable", "true".to_owned()),
        // It is tried on machines that others fill: a reserve in bytes, not a tenth of the disk.
        ("diskReservedBytes", (64 << 20).to_string()),
        ("diskSpaceCleanForciblyRatio", "100".to_owned()),
        ("diskSpaceWarningLevelRatio", "100".to_owned()),
        ("storePathRootDir", data.join(role).display().to_string()),
    ];
    for (key, value) in &entries {
        config.set(key, value)?;
    }
    crate::broker::set_keys(&mut config, &args.set)?;
    // What both are told makes no second master of the slave: the two would take each other's place.
    config.set("brokerId", id)?;
    if role != "master" {
        config.set("brokerRole", broker_role)?;
    } else if !config.is_master() {
        bail!("brokerRole is that of the master here: SYNC_MASTER or ASYNC_MASTER");
    }
    Ok(config)
}

fn welcome(args: &UpArgs, data: &Path, master: &RunningBroker, slave: &RunningBroker) {
    let addresses = |running: &RunningBroker| {
        let config = running.broker.config();
        format!("{}   replication {}   fast port {}", config.broker_addr(), config.ha_addr(), config.fast_port())
    };
    say(format_args!("name server   {}:{}", args.host, args.namesrv_port));
    say(format_args!("master        {}", addresses(master)));
    say(format_args!("slave         {}", addresses(slave)));
    say(format_args!("data          {}", data.display()));
    say(format_args!("{}", master.ack_meaning()));
    say(format_args!(
        "try it        tandem bench produce --namesrv {}:{} --topic Try --duration 5",
        args.host, args.namesrv_port
    ));
    say(format_args!("boot success, Ctrl-C stops all"));
}
