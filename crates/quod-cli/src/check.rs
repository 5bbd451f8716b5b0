//! `quod check`: whether an image's metadata is sound.
//!
//! Role: runs the engine's check, prints counts as scripts know them and the first findings for people, and turns them
//! into the exit code.
//!
//! Invariant: without `-r` nothing is written; no backing file is opened at all.
//!
//! Absent on purpose: judging. What is corrupt or leaked the engine says.

use std::io::Write;
use std::path::Path;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use quod::{CheckReport, Format, Repair};
use quod_storage::Access;
use serde::Serialize;

use crate::json;
use crate::open::{Source, Target, could_not_open};
use crate::output::{self, OutputFormat};

const CORRUPT: u8 = 2;
const LEAKS: u8 = 3;
const NOT_SUPPORTED: u8 = 63;

/// Look for corruption and leaked clusters in an image, and repair them with -r.
///
/// The exit code is 0 when the image is clean, 1 when it cannot be checked, 2 when it is corrupt, 3 when clusters are
/// leaked and nothing is worse, 63 when the format does not support checks.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod check disk.qed                    0 clean, 2 corrupt, 3 leaked clusters
  quod check -r all disk.qed             clear entries that point nowhere, give back what is unused at the end
  quod check --output=json disk.qed      for a program")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Repair what can be: leaks, or all; the image is opened for writing
    #[arg(short, long, value_name = "WHAT")]
    repair: Option<What>,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    output: OutputFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Leaked clusters
    Leaks,
    /// Whatever can be repaired
    All,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut target = args.source.target();
    if quod::block_on(target.format())? == Format::Raw {
        // What cannot be opened has no format.
        quod::block_on(target.open())?;
        output::complain("This image format does not support checks");
        return Ok(NOT_SUPPORTED);
    }
    let mended = match args.repair {
        None => None,
        Some(_) if args.source.force_share => bail!(
            "Could not open '{}': force-share=on can only be used with read-only images",
            target.path.display()
        ),
        Some(what) => {
            target.access = Access::Write;
            Some(repair(&target, what)?)
        }
    };
    let mut out = output::results();
    if let Some(mended) = mended.as_ref().filter(|mended| mended.any() && !args.quiet) {
        print_mended(&mut out, args.output, mended)?;
    }
    let report = check(&target, Repair::No)?;
    match args.output {
        _ if args.quiet => {}
        OutputFormat::Human => print(&mut out, &report)?,
        OutputFormat::Json => {
            json::print(&mut out, &CheckJson::of(&report, mended.unwrap_or_default(), target.path))?
        }
    }
    out.flush()?;
    Ok(exit_code(&report))
}

fn check(target: &Target<'_>, repair: Repair) -> anyhow::Result<CheckReport> {
    let report = quod::block_on(quod::check(&target.places, target.path, target.access, repair));
    report.map_err(|error| anyhow!(could_not_open(target.path, &error)))
}

/// What a repair has mended.
#[derive(Clone, Copy, Debug, Default)]
struct Mended {
    leaks: u64,
    corruptions: u64,
}

impl Mended {
    fn any(self) -> bool {
        self.leaks + self.corruptions > 0
    }
}

/// Repairs. With `leaks` a corrupt image is left as it is: what is unreferenced then may be what was lost.
fn repair(target: &Target<'_>, what: What) -> anyhow::Result<Mended> {
    if matches!(what, What::Leaks) && check(target, Repair::No)?.corruptions > 0 {
        return Ok(Mended::default());
    }
    let report = check(target, Repair::Yes)?;
    Ok(Mended { leaks: report.leaks_fixed, corruptions: report.corruptions_fixed })
}

fn exit_code(report: &CheckReport) -> u8 {
    match report {
        CheckReport { corruptions: 1.., .. } => CORRUPT,
        CheckReport { leaks: 1.., .. } => LEAKS,
        _ => 0,
    }
}

fn print_mended(out: &mut impl Write, form: OutputFormat, mended: &Mended) -> anyhow::Result<()> {
    if form == OutputFormat::Human {
        writeln!(out, "The following inconsistencies were found and repaired:\n")?;
        writeln!(out, "    {} leaked clusters\n    {} corruptions\n", mended.leaks, mended.corruptions)?;
        writeln!(out, "Double checking the fixed image now...")?;
    }
    Ok(())
}

fn print(out: &mut impl Write, report: &CheckReport) -> anyhow::Result<()> {
    report.findings.iter().for_each(|finding| output::warn_line(&format_args!("ERROR: {finding}")));
    if report.corruptions == 0 && report.leaks == 0 {
        writeln!(out, "No errors were found on the image.")?;
    }
    if report.corruptions > 0 {
        writeln!(out, "\n{} errors were found on the image.", report.corruptions)?;
        writeln!(out, "Data may be corrupted, or further writes to the image may corrupt it.")?;
    }
    if report.leaks > 0 {
        writeln!(out, "\n{} leaked clusters were found on the image.", report.leaks)?;
        writeln!(out, "This means waste of disk space, but no harm to data.")?;
    }
    let (allocated, total) = (report.allocated_clusters, report.total_clusters);
    if allocated > 0 && total > 0 {
        let share = |part: u64, whole: u64| part as f64 * 100.0 / whole as f64;
        let fragmented = share(report.fragmented_clusters, allocated);
        writeln!(
            out,
            "{allocated}/{total} = {:.2}% allocated, {fragmented:.2}% fragmented, 0.00% compressed clusters",
            share(allocated, total)
        )?;
    }
    writeln!(out, "Image end offset: {}", report.image_end)?;
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CheckJson<'a> {
    image_end_offset: u64,
    total_clusters: u64,
    #[serde(skip_serializing_if = "is_zero")]
    corruptions: u64,
    #[serde(skip_serializing_if = "is_zero")]
    corruptions_fixed: u64,
    check_errors: u64,
    #[serde(skip_serializing_if = "is_zero")]
    leaks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    leaks_fixed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    allocated_clusters: u64,
    filename: String,
    format: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    fragmented_clusters: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    findings: &'a [String],
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'a> CheckJson<'a> {
    fn of(report: &'a CheckReport, mended: Mended, path: &Path) -> Self {
        CheckJson {
            image_end_offset: report.image_end,
            total_clusters: report.total_clusters,
            corruptions: report.corruptions,
            corruptions_fixed: mended.corruptions,
            check_errors: 0,
            leaks: report.leaks,
            leaks_fixed: mended.leaks,
            allocated_clusters: report.allocated_clusters,
            filename: path.display().to_string(),
            format: "qed",
            fragmented_clusters: report.fragmented_clusters,
            findings: &report.findings,
        }
    }
}
