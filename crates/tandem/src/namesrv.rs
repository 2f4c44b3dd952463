//! `tandem namesrv`: one name server, with upstream's flags and keys.

use std::path::PathBuf;

use ::namesrv::{NameServer, NamesrvConfig};
use anyhow::Result;
use clap::Args;

use crate::{
    say,
    signals::{HangUp, Signals},
};

/// Flags of `tandem namesrv`.
#[derive(Args)]
pub struct NamesrvArgs {
    /// Configuration file, Java properties (`namesrv.conf`).
    #[arg(short = 'c', long = "configFile")]
    config_file: Option<PathBuf>,
    /// One key of the configuration, `KEY=VALUE`; may be given several times and wins over the file.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the configuration in force and end.
    #[arg(short = 'p', long = "printConfigItem")]
    print: bool,
    /// Accepted as upstream accepts it; a name server asks no other.
    #[arg(short = 'n', long = "namesrvAddr")]
    _namesrv_addr: Option<String>,
}

/// Runs until a signal.
pub async fn run(args: NamesrvArgs) -> Result<()> {
    let mut config = match &args.config_file {
        Some(path) => NamesrvConfig::from_file(path)?,
        None => NamesrvConfig::default(),
    };
    crate::keys(&args.set)?.try_for_each(|(key, value)| config.set(key, value))?;
    config.check()?;
    if args.print {
        config.report_keys();
        say(config.to_text().trim_end());
        return Ok(());
    }
    let mut signals = Signals::new()?;
    let server = NameServer::start(config).await?;
    say(format_args!("The Name Server boot success. serializeType=JSON, address {}", server.local_addr()));
    signals.end(HangUp::Ignored).await;
    tracing::info!("stopping");
    server.shutdown().await;
    Ok(())
}
