//! `quod compare`: whether two guests would read the same bytes.
//!
//! Role: opens both, lets them be walked side by side, and words what came out as the reference does.
//!
//! Absent on purpose: the walk itself.

mod report;
mod side;
mod walk;

use std::path::PathBuf;

use crate::open::Target;
use crate::output;
use report::Report;
use side::Side;
use walk::{Verdict, compare};

const DIFFERENT: u8 = 1;

/// Compare what two guests would read.
///
/// The exit code is 0 when the images are identical, 1 when they differ, 2 when one cannot be opened, 3 when what is
/// allocated cannot be told, 4 when data cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod compare a.qed b.qed               the contents; a longer image may end with zeroes
  quod compare -s a.qed b.qed            sizes, and what is allocated, must be the same too
  quod compare -f qed -F raw a.qed a.raw && echo same")]
pub(crate) struct Args {
    /// The format of FILE1: qed or raw; told by its first bytes when not given
    #[arg(short = 'f', long = "a-format", value_name = "FMT")]
    first_format: Option<String>,
    /// The format of FILE2
    #[arg(short = 'F', long = "b-format", value_name = "FMT")]
    second_format: Option<String>,
    /// Sizes and allocation must be the same too
    #[arg(short, long)]
    strict: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
    /// Show how far it is
    #[arg(short, long)]
    progress: bool,
    /// Let other processes have the images open for writing
    #[arg(short = 'U', long)]
    force_share: bool,
    /// An image file, or an export: nbd://HOST/NAME, nbd+unix:///NAME?socket=PATH, and nbds for TLS
    #[arg(value_name = "FILE1")]
    first: PathBuf,
    /// What to compare it with, likewise
    #[arg(value_name = "FILE2")]
    second: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut report = Report::new(output::results(), args.quiet, args.progress);
    let compared = quod::block_on(async {
        let first = Target::for_reading(&args.first, args.first_format.as_deref(), args.force_share);
        let second = Target::for_reading(&args.second, args.second_format.as_deref(), args.force_share);
        let first = Side::open(&first).await?;
        let second = Side::open(&second).await?;
        compare(&first, &second, args.strict, &mut report).await
    });
    let code = match compared {
        Ok(Verdict::Identical) => report.say("Images are identical.", 0)?,
        Ok(Verdict::Content(at)) => report.say(&format!("Content mismatch at offset {at}!"), DIFFERENT)?,
        Ok(Verdict::Status(at)) => {
            report.say(&format!("Strict mode: Offset {at} block status mismatch!"), DIFFERENT)?
        }
        Ok(Verdict::Size) => report.say("Strict mode: Image size mismatch!", DIFFERENT)?,
        Err(failure) if output::reader_is_gone(&failure.error) => return Err(failure.error),
        Err(failure) => {
            output::complain(&failure.error);
            failure.code
        }
    };
    report.finish()?;
    Ok(code)
}
