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

use super::Bench;
use super::page::{Page, Table, rate, ratio};
use super::plot::{Plot, What};
use super::turns::Turns;

const CLUSTER: u64 = 64 << 10;
const MODES: [&str; 2] = ["threads", "io_uring"];

/// A workload.
struct Case {
    /// Of its plot.
    name: &'static str,
    title: &'static str,
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
        name: "first-writes-no-backing",
        title: "No backing file, 4 KiB, depth 64",
        base: None,
        count: 75_000,
        depth: 64,
        size: 4096,
        flush_interval: None,
        batch: None,
        targets: [Some(12.0), Some(4.0), None],
    },
    Case {
        name: "first-writes-base-depth-64",
        title: "Over a full base, 4 KiB, depth 64",
        base: Some(1 << 30),
        count: 16_384,
        depth: 64,
        size: 4096,
        flush_interval: None,
        batch: Some(512),
        targets: [Some(10.0), Some(1.0), Some(0.8)],
    },
    Case {
        name: "first-writes-base-depth-1",
        title: "Over a full base, 4 KiB, depth 1",
        base: Some(1 << 30),
        count: 16_384,
        depth: 1,
        size: 4096,
        flush_interval: None,
        batch: Some(512),
        targets: [Some(4.0), Some(1.2), None],
    },
    Case {
        name: "first-writes-database",
        title: "A database over a full base: 8 KiB, depth 8, a flush after every 8 writes",
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

pub(super) fn run(bench: &Bench) -> Result<Page> {
    let directory = tempfile::Builder::new().prefix("first-writes").tempdir_in(&bench.disk)?;
    let mut page = Page {
        name: "first-writes",
        title: "First writes",
        how: "Each write goes into a cluster of 64 KiB of its own that is not allocated yet, on ext4. Each measurement makes a \
              fresh image and times a whole process, so that the flush of the close counts. `qemu-img bench -w` runs with each \
              of its `-i` modes, and the better one counts. The bare loop makes the same system calls without an engine."
            .into(),
        tables: Vec::new(),
        plots: Vec::new(),
    };
    for case in &CASES {
        let (table, plot) = Trial { bench, case, directory: directory.path() }.run()?;
        page.tables.push(table);
        page.plots.push(plot);
    }
    Ok(page)
}

struct Trial<'a> {
    bench: &'a Bench,
    case: &'a Case,
    directory: &'a Path,
}

impl Trial<'_> {
    fn run(&self) -> Result<(Table, Plot)> {
        if let Some(bytes) = self.case.base {
            make_base(&self.base(), bytes)?;
        }
        let peer = |format, mode| Who::Qemu { format, mode };
        let all = [
            Who::Quod,
            peer("qed", MODES[0]),
            peer("qed", MODES[1]),
            peer("qcow2", MODES[0]),
            peer("qcow2", MODES[1]),
            Who::Bare,
        ];
        let count = self.case.count as f64;
        let turns = Turns::take(self.bench.pairs, &all, |who| Ok(count / self.measure(*who)?))?;
        // Of each peer, the better of its modes.
        let best = |turn: &[f64]| {
            let [ours, qed, qed_ring, qcow2, qcow2_ring, bare] = turn[..] else { unreachable!("one each") };
            [ours, qed.max(qed_ring), qcow2.max(qcow2_ring), bare]
        };
        let rates = [0, 1, 2, 3].map(|place| turns.median(|turn| best(turn)[place]));
        let Case { name, title, targets, .. } = self.case;
        let names = ["quod", "qemu-img, QED", "qemu-img, qcow2", "bare loop"];
        let mut table = Table::new(*title, &["who", "writes a second", "quod is so many times as fast"]);
        table.rows.push(vec![names[0].into(), rate(rates[0]), String::new()]);
        for peer in 1..names.len() {
            let beside = turns.median(|turn| best(turn)[0] / best(turn)[peer]);
            table.rows.push(vec![names[peer].into(), rate(rates[peer]), ratio(beside, targets[peer - 1])]);
        }
        let bars = names.map(String::from).into_iter().zip(rates).collect();
        Ok((table, Plot { name, title: (*title).into(), what: What::Bars(bars) }))
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
                let mut command = Command::new(&self.bench.quod);
                command.args(["bench", "-f", "qed", "--threads", &(*depth).min(2).to_string()]);
                command
            }
            Who::Qemu { format, mode } => {
                let mut command = Command::new("qemu-img");
                command.args(["bench", "-f", format, "-i", mode]);
                command
            }
            Who::Bare => {
                let mut command = Command::new(&self.bench.bare);
                command.args(["first-writes", "--count", &count.to_string(), "--size", &size.to_string()]);
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
