//! `cargo xtask compare`: our speed as a ratio to a peer's, in the same run, on the same file.
//!
//! Role: measurements in turns, and their medians, as pages with tables and plots in `docs/performance/`.
//!
//! Absent on purpose: thresholds. A noisy machine fails no test for its speed; people read the figures.

mod cache;
mod cliff;
mod first_writes;
mod nbd;
pub(crate) mod page;
mod plot;
mod reads;
mod server;
mod turns;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::peers;
use page::Page;

/// What to compare, and how.
#[derive(Args)]
pub(crate) struct Arguments {
    /// What to compare; everything when not given
    what: Vec<What>,
    /// Turns, in each of which everybody is measured; the medians are told
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Where to make images on a disk
    #[arg(long, default_value = "target")]
    disk: PathBuf,
    /// Where to make images in memory
    #[arg(long, default_value = "/dev/shm")]
    memory: PathBuf,
    /// A block trace for the table cache to replay besides: 32 bytes a request, as CloudPhysics published them
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Where the pages go
    #[arg(long, default_value = "docs/performance")]
    pages: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Library reads, in the page cache and past it, beside qemu-img bench, bare loops and fio
    Reads,
    /// Random reads when the tables outgrow the cache, beside qemu-storage-daemon on QED and qcow2
    Cliff,
    /// Workloads replayed on the table cache, beside the reference's policy and other caches
    Cache,
    /// An NBD server, by depth and by connections, beside qemu-nbd
    Nbd,
    /// First writes, beside qemu-img bench on QED and qcow2, and a bare loop
    FirstWrites,
}

/// What the comparisons measure with.
struct Bench {
    quod: PathBuf,
    bare: PathBuf,
    replay: PathBuf,
    disk: PathBuf,
    memory: PathBuf,
    pairs: usize,
}

/// Builds the command as it is shipped, and measures.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    peers::ensure()?;
    let packages = ["--package", "quod-cli", "--package", "xtask"];
    let programs = ["--bin", "quod", "--bin", "bare-loop", "--bin", "replay"];
    let status =
        crate::cargo::cargo(root).args(["build", "--release"]).args(packages).args(programs).status()?;
    ensure!(status.success(), "the quod command does not build");
    let built = crate::cargo::target_directory(root).join("release");
    let bench = Bench {
        quod: built.join("quod"),
        bare: built.join("bare-loop"),
        replay: built.join("replay"),
        disk: arguments.disk.clone(),
        memory: arguments.memory.clone(),
        pairs: arguments.pairs,
    };
    for what in What::value_variants() {
        if !arguments.what.is_empty() && !arguments.what.contains(what) {
            continue;
        }
        let page: Page = match what {
            What::Reads => reads::run(&bench)?,
            What::Cliff => cliff::run(&bench)?,
            What::Cache => cache::run(&bench, arguments.trace.as_deref())?,
            What::Nbd => nbd::run(&bench)?,
            What::FirstWrites => first_writes::run(&bench)?,
        };
        page.write(&arguments.pages, arguments.pairs)?;
    }
    Ok(())
}

/// Runs a command; what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("could not start {:?}", command.get_program()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes a QED image of so many bytes, all of them written.
pub(crate) fn make_full_image(image: &Path, size: u64) -> Result<()> {
    output(Command::new("qemu-img").args(["create", "-q", "-f", "qed"]).arg(image).arg(size.to_string()))?;
    output(Command::new("qemu-io").args(["-f", "qed", "-c", &format!("write -P 7 0 {size}")]).arg(image))
        .map(drop)
}

/// The seconds that a benchmark says it took.
fn seconds(command: &mut Command) -> Result<f64> {
    let told = output(command)?;
    let seconds =
        told.lines().find_map(|line| line.strip_prefix("Run completed in ")?.strip_suffix(" seconds."));
    seconds.with_context(|| format!("no seconds in {told}"))?.parse().context("seconds are a number")
}

/// Operations a second, as fio tells them of one kind: `read` or `write`.
fn fio_rate(fio: &mut Command, kind: &str) -> Result<f64> {
    let text = output(fio.arg("--output-format=json"))?;
    // It may print notes before its JSON.
    let start = text.find('{').with_context(|| format!("fio printed no JSON: {text}"))?;
    let told: serde_json::Value = serde_json::from_str(&text[start..])?;
    let rate = told["jobs"][0][kind]["iops"].as_f64().filter(|rate| *rate > 0.0);
    rate.with_context(|| format!("fio told no rate: {told}"))
}
