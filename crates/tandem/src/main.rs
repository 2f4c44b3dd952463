//! The one binary: `up`, `broker`, `namesrv`, `bench`, `store`. Reads the command line, starts the parts, waits for a signal.
//! Decides nothing that a part should decide.

mod bench;
mod broker;
mod namesrv;
mod signals;
mod store;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A message broker that speaks RocketMQ 5 on the wire, on the disk and in the replica group.
#[derive(Parser)]
#[command(name = "tandem", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a name server, a master and a slave on this machine.
    Up(up::UpArgs),
    /// Start a broker.
    Broker(broker::BrokerArgs),
    /// Start a name server.
    Namesrv(namesrv::NamesrvArgs),
    /// Measure a broker, this one or any other.
    Bench(bench::BenchArgs),
    /// Look into store directories and compare them; only `rebuild` changes anything.
    Store(store::StoreArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    raise_descriptor_limit();
    init_log(&cli.command);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let code = runtime.block_on(async {
        let result = match cli.command {
            Command::Up(args) => up::run(args).await,
            Command::Broker(args) => broker::run(args).await,
            Command::Namesrv(args) => namesrv::run(args).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Store(args) => return store::run(&args),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            // At a stop; the log says it.
            Err(error) if error.is::<::store::StoreError>() => ExitCode::from(::broker::STORE_FAILED),
            Err(error) => failed(&error),
        }
    });
    // A recovery that was given up is not waited for.
    runtime.shutdown_background();
    code
}

/// Takes as many descriptors as are allowed, as a JVM does: service managers set a low limit that programs may raise.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A hard limit that the kernel does not give is no reason not to start.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("tandem: {}", one_line(error));
    ExitCode::FAILURE
}

/// An error with its causes; one that was told already is not told twice.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.contains(&cause) {
        true => line,
        false if line.is_empty() => cause,
        false => format!("{line}: {cause}"),
    })
}

/// One line for people and scripts on standard output. A terminal that is gone is no reason to fail (F-45).
fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The keys and values of `-D`.
fn keys(entries: &[String]) -> anyhow::Result<impl Iterator<Item = (&str, &str)>> {
    if let Some(entry) = entries.iter().find(|entry| !entry.contains('=')) {
        anyhow::bail!("-D {entry}: KEY=VALUE is expected");
    }
    Ok(entries.iter().filter_map(|entry| entry.split_once('=')))
}

/// Log lines go to standard error; `RUST_LOG` sets what is said. Those of `up` begin with the part that speaks.
fn init_log(command: &Command) {
    let level = if matches!(command, Command::Store(_)) { "error" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_thread_names(matches!(command, Command::Up(_)))
        .log_internal_errors(false)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("no space");
        let text = |error: anyhow::Error| one_line(&error);
        assert_eq!(text(anyhow::Error::new(cause()).context("cannot write x")), "cannot write x: no space");
        let told = anyhow::Error::new(cause()).context("cannot write x: no space; free some").context("no start");
        assert_eq!(text(told), "no start: cannot write x: no space; free some");
    }
}
