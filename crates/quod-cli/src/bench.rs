//! `quod bench`: how fast requests to an image are, by the flags and the closing sentence of qemu-img bench.
//!
//! Role: checks the flags, opens the image, lets threads send requests until all are done, closes it, and tells.
//!
//! Invariant: the sentence at the end counts what the reference counts, the requests and their flushes; what is there when
//! the command ends has been closed in order, also when it is interrupted.
//!
//! Absent on purpose: what a request is (`work.rs`), which comes next (`steps.rs`), who sends it (`runner.rs`), and counting
//! bytes (`counted.rs`).

mod counted;
mod report;
mod runner;
mod steps;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{anyhow, bail};
use quod::{Fua, Image, Keeper};
use quod_language::{CACHE_MODES, parse_size};
use quod_storage::Access;
use signal_hook::flag;

use crate::kernel::{self, Aio};
use crate::open::{Target, Tuning};
use crate::output::{self, OutputFormat};
use crate::signals;
use counted::{Counted, CountedOpener};
use report::Report;
use runner::Ran;
use work::{Kind, Places, Work};

/// The largest count, size and depth that there may be, as in the reference.
const MOST: u64 = i32::MAX as u64;

/// Threads that block, where nobody says how many: those of the reference's pool.
const THREADS: u64 = 64;
const MOST_THREADS: u64 = 1024;

/// The largest depth on event loops, where each request has memory of its own.
const MOST_ON_LOOPS: u64 = 4096;

/// Run a simple benchmark on an image.
///
/// Sends requests of one size, one step after the other, and tells how long they took. What it writes stays written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod bench disk.qed                               75000 reads of 4 KiB, 64 in parallel
  quod bench -t none -c 20000 disk.qed              the same past the page cache, fewer
  quod bench -w -S 64k disk.qed                     writes, each into a cluster of its own
  quod bench -w -s 8k -d 8 --flush-interval 8 --random 1 --output json disk.qed")]
pub(crate) struct Args {
    /// The format of FILE: qed or raw; told by its first bytes when not given
    #[arg(short, long, value_name = "FMT")]
    format: Option<String>,
    /// Cache mode: writeback; writethrough, where each write is made durable; none and directsync, the same past the page
    /// cache of the system (O_DIRECT)
    #[arg(short = 't', long, value_name = "MODE", value_parser = CACHE_MODES, default_value = "writeback")]
    cache: String,
    /// Number of requests
    #[arg(short, long, value_name = "COUNT", default_value = "75000")]
    count: String,
    /// Requests in parallel
    #[arg(short, long, value_name = "DEPTH", default_value = "64")]
    depth: String,
    /// Where the first request begins, in bytes
    #[arg(short, long, value_name = "OFFSET", default_value = "0")]
    offset: String,
    /// Bytes of a request
    #[arg(short = 's', long, value_name = "SIZE", default_value = "4k")]
    buffer_size: String,
    /// Bytes from one request to the next; those of a request when not given
    #[arg(short = 'S', long, value_name = "STEP")]
    step_size: Option<String>,
    /// How requests reach the kernel
    #[arg(short = 'i', long, value_enum, default_value = "auto")]
    aio: Aio,
    /// Taken for compatibility
    #[arg(short, long)]
    native: bool,
    /// Write; without it, read
    #[arg(short, long)]
    write: bool,
    /// The byte to write
    #[arg(long, value_name = "BYTE", default_value = "0")]
    pattern: String,
    /// Flush after so many writes
    #[arg(long, value_name = "COUNT")]
    flush_interval: Option<String>,
    /// Do not wait for the writes before a flush
    #[arg(long, requires = "flush_interval")]
    no_drain: bool,
    /// Taken for compatibility
    #[arg(short, long)]
    quiet: bool,
    /// Let another process have FILE open for writing; not with -w
    #[arg(short = 'U', long, conflicts_with = "write")]
    force_share: bool,
    /// Threads that send requests: one event loop when not given; with -i threads, where each sends one at a time, as many as
    /// DEPTH, but 64 at most
    #[arg(long, value_name = "COUNT")]
    threads: Option<String>,
    /// Send requests to places drawn by this seed, whole steps apart, in the place of one after the other
    #[arg(long, value_name = "SEED")]
    random: Option<u64>,
    /// Draw them from so many bytes behind OFFSET, and not from the whole disk
    #[arg(long, value_name = "BYTES", requires = "random")]
    span: Option<String>,
    #[command(flatten)]
    tuning: Tuning,
    /// How to print what came out
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    output: OutputFormat,
    /// The image file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let (page_cache, fua) = kernel::cache_mode("-t", &args.cache)?;
    let work = args.work(fua)?;
    let access = match (args.write, args.force_share) {
        (true, _) => Access::Write,
        (false, false) => Access::Read,
        (false, true) => Access::ReadShared,
    };
    let opener = CountedOpener::over(args.aio.opener(page_cache)?);
    let target = Target::new(&args.file, args.format.as_deref(), access);
    let image = quod::block_on(target.open_file(&opener, &args.tuning.alone()?))?;
    let stop = stop_flag()?;
    let mut out = output::results();
    let outcome = report::announce(&mut out, args.output, &work).and_then(|()| run_on(&work, &image, &stop));
    let began = Instant::now();
    let closed = quod::block_on(image.close());
    let close_seconds = began.elapsed().as_secs_f64();
    let closed = closed.map_err(|error| anyhow!("{}: not closed in order: {error}", args.file.display()));
    let ran = match (outcome, closed) {
        (Ok(ran), closed) => closed.map(|()| ran)?,
        (Err(error), Ok(())) => return Err(error),
        (Err(error), Err(closed)) => bail!("{error:#}\n{closed:#}"),
    };
    if ran.sent < work.count {
        bail!("interrupted after {} of {} requests; the image is closed in order", ran.sent, work.count);
    }
    let (file, below, cache) = (opener.top(), opener.below(), image.cache_stats());
    Report { work: &work, ran, close_seconds, file, below, cache }.print(&mut out, args.output)?;
    Ok(0)
}

