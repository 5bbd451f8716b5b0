//! Library reads: `quod bench` beside qemu-img bench, a bare loop of the same reads, and fio past the page cache.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::page::{Page, Table, rate, ratio};
use super::plot::{Curve, Plot, What};
use super::turns::Turns;
use super::{Bench, fio_rate, make_full_image, output, seconds};

const SIZE: u64 = 1 << 30;
const BLOCK: u64 = 4096;
/// Reads of a measurement: the whole disk, four times.
const READS: u64 = 4 * SIZE / BLOCK;
/// Past the page cache.
const DIRECT_READS: u64 = 100_000;
/// Threads that read what is in it.
const THREADS: [u64; 3] = [1, 2, 4];
/// Requests in flight, past it.
const DEPTHS: [u64; 5] = [1, 4, 16, 64, 128];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Quod { threads: u64, aio: &'static str },
    Qemu { aio: &'static str },
    Bare { threads: u64 },
}

pub(super) fn run(bench: &Bench) -> Result<Page> {
    let mut page = Page {
        name: "reads",
        title: "Library reads",
        how: format!(
            "A fully allocated QED image of 1 GiB, read in blocks of {BLOCK} bytes, {READS} of them one after the other, round and round, at \
             depth 64, all in the page cache (`quod bench`, `qemu-img bench`; a bare loop of `pread` into 64 buffers by turns). Then {DIRECT_READS} \
             random reads past the page cache (`quod bench -t none --random 1`; `fio --ioengine=io_uring --direct=1` on the \
             file of the image, and with its file and its buffers registered with io_uring)."
        ),
        tables: Vec::new(),
        plots: Vec::new(),
    };
    for (name, place) in [("ext4", &bench.disk), ("tmpfs", &bench.memory)] {
        let directory = tempfile::Builder::new().prefix("reads").tempdir_in(place)?;
        let image = directory.path().join("disk.qed");
        make_full_image(&image, SIZE)?;
        // What is still on its way to the disk is nobody's.
        output(&mut Command::new("sync"))?;
        let (table, plot) = cached(bench, name, &image)?;
        page.tables.push(table);
        page.plots.extend(plot);
        if name == "ext4" {
            let (table, plot) = direct(bench, &image)?;
            page.tables.push(table);
            page.plots.push(plot);
        }
    }
    Ok(page)
}

fn cached(bench: &Bench, name: &str, image: &Path) -> Result<(Table, Option<Plot>)> {
    let mut all = vec![Who::Qemu { aio: "threads" }, Who::Qemu { aio: "io_uring" }];
    all.extend(["threads", "io_uring"].map(|aio| Who::Quod { threads: 1, aio }));
    for threads in THREADS {
        all.extend([Who::Quod { threads, aio: "auto" }, Who::Bare { threads }]);
    }
    let file = std::fs::metadata(image)?.len();
    let measure = |who: &Who| {
        let mut command = match who {
            Who::Quod { threads, aio } => {
                let mut command = Command::new(&bench.quod);
                command.args(["bench", "-f", "qed", "-i", aio, "--threads", &threads.to_string()]);
                command
            }
            Who::Qemu { aio } => {
                let mut command = Command::new("qemu-img");
                command.args(["bench", "-f", "qed", "-i", aio]);
                command
            }
            Who::Bare { threads } => {
                let mut command = Command::new(&bench.bare);
                // The data lie at the end of the file.
                command.args(["reads", "--size", &BLOCK.to_string(), "--threads", &threads.to_string()]);
                command.args(["--buffers", &(64 / threads).to_string()]);
                command.args(["--offset", &(file - SIZE).to_string(), "--length", &SIZE.to_string()]);
                command
            }
        };
        if !matches!(who, Who::Bare { .. }) {
            command.args(["-d", "64", "-s", &BLOCK.to_string()]);
        }
        let count = if matches!(who, Who::Bare { .. }) { "--count" } else { "-c" };
        Ok(READS as f64 / seconds(command.args([count, &READS.to_string()]).arg(image))?)
    };
    let turns = Turns::take(bench.pairs, &all, measure)?;
    let place = |who| all.iter().position(|one| *one == who).expect("all were measured");
    let quod = |threads| place(Who::Quod { threads, aio: "auto" });
    let bare = |threads| place(Who::Bare { threads });
    let [threads, io_uring] = ["threads", "io_uring"].map(|aio| place(Who::Qemu { aio }));
    let [by_calls, by_ring] = ["threads", "io_uring"].map(|aio| place(Who::Quod { threads: 1, aio }));
    let better = |turn: &[f64]| turn[threads].max(turn[io_uring]);
    let gain = |turn: &[f64], who: &dyn Fn(u64) -> usize| turn[who(2)] / turn[who(1)];
    let rate_of = |place: usize| rate(turns.median(|turn| turn[place]));
    let beside =
        |ours: usize, other: usize, target| ratio(turns.median(|turn| turn[ours] / turn[other]), target);
    let one = quod(1);
    let mut table =
        Table::new(format!("Cached, {name}"), &["who", "reads a second", "quod is so many times as fast"]);
    table.rows = vec![
        vec!["quod, one thread".into(), rate_of(one), String::new()],
        vec!["qemu-img, threads".into(), rate_of(threads), beside(one, threads, None)],
        vec!["qemu-img, io_uring".into(), rate_of(io_uring), beside(one, io_uring, None)],
        vec![
            "the better of both".into(),
            rate(turns.median(better)),
            ratio(turns.median(|turn| turn[one] / better(turn)), Some(2.0)),
        ],
        vec!["bare loop, one thread".into(), rate_of(bare(1)), beside(one, bare(1), Some(0.8))],
        vec!["quod, one thread, `-i threads`".into(), rate_of(by_calls), beside(one, by_calls, None)],
        vec!["that, beside the bare loop".into(), String::new(), beside(by_calls, bare(1), None)],
        vec!["quod, one thread, `-i io_uring`".into(), rate_of(by_ring), beside(one, by_ring, None)],
        vec!["quod, two threads".into(), rate_of(quod(2)), String::new()],
        vec!["bare loop, two threads".into(), rate_of(bare(2)), beside(quod(2), bare(2), None)],
        vec![
            "two threads to one, beside that of the bare loop".into(),
            format!(
                "{:.2}, {:.2}",
                turns.median(|turn| gain(turn, &quod)),
                turns.median(|turn| gain(turn, &bare))
            ),
            ratio(turns.median(|turn| gain(turn, &quod) / gain(turn, &bare)), Some(0.85)),
        ],
    ];
    let curve = |who: &dyn Fn(u64) -> usize| {
        THREADS.iter().map(|threads| (*threads as f64, turns.median(|turn| turn[who(*threads)]))).collect()
    };
    let curves =
        vec![Curve { name: "quod", points: curve(&quod) }, Curve { name: "bare loop", points: curve(&bare) }];
    let what = What::Curves { x: "threads", curves };
    let title = "Reads of 4 KiB out of the page cache, tmpfs".into();
    // The curves are the same on both, and one shows them.
    Ok((table, (name == "tmpfs").then_some(Plot { name: "reads-threads", title, what })))
}

/// Who reads past the page cache.
const DIRECT: [Option<&[&str]>; 3] = [None, Some(&[]), Some(&["--registerfiles=1", "--fixedbufs=1"])];

fn direct(bench: &Bench, image: &Path) -> Result<(Table, Plot)> {
    let columns =
        ["depth", "quod", "fio io_uring", "quod / fio", "fio, file and buffers registered", "quod / that"];
    let mut table = Table::new("O_DIRECT, ext4, random", &columns);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for depth in DEPTHS {
        let count = (DIRECT_READS * depth / 64).clamp(DIRECT_READS / 10, DIRECT_READS).to_string();
        let turns = Turns::take(bench.pairs, &DIRECT, |who| {
            let Some(options) = who else {
                let mut command = Command::new(&bench.quod);
                command.args(["bench", "-f", "qed", "-t", "none", "--random", "1", "-c", &count]);
                let took = seconds(command.args(["-d", &depth.to_string()]).arg(image))?;
                return Ok(count.parse::<f64>()? / took);
            };
            let mut fio = Command::new("fio");
            fio.args([
                "--readonly",
                "--name=direct",
                "--rw=randread",
                "--norandommap",
                "--bs=4k",
                "--direct=1",
            ]);
            fio.args([
                "--ioengine=io_uring",
                &format!("--iodepth={depth}"),
                &format!("--number_ios={count}"),
            ]);
            fio.args(*options);
            fio_rate(fio.arg(format!("--filename={}", image.display())), "read")
        })?;
        let [quod, fio, registered] = [0, 1, 2].map(|place| turns.median(|turn| turn[place]));
        let beside = |other: usize, target| ratio(turns.median(|turn| turn[0] / turn[other]), target);
        table.rows.push(vec![
            depth.to_string(),
            rate(quod),
            rate(fio),
            beside(1, (depth == 64).then_some(0.95)),
            rate(registered),
            beside(2, None),
        ]);
        ours.push((depth as f64, quod));
        theirs.push((depth as f64, fio));
    }
    let curves = vec![Curve { name: "quod", points: ours }, Curve { name: "fio, io_uring", points: theirs }];
    let title = "Random reads of 4 KiB past the page cache".into();
    Ok((table, Plot { name: "reads-direct", title, what: What::Curves { x: "requests in flight", curves } }))
}
