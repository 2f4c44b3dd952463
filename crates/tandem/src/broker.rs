//! `tandem broker`: one broker, with upstream's flags and keys.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use broker::{BrokerConfig, RunningBroker, config::Known};
use clap::Args;

use crate::{
    say,
    signals::{HangUp, Signals},
};

/// Flags of `tandem broker`.
#[derive(Args)]
pub struct BrokerArgs {
    /// Configuration file, Java properties (`broker.conf`).
    #[arg(short = 'c', long = "configFile")]
    config_file: Option<PathBuf>,
    /// Name servers, `address:port`, separated by `;`. Replaces `namesrvAddr`.
    #[arg(short = 'n', long = "namesrvAddr")]
    namesrv_addr: Option<String>,
    /// One key of the configuration, `KEY=VALUE`; may be given several times and wins over the file.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the configuration in force and end.
    #[arg(short = 'p', long = "printConfigItem")]
    print: bool,
    /// The same, for upstream's flag that prints the important keys.
    #[arg(short = 'm', long = "printImportantConfig")]
    print_important: bool,
}

/// Runs until a signal.
pub async fn run(args: BrokerArgs) -> Result<()> {
    let config = read(&args)?;
    if args.print || args.print_important {
        for (key, value) in config.entries() {
            say(format_args!("{key}={value}"));
        }
        return Ok(());
    }
    let mut signals = Signals::new()?;
    let running = tokio::select! {
        running = RunningBroker::serve(config, args.config_file) => running?,
        () = signals.end(HangUp::Ignored) => {
            tracing::info!("stopped while starting: the next start goes on from what this one has proven");
            return Ok(());
        }
    };
    // It has taken messages, perhaps: from now on a signal is a reason to stop, not to drop it.
    let joined = async {
        running.join().await;
        announce(&running);
        std::future::pending().await
    };
    tokio::select! {
        () = joined => {}
        () = signals.end(HangUp::Ignored) => {}
    }
    tracing::info!("stopping");
    Ok(running.shutdown().await?)
}

fn read(args: &BrokerArgs) -> Result<BrokerConfig> {
    let mut config = BrokerConfig::default();
    if let Some(path) = &args.config_file {
        apply_file(&mut config, path)?;
        config.broker_config_path = path.display().to_string();
    }
    set_keys(&mut config, &args.set)?;
    if let Some(list) = &args.namesrv_addr {
        config.namesrv_addr.clone_from(list);
    }
    config.finish()?;
    Ok(config)
}

/// The keys of a file.
pub fn apply_file(config: &mut BrokerConfig, path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    for key in config.apply(&text).with_context(|| path.display().to_string())? {
        tracing::warn!("configuration key {key} in {} is unknown, it changes nothing", path.display());
    }
    Ok(())
}

/// The keys of `-D`.
pub fn set_keys(config: &mut BrokerConfig, entries: &[String]) -> Result<()> {
    for (key, value) in crate::keys(entries)? {
        if config.set(key, value)? == Known::Unknown {
            tracing::warn!("configuration key {key} is unknown, it changes nothing");
        }
    }
    Ok(())
}

/// The line that scripts wait for, what an acknowledgement means, and which keys are without effect.
pub fn announce(running: &RunningBroker) {
    let config = running.broker.config();
    let (absent, inert) = config.without_effect();
    if !absent.is_empty() {
        tracing::warn!("keys that turn on what is not there, they change nothing: {}", absent.join(", "));
    }
    if !inert.is_empty() {
        tracing::info!("keys that tune what is built another way here, they change nothing: {}", inert.join(", "));
    }
    tracing::info!("{}", running.ack_meaning());
    let servers = match config.namesrv_addr.is_empty() {
        true => String::new(),
        false => format!(" and name server is {}", config.namesrv_addr),
    };
    say(format_args!(
        "The broker[{}, {}] boot success. serializeType=JSON{servers}",
        config.broker_name,
        config.broker_addr()
    ));
}
