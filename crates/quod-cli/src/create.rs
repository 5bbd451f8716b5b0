//! `quod create`: a new image, empty or over a backing file.
//!
//! Role: gathers what the arguments ask for, has the backing file looked at, tells what it is about to do in the
//! reference's words, and lets the engine make the image.
//!
//! Invariant: an existing file is not touched before everything about the new image is known to be possible.
//!
//! Absent on purpose: preallocation; images grow as they are written to.

mod options;
mod plan;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use quod::{CreateOptions, Format, NewBacking};
use quod_storage::{Existing, FileOpener, FileStorage, Held, Opener, Storage};

use crate::open::{Disk, sentence, system_sentence};
use crate::output;
use options::FormatOptions;
use plan::Plan;

/// Make an empty image, or one over a backing file.
///
/// SIZE is in bytes or with a suffix: k, M, G, T, P or E. Without it the new disk is as large as the backing file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod create disk.qed 10G                      an empty disk of 10 GiB
  quod create -b golden.qed -F qed clone.qed    a clone: reads come from golden.qed until it is written to
  quod create -o cluster_size=1M,table_size=16 big.qed 1P
  quod create -o help                           what -o takes")]
pub(crate) struct Args {
    /// The format of the new image: qed or raw
    #[arg(short, long, value_name = "FMT", default_value = "qed", overrides_with = "format")]
    format: String,
    /// Options of the format, as NAME=VALUE,...; a comma in a value is written twice
    #[arg(short, long, value_name = "OPTIONS")]
    options: Vec<String>,
    /// The image that the new one starts from; a relative name is looked up beside FILE
    #[arg(short, long, value_name = "BASE", overrides_with = "backing")]
    backing: Option<String>,
    /// The format of BASE: qed or raw
    #[arg(short = 'F', long, value_name = "FMT", overrides_with = "backing_format")]
    backing_format: Option<String>,
    /// Do not look at the backing file
    #[arg(short = 'u', long)]
    backing_unsafe: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
    /// The image to make; an existing file is emptied
    #[arg(value_name = "FILE", required_unless_present = "options")]
    file: Option<PathBuf>,
    /// Size of the disk
    #[arg(value_name = "SIZE", allow_hyphen_values = true)]
    size: Option<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut out = output::results();
    if options::asks_for_help(&args.options) {
        out.write_all(options::HELP.as_bytes())?;
        out.flush()?;
        return Ok(0);
    }
    let file = args.file.as_deref().ok_or_else(|| anyhow!("Expecting image file name"))?;
    let options = FormatOptions::gather(args, file)?;
    let plan = Plan::make(file, options, args.backing_unsafe)?;
    let told = if args.quiet { Ok(()) } else { writeln!(out, "{plan}").and_then(|()| out.flush()) };
    // What cannot be told can be done all the same.
    make(&plan)?;
    told?;
    Ok(0)
}

fn make(plan: &Plan<'_>) -> anyhow::Result<()> {
    quod::block_on(async {
        match plan.format {
            Format::Raw => make_raw(plan.file, plan.size, Existing::Empty).await,
            Format::Qed => make_qed(plan.file, &plan.engine_options()).await,
        }
    })
}

/// Makes a QED image.
///
/// # Errors
/// `FILE: ...`
pub(crate) async fn make_qed(file: &Path, options: &CreateOptions) -> anyhow::Result<()> {
    let made = Disk::create(&FileOpener, file, options).await;
    made.map_err(|error| {
        let why = sentence(file, &error);
        let why = match why.strip_prefix("the file cannot be made: ") {
            Some(system) => format!("Could not create '{}': {system}", file.display()),
            None => why,
        };
        let told = format!("{}: {why}", file.display());
        anyhow!(error).context(told)
    })
}

/// Makes a raw image: a file with nothing in it.
///
/// # Errors
/// `FILE: Could not create 'FILE': ...`
pub(crate) async fn make_raw(file: &Path, size: u64, existing: Existing) -> anyhow::Result<()> {
    let made = async {
        let storage: FileStorage = FileOpener.create(file, existing).await?;
        storage.set_len(size.next_multiple_of(512), Held::NOTHING).await?;
        storage.flush(Held::NOTHING).await
    };
    made.await.map_err(|error| {
        let name = file.display();
        let told = format!("{name}: Could not create '{name}': {}", system_sentence(&error));
        anyhow!(error).context(told)
    })
}

/// Whether an image was not made since a file of its name is to be kept.
pub(crate) fn exists_already(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|system| system.kind() == io::ErrorKind::AlreadyExists)
    })
}

impl Plan<'_> {
    fn engine_options(&self) -> CreateOptions {
        let mut options = CreateOptions::new(self.size);
        options.cluster_size = self.cluster_size;
        options.table_size = self.table_size.unwrap_or(options.table_size);
        options.backing =
            self.backing.as_ref().map(|(name, format)| NewBacking { name: name.clone(), format: *format });
        options
    }
}