fn run_on(work: &Work, image: &Image<Counted>, stop: &Arc<AtomicBool>) -> anyhow::Result<Ran> {
    let _keeper = if image.is_writable() { Some(Keeper::start(image)?) } else { None };
    runner::run(work, image, stop)
}

/// Raised by Ctrl-C, SIGTERM or SIGHUP; later ones change nothing, so that a second Ctrl-C does not leave the image open.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in signals::that_end_a_command() {
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

impl Args {
    fn work(&self, fua: Fua) -> anyhow::Result<Work> {
        let loops = self.aio != Aio::Threads;
        let request = size("buffer size", &self.buffer_size, 1, MOST)?;
        let depth = count("queue depth", &self.depth, 1, if loops { MOST_ON_LOOPS } else { MOST })?;
        let step = match &self.step_size {
            Some(text) => size("step size", text, 0, MOST)?,
            None => 0,
        };
        // As with the reference, no step is a whole request.
        let step = if step == 0 { request } else { step };
        let interval = match &self.flush_interval {
            Some(_) if !self.write => bail!("--flush-interval is only available in write tests"),
            Some(text) => Some(count("flush interval", text, 0, MOST)?).filter(|interval| *interval > 0),
            None => None,
        };
        if interval.is_some_and(|interval| interval < depth) {
            bail!("Flush interval can't be smaller than depth");
        }
        let pattern = count("pattern byte", &self.pattern, 0, u8::MAX.into())?;
        let threads = match &self.threads {
            Some(text) => count("number of threads", text, 1, MOST_THREADS)?.min(depth),
            None if loops => 1,
            None => depth.min(THREADS),
        };
        let offset = size("offset", &self.offset, 0, i64::MAX as u64)?;
        let span = self.span.as_ref().map(|text| size("span", text, request, i64::MAX as u64)).transpose()?;
        let places = Places { offset, size: request, step, seed: self.random, span };
        let count = count("request count", &self.count, 1, MOST)?;
        let kind = if self.write { Kind::Write { pattern: pattern as u8, fua } } else { Kind::Read };
        Ok(Work { kind, places, count, depth, threads, loops, interval, drains: !self.no_drain })
    }
}

/// A plain number, as the reference takes and refuses it.
fn count(what: &str, text: &str, least: u64, most: u64) -> anyhow::Result<u64> {
    let (sign, digits) = signed(text);
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    let number = u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'));
    within(what, text, number.map(|number| sign * i128::from(number)), least, most)
}

/// A number of bytes with or without a suffix.
fn size(what: &str, text: &str, least: u64, most: u64) -> anyhow::Result<u64> {
    let (sign, digits) = signed(text);
    within(what, text, parse_size(digits).ok().map(|bytes| sign * i128::from(bytes)), least, most)
}

fn signed(text: &str) -> (i128, &str) {
    text.strip_prefix('-').map_or((1, text), |digits| (-1, digits))
}

fn within(what: &str, text: &str, number: Option<i128>, least: u64, most: u64) -> anyhow::Result<u64> {
    match number.map(u64::try_from) {
        None => bail!("Invalid {what} specified: '{text}'."),
        Some(Ok(number)) if (least..=most).contains(&number) => Ok(number),
        Some(_) => bail!("Invalid {what} specified. Must be between {least} and {most}."),
    }
}
