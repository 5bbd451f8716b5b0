//! The cliff: what happens to random reads when the working set has more L2 tables than the reference keeps.
//!
//! Role: a sparse image of 800 GiB with one cluster under each of 400 tables; 4 KiB reads of uniformly random blocks of
//! the first 40 tables' clusters, and of all 400, by fio through one NBD connection at depth 16.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use quod::{BlockingImage, CreateOptions, DEFAULT_CACHE_BYTES, Fua, OpenOptions};
use quod_storage::Access;

use super::median;
use super::server::Server;

const TABLES: u64 = 400;
const FEW_TABLES: u64 = 40;
/// Guest bytes under one table of the default geometry.
const TABLE_SPAN: u64 = 2 << 30;
const CLUSTER: u64 = 64 << 10;
const BLOCK: u64 = 4096;
/// What must be left of the rate over few tables, in percent.
const TARGET: f64 = 90.0;

/// How to measure the cliff.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Where to make the image; in memory unless told otherwise
    #[arg(long, default_value = "/dev/shm")]
    directory: PathBuf,
    /// Pairs of measurements; the medians are told
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Reads of one measurement; in a short one the first look at each table weighs more
    #[arg(long, default_value_t = 200_000)]
    reads: u64,
}

/// Reads a second over few tables and over all.
#[derive(Default)]
struct Rates {
    few: Vec<f64>,
    all: Vec<f64>,
}

pub(super) fn run(quod: &Path, arguments: &Arguments) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("quod-cliff").tempdir_in(&arguments.directory)?;
    let image = directory.path().join("cliff.qed");
    make_image(&image)?;
    let few = directory.path().join("few.log");
    let all = directory.path().join("all.log");
    std::fs::write(&few, reads_over(FEW_TABLES, arguments.reads)?)?;
    std::fs::write(&all, reads_over(TABLES, arguments.reads)?)?;

    let (mut ours, mut theirs) = (Rates::default(), Rates::default());
    for pair in 0..arguments.pairs {
        let socket = |name: &str| directory.path().join(format!("{name}{pair}"));
        for log in [&few, &all] {
            let server = Server::quod(quod, &image, socket("quod"), DEFAULT_CACHE_BYTES as u64)?;
            let rate = measure(&server, log)?;
            drop(server);
            if log == &few { &mut ours.few } else { &mut ours.all }.push(rate);
            let server = Server::qemu(&image, socket("qemu"))?;
            let rate = measure(&server, log)?;
            if log == &few { &mut theirs.few } else { &mut theirs.all }.push(rate);
        }
    }
    let kept = report("quod serve", &ours)?;
    report("qemu-storage-daemon", &theirs)?;
    let verdict = if kept >= TARGET { "met" } else { "not met" };
    println!("target for quod: {TARGET:.0} % of the rate over {FEW_TABLES} tables: {verdict}");
    println!(
        "quod / qemu: {:.2} over {FEW_TABLES} tables, {:.2} over {TABLES}",
        median(&ours.few)? / median(&theirs.few)?,
        median(&ours.all)? / median(&theirs.all)?
    );
    Ok(())
}

fn make_image(image: &Path) -> Result<()> {
    BlockingImage::create(image, &CreateOptions::new(TABLES * TABLE_SPAN))?;
    let disk = BlockingImage::open(image, &OpenOptions::new(Access::Write))?;
    let cluster = vec![0x5a; CLUSTER as usize];
    for table in 0..TABLES {
        disk.write(table * TABLE_SPAN, &cluster, Fua::No)?;
    }
    Ok(disk.close()?)
}

/// A list of reads for fio to replay. The same for every server.
fn reads_over(tables: u64, reads: u64) -> Result<String> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut log = String::from("fio version 2 iolog\nnbd add\nnbd open\n");
    for _ in 0..reads {
        let at = random.u64(..tables) * TABLE_SPAN + random.u64(..CLUSTER / BLOCK) * BLOCK;
        writeln!(log, "nbd read {at} {BLOCK}")?;
    }
    log.push_str("nbd close\n");
    Ok(log)
}

/// Reads a second, by fio's account.
fn measure(server: &Server, log: &Path) -> Result<f64> {
    let mut fio = Command::new("fio");
    fio.args([
        "--name=cliff",
        "--ioengine=nbd",
        "--iodepth=16",
        "--rw=randread",
        "--bs=4k",
        "--output-format=json",
    ]);
    fio.arg(format!("--uri=nbd+unix:///?socket={}", server.socket.display()));
    fio.arg(format!("--read_iolog={}", log.display()));
    let output = fio.output().context("could not start fio")?;
    ensure!(output.status.success(), "fio failed: {}", String::from_utf8_lossy(&output.stderr));
    // fio may print notes before its JSON.
    let text = String::from_utf8_lossy(&output.stdout);
    let start = text.find('{').with_context(|| format!("fio printed no JSON: {text}"))?;
    let told: serde_json::Value = serde_json::from_str(&text[start..])?;
    match told["jobs"][0]["read"]["iops"].as_f64() {
        Some(rate) if rate > 0.0 => Ok(rate),
        _ => bail!("fio told no rate: {told}"),
    }
}

/// Prints the medians; returns how much of the rate over few tables is left over all, in percent.
fn report(name: &str, rates: &Rates) -> Result<f64> {
    let (few, all) = (median(&rates.few)?, median(&rates.all)?);
    let kept = 100.0 * all / few;
    println!("{name}: {few:.0} reads/s over {FEW_TABLES} tables, {all:.0} over {TABLES}: {kept:.0} %");
    Ok(kept)
}
