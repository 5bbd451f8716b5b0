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
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use quod::{CreateOptions, Format, NewBacking};
use quod_storage::Existing;

use crate::make::{make_qed, make_raw};
use crate::output;
use crate::place;
use options::FormatOptions;
use plan::Plan;

/// Make an empty image, or one over a backing file.
///
/// SIZE is in bytes or with a suffix: k, M, G, T, P or E. Without it the new disk is as large as the backing file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod create disk.qed 10G                      an empty disk of 10 GiB
  quod create -b golden.qed -F qed clone.qed    a clone: what is not yet written to it reads from golden.qed
  quod create -o cluster_size=1M,table_size=16 big.qed 1P
  quod create -o help                           what -o takes")]
pub(crate) struct Args {
    /// The format of the new image: qed or raw
    #[arg(short, long, value_name = "FMT", default_value = "qed")]
    format: String,
    /// Options of the format, as NAME=VALUE,...; a comma in a value is written twice
    #[arg(short, long, value_name = "OPTIONS")]
    options: Vec<String>,
    /// The image that the new one starts from; a relative name is looked up beside FILE
    #[arg(short, long, value_name = "BASE", value_hint = clap::ValueHint::FilePath)]
    backing: Option<OsString>,
    /// The format of BASE: qed or raw
    #[arg(short = 'F', long, value_name = "FMT")]
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
    if place::remote_name(Path::new(file)).is_some() {
        bail!("{}: images are made in local files only", Path::new(file).display());
    }
    let options = FormatOptions::gather(args, file)?;
    let plan = Plan::make(file, options, args.backing_unsafe)?;
    let told = if args.quiet { Ok(()) } else { writeln!(out, "{plan}").and_then(|()| out.flush()) };
    // What cannot be told can be done all the same.
    make(&plan)?;
    told?;
    Ok(0)
}

fn make(plan: &Plan<'_>) -> anyhow::Result<()> {
    Ok(quod::block_on(async {
        match plan.format {
            Format::Raw => make_raw(plan.file, plan.size, Existing::Empty).await,
            Format::Qed => make_qed(plan.file, &plan.engine_options()).await,
        }
    })?)
}

impl Plan<'_> {
    fn engine_options(&self) -> CreateOptions {
        let mut options = CreateOptions::new(self.size);
        options.existing = Existing::Empty;
        options.cluster_size = self.cluster_size;
        options.table_size = self.table_size.unwrap_or(options.table_size);
        options.backing =
            self.backing.as_ref().map(|(name, format)| NewBacking { name: name.clone(), format: *format });
        options
    }
}
