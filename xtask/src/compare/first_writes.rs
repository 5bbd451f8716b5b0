//! First writes: how fast clusters come into being, beside qemu-img bench on QED and qcow2, and beside a bare loop of the same
//! system calls.
//!
//! Role: each measurement makes a fresh image and times a whole process, from its start to its exit, so that the flush of the
//! close counts. The peers run with each of their `-i` modes, and the better one counts.
//!
//! Absent on purpose: a disk in memory. What flushes cost is the point.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::median;

const CLUSTER: u64 = 64 << 10;
const MODES: [&str; 2] = ["threads", "io_uring"];

/// How to measure first writes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Where to make the images: on a disk
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    /// Measurements of each kind; the medians are told
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Only cases whose names contain this
    #[arg(default_value = "")]
    name: String,
}

/// A workload.
struct Case {
    name: &'static str,
    /// Bytes of the full raw base, if there is one.
    base: Option<u64>,
    count: u64,
    depth: u64,
    size: u64,
    flush_interval: Option<u64>,
    /// After so many clusters the bare loop flushes, and writes entries; not before its end without.
    batch: Option<u64>,
    /// At least so many times as fast as QED and qcow2; at least so much of the bare loop.
    targets: [Option<f64>; 3],
}

const CASES: [Case; 4] = [
    Case {
        name: "no-backing",
        base: None,
        count: 75_000,
        depth: 64,
        size: 4096,
        flush_interval: None,
        batch: None,
        targets: [Some(12.0), Some(4.0), None],
    },
    Case {
        name: "base-depth-64",
        base: Some(1 << 30),
        count: 16_384,
        depth: 64,
        size: 4096,
        flush_interval: None,
        batch: Some(512),
        targets: [Some(10.0), Some(1.0), Some(0.8)],
    },
    Case {
        name: "base-depth-1",
        base: Some(1 << 30),
        count: 16_384,
        depth: 1,
        size: 4096,
        flush_interval: None,
        batch: Some(512),
        targets: [Some(4.0), Some(1.2), None],
    },
    Case {
        name: "database",
        base: Some(1 << 30),
        count: 4096,
        depth: 8,
        size: 8192,
        flush_interval: Some(8),
        batch: Some(8),
        targets: [Some(2.5), Some(1.0), Some(0.8)],
    },
];

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Quod,
    Qemu { format: &'static str, mode: &'static str },
    Bare,
}

pub(super) fn run(quod: &Path, bare: &Path, arguments: &Arguments) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("first-writes").tempdir_in(&arguments.directory)?;
    for case in CASES.iter().filter(|case| case.name.contains(&arguments.name)) {
        let bench = Bench { quod, bare, case, directory: directory.path() };
        bench.run(arguments.pairs)?;
    }
    Ok(())
}

struct Bench<'a> {
    quod: &'a Path,
    bare: &'a Path,
    case: &'a Case,
    directory: &'a Path,
}

