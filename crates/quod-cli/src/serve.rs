//! `quod serve`: images as block devices over NBD.
//!
//! Role: makes the images that are missing when that is wanted, opens them, serves them on sockets, and closes them in
//! order when told to stop.
//!
//! Invariant: an existing image is never made anew. The command exits with 0 only when every request was answered and
//! every image was closed; otherwise it says what is not safe.
//!
//! Absent on purpose: the protocol (`quod-export`), and staying in the background.

mod address;
mod ending;
mod images;
mod listen;
mod metrics;
mod ready;
mod secure;
mod status;
mod stop;
mod welcome;

use std::ffi::OsString;
use std::io::Write;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, bail};
use quod::Fua;
use quod_export::nbd::{Server, ServerOptions, Summary, Tls};
use quod_language::CACHE_MODES;
use quod_storage::LoopOpener;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::kernel::{self, Aio};
use crate::open::Tuning;
use crate::output;
use images::Opened;
use listen::Places;
use metrics::MetricsPlace;
use ready::PidFile;
use secure::TlsArgs;
use status::Status;
use stop::Stop;

/// Where in the log answers to SIGUSR1 are.
const ANSWER: &str = "quod::status";

/// They are logged, whatever else is.
pub(crate) const ANSWERS: &str = "quod::status=info";

/// Serve images over NBD on a Unix socket or TCP until Ctrl-C or SIGTERM.
///
/// Any number of clients may use an image at a time. At the end requests in flight are finished and the images are
/// closed; the exit code is 1 when that failed. SIGHUP reopens nothing. SIGUSR1 prints how each export stands to standard
/// error: clients, requests, errors, cache, file, and what is pending.
///
/// A single image is the default export. Several are known by their file names, and the first is the default export
/// too. Sockets that a service manager passes (LISTEN_FDS) are served on, and it is told when the server is ready
/// (NOTIFY_SOCKET).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod serve disk.qed                          on disk.qed.sock, beside the image
  quod serve --create 10G disk.qed             make it first, if it is not there
  quod serve --read-only --socket /run/golden.sock golden.qed
  quod serve a.qed b.qed                       two exports: a.qed (also the default one) and b.qed
  quod serve --export root=a.qed --export data=/srv/b.qed --socket vm.sock
  quod serve --listen 127.0.0.1:10809 disk.qed
  quod serve --listen 0.0.0.0 --tls-certificates /etc/pki/quod --tls-verify-peer disk.qed
  quod serve --once --shared 1 disk.qed        for one client, until it leaves
  quod serve --metrics 127.0.0.1:9100 disk.qed for Prometheus: http://127.0.0.1:9100/metrics
  nbdinfo 'nbd+unix:///?socket=disk.qed.sock'  in another terminal")]
