//! `tandem store`: looks into the store directory of a Java or Tandem broker, also while the broker runs. Takes no lock
//! and changes nothing in the directory; `rebuild` alone does both.

mod cat;
mod diff;
mod inspect;
mod place;
mod progress;
mod rebuild;
mod table;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Flags of `tandem store`.
#[derive(Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check log, consume queues and index against each other. Exit code: 0 sound, 1 damage found, 2 could not run.
    Verify(verify::VerifyArgs),
    /// Show segments, queues, index, checkpoint, configuration, and what the next start would do.
    Inspect(inspect::InspectArgs),
    /// Print messages as JSON lines, in the order of the log.
    Cat(cat::CatArgs),
    /// Compare two replicas. Exit code: 0 equal, 1 different or one is behind, 2 could not run.
    Diff(diff::DiffArgs),
    /// Make consume queues and index anew from the log; the broker must be stopped. Exit code: 0 done, 1 done, but parts of
    /// the log are damaged, 2 nothing was done.
    Rebuild(rebuild::RebuildArgs),
}

/// How a command ended.
enum End {
    /// All is well.
    Well,
    /// What was asked for was done, and something is wrong with the store, or the stores differ.
    Damage,
}

/// Runs one command; what keeps it from running is one line on standard error and exit code 2.
pub fn run(args: &StoreArgs) -> ExitCode {
    let end = match &args.command {
        Command::Verify(args) => verify::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Rebuild(args) => rebuild::run(args),
    };
    match end {
        Ok(End::Well) => ExitCode::SUCCESS,
        Ok(End::Damage) => ExitCode::from(1),
        Err(error) => {
            eprintln!("tandem: {error:#}");
            ExitCode::from(2)
        }
    }
}
