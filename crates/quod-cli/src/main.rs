//! The `quod` command.
//!
//! Role: reads the arguments, runs one verb, tells failures on standard error, and ends with the verb's exit code.
//!
//! Invariant: standard output carries results only; a reader that goes away ends the command quietly.
//!
//! Absent on purpose: anything that a single verb needs. One file a verb.

mod bench;
mod chain;
mod check;
mod compare;
mod completions;
mod create;
mod info;
mod io;
mod json;
mod kernel;
mod make;
mod man;
mod map;
mod open;
mod output;
mod place;
mod runs;
mod serve;
mod signals;
mod sizes;

use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Lines of a server's log that may wait for a reader of standard error.
const LOG_LINES: usize = 1000;

/// Copy-on-write virtual disks in the QED image format.
///
/// The verbs take the flags, print the sentences and exit with the codes of qemu-img and qemu-io.
#[derive(Debug, Parser)]
#[command(name = "quod", version, max_term_width = 110, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Log more to standard error; twice for even more. RUST_LOG has finer control.
    #[arg(long, short = 'v', global = true, action = ArgAction::Count, display_order = 900)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::Args),
    Info(info::Args),
    Check(check::Args),
    Map(map::Args),
    Compare(compare::Args),
    Io(io::Args),
    Bench(bench::Args),
    Serve(serve::Args),
    Completions(completions::Args),
    Man(man::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => return refuse(&refusal),
    };
    // Ends last, when what was logged is out.
    let _log = start_log(cli.verbose, matches!(cli.verb, Verb::Serve(_)));
    survive_size_limits();
    match run(&cli.verb) {
        Ok(code) => ExitCode::from(code),
        Err(error) if output::reader_is_gone(&error) => ExitCode::from(output::READER_GONE),
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Create(args) => create::run(args),
        Verb::Info(args) => info::run(args),
        Verb::Check(args) => check::run(args),
        Verb::Map(args) => map::run(args),
        Verb::Compare(args) => compare::run(args),
        Verb::Io(args) => io::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Serve(args) => serve::run(args),
        Verb::Completions(args) => completions::run(args, Cli::command()),
        Verb::Man(args) => man::run(args, Cli::command()),
    }
}

/// Prints help, the version, or what is wrong with the arguments; the latter exits with 1, as the reference tools do.
fn refuse(refusal: &clap::Error) -> ExitCode {
    // Nobody is left to tell when even this cannot be printed.
    let printed = refusal.print().map_err(anyhow::Error::from);
    match (refusal.kind(), printed) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, Ok(())) => ExitCode::SUCCESS,
        (_, Err(error)) if output::reader_is_gone(&error) => ExitCode::from(output::READER_GONE),
        _ => ExitCode::FAILURE,
    }
}

/// Logs to standard error. Requests of a server never wait for who reads that: what does not go out in time is dropped.
fn start_log(verbose: u8, serves: bool) -> Option<WorkerGuard> {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let (filter, stderr, guard) = if serves {
        let lossy = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LOG_LINES);
        let (writer, guard) = lossy.finish(std::io::stderr());
        // Its own answers to signals are told whatever else is.
        let answers = serve::ANSWERS.parse().expect("it is a directive");
        (filter.add_directive(answers), BoxMakeWriter::new(writer), Some(guard))
    } else {
        (filter, BoxMakeWriter::new(std::io::stderr), None)
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(false);
    // A request is told when it is over, with the time that it took. What cannot be logged must not end the command.
    log.with_span_events(FmtSpan::CLOSE).log_internal_errors(false).init();
    guard
}

/// Makes a file that would pass the process's size limit an error of the one request; by default it ends the process.
fn survive_size_limits() {
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()) {
        tracing::warn!(%error, "a limit on the size of files will end this command");
    }
}
