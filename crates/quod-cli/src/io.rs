//! `quod io`: reads, writes and maps by the command language of qemu-io.
//!
//! Role: takes commands from `-c` or from standard input, line by line, and runs them in one [`session`].
//!
//! Invariant: whatever a line says, the next one is read; one that failed makes the exit code 1. What was asked for by
//! `aio_` commands is over, and the image closed, before the command ends; a signal closes the image at once.
//!
//! Absent on purpose: the language itself (`quod-language`, pure) and what commands do (`session`).

mod aio;
mod interrupt;
mod print;
mod session;
mod survey;
mod transfer;
mod trouble;

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use quod_language::CACHE_MODES;
use quod_storage::Access;

use crate::open::Tuning;
use crate::output;
use interrupt::Interrupt;
use session::{Session, Step};

const PROMPT: &str = "quod-io> ";

/// Longer lines are no commands.
const MAX_LINE: u64 = 1 << 20;

const DISCARD_MODES: [&str; 4] = ["ignore", "off", "unmap", "on"];
const AIO_MODES: [&str; 3] = ["threads", "native", "io_uring"];

/// Read, write and map an image by the command language of qemu-io.
///
/// Commands come from -c or, without it, from standard input. `quod io -c help` lists them. The exit code is 1 when
/// one of them failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod io -c 'write -P 0xab 1M 64k' disk.qed          64 KiB of 0xab at 1 MiB
  quod io -r -c 'read -v 512 1k' disk.qed             dump a kilobyte
  quod io -c 'read -P 0xab 1M 64k' -c map disk.qed    verify, then map
  echo 'write -z 0 1M' | quod io disk.qed")]
pub(crate) struct Args {
    /// Run a command; may be given many times
    #[arg(short, long = "cmd", value_name = "CMD", allow_hyphen_values = true)]
    command: Vec<String>,
    /// The format of FILE: qed or raw; told by its first bytes when not given
    #[arg(short, long, value_name = "FMT")]
    format: Option<String>,
    /// Open FILE read-only
    #[arg(short, long)]
    read_only: bool,
    /// Let another process have FILE open for writing; needs -r
    #[arg(short = 'U', long)]
    force_share: bool,
    /// Cache mode, taken for compatibility: none, writeback, ...
    #[arg(short = 't', long, value_name = "MODE", value_parser = CACHE_MODES)]
    cache: Option<String>,
    /// Discard mode, taken for compatibility: unmap or ignore
    #[arg(short, long, value_name = "MODE", value_parser = DISCARD_MODES)]
    discard: Option<String>,
    /// AIO mode, taken for compatibility
    #[arg(short = 'i', long, value_name = "MODE", value_parser = AIO_MODES)]
    aio: Option<String>,
    /// Taken for compatibility, as -m and -k are
    #[arg(short, long)]
    nocache: bool,
    #[arg(short, long, hide = true)]
    misalign: bool,
    #[arg(short = 'k', long, hide = true)]
    native_aio: bool,
    #[command(flatten)]
    tuning: Tuning,
    /// The image file, or an export: nbd://HOST/NAME, nbd+unix:///NAME?socket=PATH, and nbds for TLS; without it,
    /// `open` opens one
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut session = Session::new(output::results(), args.tuning.alone()?, Interrupt::listen()?);
    if let Some(file) = &args.file {
        session.open(file, args.format.as_deref(), access(args)?)?;
    }
    let outcome =
        if args.command.is_empty() { run_input(&mut session) } else { run_all(&mut session, &args.command) };
    let ended = session.end();
    outcome?;
    ended?;
    Ok(u8::from(session.has_failed()))
}

fn access(args: &Args) -> anyhow::Result<Access> {
    match (args.read_only, args.force_share) {
        (false, false) => Ok(Access::Write),
        (true, false) => Ok(Access::Read),
        (true, true) => Ok(Access::ReadShared),
        (false, true) => {
            let name = args.file.as_deref().unwrap_or(Path::new("")).display();
            bail!("can't open device {name}: {}", session::SHARED_WRITER)
        }
    }
}

fn run_all(session: &mut Session<impl Write>, commands: &[String]) -> anyhow::Result<()> {
    for command in commands {
        if session.run(command)? == Step::Quit {
            break;
        }
    }
    Ok(())
}

fn run_input(session: &mut Session<impl Write>) -> anyhow::Result<()> {
    let mut input = std::io::stdin().lock();
    let prompt = if input.is_terminal() && std::io::stdout().is_terminal() { PROMPT } else { "" };
    let mut line = Vec::new();
    loop {
        session.prompt(prompt)?;
        line.clear();
        let read = (&mut input).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read as u64 == MAX_LINE {
            bail!("a line of standard input is longer than {MAX_LINE} bytes");
        }
        if read == 0
            || session.run(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']))? == Step::Quit
        {
            return Ok(());
        }
    }
}