pub(crate) struct Args {
    /// A Unix socket that clients connect to; the first FILE.sock when no place to listen is given. May be repeated
    #[arg(short = 'k', long, value_name = "PATH")]
    socket: Vec<PathBuf>,
    /// Listen on TCP; without TLS, whoever can reach the address is a client. Port 10809 when not given, 0 is any that
    /// is free. May be repeated
    #[arg(long, value_name = "ADDR[:PORT]")]
    listen: Vec<String>,
    /// As --listen, on 127.0.0.1 unless --bind names another address
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
    /// As --listen, on port 10809 unless --port names another one
    #[arg(short, long, value_name = "ADDR")]
    bind: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Refuse writes, and open the images for reading only
    #[arg(short, long)]
    read_only: bool,
    /// End in order when no client is connected any more, once one has used an image
    #[arg(long, overrides_with = "persistent")]
    once: bool,
    /// Go on when the last client has left, which is the default
    #[arg(short = 't', long, overrides_with = "once")]
    persistent: bool,
    /// Serve at most NUM clients at a time; others wait. 0, the default, is no bound
    #[arg(short = 'e', long, value_name = "NUM", default_value_t = 0, hide_default_value = true)]
    shared: usize,
    /// Serve FILE as the export NAME. May be repeated
    #[arg(long = "export", value_name = "NAME=FILE")]
    exports: Vec<OsString>,
    /// What to call a single image
    #[arg(short = 'x', long, value_name = "NAME")]
    export_name: Option<String>,
    /// What to tell those who list the exports about a single image
    #[arg(short = 'D', long, value_name = "TEXT")]
    description: Option<String>,
    /// Write the number of this process to a file once clients are answered; it goes at the end
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// Threads that serve, with the connections spread over them; as many as there are processors, but 4 at most, when not
    /// given
    #[arg(long, value_name = "NUM")]
    threads: Option<NonZero<u8>>,
    /// Tell counters and latencies to Prometheus by HTTP, at /metrics, to whoever can reach HOST:PORT, or to the owner of
    /// the Unix socket unix:PATH, or of a path with a slash in it. Port 0 is any that is free
    #[arg(long, value_name = "ADDR")]
    metrics: Option<OsString>,
    /// How requests reach the kernel
    #[arg(long, value_name = "MODE", value_enum, default_value = "auto")]
    aio: Aio,
    /// Cache mode: writeback, or none, which is past the page cache of the system (O_DIRECT)
    #[arg(long, value_name = "MODE", value_parser = CACHE_MODES, default_value = "writeback")]
    cache: String,
    #[command(flatten)]
    tuning: Tuning,
    /// Make an empty disk of this size of each FILE that is missing or empty
    #[arg(long, value_name = "SIZE")]
    create: Option<String>,
    /// The format of the images: qed or raw; when not given, qed with --create, and otherwise told by their first bytes
    #[arg(short, long, value_name = "FMT")]
    format: Option<String>,
    /// The image files
    #[arg(value_name = "FILE", required_unless_present = "exports")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    // First: what is opened from now on has other numbers.
    let inherited = listen::inherited()?;
    raise_limit_of_files();
    let stop = Stop::listen().context("Signals cannot be received")?;
    let opener = opener(args)?;
    let named = images::named(args)?;
    let tls = args.tls.resolve()?;
    // Before anything is made: a server needs a place to be found at.
    let places = Places::resolve(args, inherited, &named)?;
    let metrics = args.metrics.as_deref().map(MetricsPlace::resolve).transpose()?;
    let images = images::open_all(args, opener, named)?;
    let mut pid_file = None;
    let served = serve(args, &images, (places, metrics), tls, &stop, &mut pid_file);
    // Nobody may be reading what is printed from here on: the locks are let go first.
    let closed = images::close_all(images);
    let code = ending::tell(ending::judge(served, closed, args.read_only));
    drop(pid_file);
    Ok(code)
}

/// Opens files the way that was asked for.
fn opener(args: &Args) -> anyhow::Result<LoopOpener> {
    match kernel::cache_mode("--cache", &args.cache)? {
        (page_cache, Fua::No) => args.aio.opener(page_cache),
        (_, Fua::Yes) => bail!(
            "--cache {}: clients say which writes must be durable at once (FUA); use writeback or none",
            args.cache
        ),
    }
}

/// Threads where nobody says how many.
fn usual_threads() -> NonZero<usize> {
    let most = const { NonZero::new(4).unwrap() };
    thread::available_parallelism().map_or(NonZero::<usize>::MIN, |processors| processors.min(most))
}

/// Takes as many open files as this process may have: every client is one. The usual limit is there for programs that
/// use select(2), and is lower.
fn raise_limit_of_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::info!(%error, "the limit of open files stays as it is");
    }
}

fn serve(
    args: &Args,
    images: &[Opened],
    (places, metrics): (Places, Option<MetricsPlace>),
    tls: Option<Tls>,
    stop: &Stop,
    pid_file: &mut Option<PidFile>,
) -> anyhow::Result<Summary> {
    let mut options = ServerOptions::default();
    options.threads = args.threads.map_or_else(usual_threads, NonZero::from);
    options.tls = tls;
    options.once = args.once;
    options.shared = args.shared;
    options.latencies = metrics.is_some();
    let mut server = Server::new(options);
    places.bind(&mut server)?;
    if let Some(place) = &metrics {
        place.bind(&mut server).context("The metrics cannot be told there")?;
    }
    for image in images {
        server.export(image.disk.clone(), image.options(args))?;
    }
    *pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    if args.tls.required().is_none() {
        listen::warn_about_tcp(server.addresses(), images.iter().any(|image| image.disk.is_writable()));
    }
    ready::tell_ready();
    // Until it has ended: what it holds keeps the images' locks.
    let _shown = stop.show(Status::of(server.observer(), images));
    let addresses: Vec<_> = server.addresses().cloned().collect();
    say(&welcome::text(images, &addresses, args.tls.required(), server.metrics_address()));
    let served = server.serve(stop.wait());
    if !stop.was_told() {
        ready::tell_stopping();
    }
    Ok(served?)
}

/// Prints a line at once. A server goes on when standard output is gone.
fn say(line: &str) {
    let mut out = output::results();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "standard output is gone");
    }
}
