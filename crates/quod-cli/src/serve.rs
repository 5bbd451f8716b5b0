//! `quod serve`: an image as a block device over NBD.
//!
//! Role: makes the image when it is missing and that is wanted, opens it, serves it on a Unix socket, and closes it in
//! order when told to stop.
//!
//! Invariant: an existing image is never made anew. The command exits with 0 only when every request was answered and
//! the image was closed; otherwise it says what is not safe.
//!
//! Absent on purpose: the protocol (`quod-export`), and staying in the background.

mod address;
mod stop;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use quod::{CreateOptions, Format};
use quod_export::nbd::{ExportOptions, Server, ServerOptions, Summary};
use quod_storage::{Access, Existing};

use crate::make::{make_qed, make_raw};
use crate::open::{Disk, Target, format_named, name_of, without_number};
use crate::output;
use crate::sizes::{ThreeDigits, parse_size};
use stop::Stop;

/// Serve an image over NBD on a Unix socket until Ctrl-C or SIGTERM.
///
/// Any number of clients may use it at a time. At the end requests in flight are finished and the image is closed; the
/// exit code is 1 when that failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod serve disk.qed                          on disk.qed.sock, beside the image
  quod serve --create 10G disk.qed             make it first, if it is not there
  quod serve --read-only --socket /run/golden.sock golden.qed
  nbdinfo 'nbd+unix:///?socket=disk.qed.sock'  in another terminal")]
pub(crate) struct Args {
    /// Where clients connect; FILE.sock when not given
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Refuse writes, and open the image for reading only
    #[arg(short, long)]
    read_only: bool,
    /// Bytes that the table cache of each image of the chain may take, with a suffix or without
    #[arg(long, value_name = "BYTES")]
    cache_size: Option<String>,
    /// Make an empty disk of this size when FILE is missing or empty
    #[arg(long, value_name = "SIZE")]
    create: Option<String>,
    /// The format of FILE: qed or raw; when not given, qed with --create, and otherwise told by its first bytes
    #[arg(short, long, value_name = "FMT")]
    format: Option<String>,
    /// The image file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let stop = Stop::listen().context("Signals cannot be received")?;
    let cache_bytes = match &args.cache_size {
        Some(text) => usize::try_from(size("cache size", text)?)?,
        None => quod::DEFAULT_CACHE_BYTES,
    };
    // Before anything is made: a server needs a place to be found at.
    let socket = address::socket_path(&args.file, args.socket.as_deref())?;
    if let Some(text) = &args.create {
        create_if_missing(args, size("image size", text)?)?;
    }
    let access = if args.read_only { Access::Read } else { Access::Write };
    // With `--create` the caller has said what FILE is.
    let format = args.format.as_deref().or(args.create.as_ref().map(|_| name_of(Format::Qed)));
    let target = Target { path: &args.file, format, access };
    let disk = quod::block_on(target.open_with(cache_bytes))?;
    let served = serve(args, &disk, &socket, &stop);
    let closed = quod::block_on(disk.close());
    // Lets go of the lock: nobody may be reading what is printed from here on.
    drop(disk);
    conclude(args, served, closed)
}

fn size(what: &str, text: &str) -> anyhow::Result<u64> {
    match parse_size(text) {
        Ok(size) => Ok(size),
        Err(_no_size) => bail!("Invalid {what} specified: '{text}'."),
    }
}

/// Makes the image, when there is none.
fn create_if_missing(args: &Args, size: u64) -> anyhow::Result<()> {
    let file = &args.file;
    let Some(format) = args.format.as_deref().map_or(Some(Format::Qed), format_named) else {
        bail!("{}: Unknown file format '{}'", file.display(), args.format.as_deref().unwrap_or_default());
    };
    // Here only to wait for nobody; the creation looks again once it has the lock.
    if fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(());
    }
    let made = quod::block_on(async {
        match format {
            Format::Qed => make_qed(file, &CreateOptions::new(size)).await,
            Format::Raw => make_raw(file, size, Existing::Keep).await,
        }
    });
    match made {
        Err(error) if error.exists_already => return Ok(()),
        made => made?,
    }
    let size = size.next_multiple_of(512);
    say(&format!("Created {}: {} ({size} bytes), {}.", file.display(), ThreeDigits(size), name_of(format)));
    Ok(())
}

fn serve(args: &Args, disk: &Disk, socket: &Path, stop: &Stop) -> anyhow::Result<Summary> {
    let mut options = ExportOptions::default();
    options.read_only = args.read_only;
    options.description = format!("{} ({})", args.file.display(), name_of(disk.format()));
    let mut server = Server::new(ServerOptions::default());
    server.bind_unix(socket)?;
    server.export(disk.clone(), options)?;
    say(&welcome(&args.file, disk, socket));
    Ok(server.serve(stop.wait())?)
}

fn welcome(file: &Path, disk: &Disk, socket: &Path) -> String {
    let (uri, words) = (address::uri(socket), address::qemu_words(socket));
    let (drive, path) =
        (address::qemu_drive(socket, disk.is_writable()), address::quoted(&socket.to_string_lossy()));
    let mode = if disk.is_writable() { "" } else { ", read-only" };
    let (name, size, format) = (file.display(), ThreeDigits(disk.size()), name_of(disk.format()));
    let read_only = if disk.is_writable() { "" } else { "-r " };
    format!(
        "Serving {name} ({size}, {format}{mode}) on {path}\n\n\
         \x20 nbdinfo {uri}\n\
         \x20 nbdcopy {uri} copy.raw\n\
         \x20 qemu-img info {words}\n\
         \x20 qemu-io {read_only}{}{words}\n\
         \x20 qemu-system-x86_64 -drive {drive}\n\n\
         Ctrl-C or SIGTERM ends it.",
        if words.starts_with("--") { "" } else { "-f raw " },
    )
}

/// Tells how it ended.
fn conclude(args: &Args, served: anyhow::Result<Summary>, closed: quod::Result<()>) -> anyhow::Result<u8> {
    let name = args.file.display();
    let mut code = 0;
    let mut fail = |why: String| {
        output::complain(&why);
        code = 1;
    };
    let has_served = served.is_ok();
    match served {
        Err(error) => fail(without_number(&format!("{error:#}")).to_owned()),
        Ok(Summary { cut: 0, .. }) => {}
        Ok(summary) => fail(format!(
            "{} clients were cut off with requests in flight: any part of their unacknowledged writes may be in {name}",
            summary.cut
        )),
    }
    match closed {
        Err(error) => fail(format!(
            "{name} was not closed in order: {error}\nWhat clients wrote since their last flush that succeeded may be lost. \
             The image is marked, and is checked when it is next opened for writing."
        )),
        Ok(()) if !has_served => {}
        Ok(()) if args.read_only => say(&format!("Closed {name}.")),
        Ok(()) => say(&format!("Closed {name}: everything written is in it, and it is clean.")),
    }
    Ok(code)
}

/// Prints a line at once. A server goes on when standard output is gone.
fn say(line: &str) {
    let mut out = output::results();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "standard output is gone");
    }
}