impl Bench<'_> {
    fn run(&self, pairs: usize) -> Result<()> {
        if let Some(bytes) = self.case.base {
            make_base(&self.base(), bytes)?;
        }
        let peers =
            ["qed", "qcow2"].into_iter().flat_map(|format| MODES.map(|mode| Who::Qemu { format, mode }));
        let all: Vec<Who> = [Who::Quod, Who::Bare].into_iter().chain(peers).collect();
        let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
        for pair in 0..pairs {
            for place in 0..all.len() {
                // Another order each time: nobody always comes after the same one.
                let place = (place + pair) % all.len();
                seconds[place].push(self.measure(all[place])?);
            }
        }
        let rate = |who: Who| -> Result<f64> {
            let place = all.iter().position(|one| *one == who).context("it was measured")?;
            Ok(self.case.count as f64 / median(&seconds[place])?)
        };
        let Case { name, count, depth, size, targets, .. } = self.case;
        println!(
            "{name}: {count} writes of {size} bytes, each into a cluster of its own, depth {depth}, {pairs} measurements"
        );
        let ours = rate(Who::Quod)?;
        println!("  quod bench {ours:.0}/s");
        for (format, target) in ["qed", "qcow2"].into_iter().zip(targets) {
            let rates = MODES.map(|mode| rate(Who::Qemu { format, mode }));
            let [threads, io_uring] = rates;
            let (threads, io_uring) = (threads?, io_uring?);
            println!(
                "  qemu-img bench -f {format}: {threads:.0}/s with -i threads, {io_uring:.0}/s with -i io_uring"
            );
            tell(&format!("of the better {format}"), ours / threads.max(io_uring), *target);
        }
        let bare = rate(Who::Bare)?;
        println!("  bare loop {bare:.0}/s");
        tell("of the bare loop", ours / bare, targets[2]);
        Ok(())
    }

    fn base(&self) -> PathBuf {
        self.directory.join("base.raw")
    }

    /// Seconds that a fresh image takes one of them.
    fn measure(&self, who: Who) -> Result<f64> {
        let file = self.directory.join("disk");
        let format = match who {
            Who::Qemu { format, .. } => format,
            Who::Quod | Who::Bare => "qed",
        };
        self.make(&file, format)?;
        let mut command = self.command(who, &file);
        let began = Instant::now();
        let status = command.stdout(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(status.success(), "{command:?} failed");
        std::fs::remove_file(&file)?;
        Ok(seconds)
    }

    fn make(&self, file: &Path, format: &str) -> Result<()> {
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", format]).arg(file);
        match self.case.base {
            Some(bytes) => {
                create.arg(bytes.to_string()).args(["-F", "raw", "-b"]).arg(self.base());
            }
            None => {
                create.arg((self.case.count * CLUSTER).to_string());
            }
        }
        ensure!(create.status().context("could not start qemu-img")?.success(), "{create:?} failed");
        // What is still on its way to the disk is nobody's.
        ensure!(Command::new("sync").status()?.success(), "sync failed");
        Ok(())
    }

    fn command(&self, who: Who, file: &Path) -> Command {
        let Case { count, depth, size, flush_interval, batch, .. } = self.case;
        let mut command = match who {
            Who::Quod => {
                let mut command = Command::new(self.quod);
                command.args(["bench", "-f", "qed", "--threads", &(*depth).min(2).to_string()]);
                command
            }
            Who::Qemu { format, mode } => {
                let mut command = Command::new("qemu-img");
                command.args(["bench", "-f", format, "-i", mode]);
                command
            }
            Who::Bare => {
                let mut command = Command::new(self.bare);
                command.args(["--count", &count.to_string(), "--size", &size.to_string()]);
                command.args(["--threads", &(*depth).min(2).to_string()]).arg(file);
                if let Some(batch) = batch {
                    command.args(["--batch", &batch.to_string()]).arg(self.base());
                }
                command.args(flush_interval.map(|_| "--durable"));
                return command;
            }
        };
        command.args(["-w", "-c", &count.to_string(), "-d", &depth.to_string()]);
        command.args(["-s", &size.to_string(), "-S", &CLUSTER.to_string()]);
        if let Some(interval) = flush_interval {
            command.args(["--flush-interval", &interval.to_string()]);
        }
        command.arg(file);
        command
    }
}

fn tell(of: &str, ratio: f64, target: Option<f64>) {
    match target {
        Some(target) => {
            let verdict = if ratio >= target { "met" } else { "not met" };
            println!("  {ratio:.2} {of}; target {target}: {verdict}");
        }
        None => println!("  {ratio:.2} {of}"),
    }
}

/// A file without a hole.
fn make_base(path: &Path, bytes: u64) -> Result<()> {
    use std::io::Write;
    let mut file = File::create(path)?;
    let piece: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8 + 1).collect();
    for _ in 0..bytes / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    Ok(file.sync_all()?)
}
