//! The cliff: what happens to random reads when the working set has more tables than the cache keeps.
//!
//! Role: QED images of 4,000 fully allocated L2 tables, made for the purpose with their data sparse, of which one lies in order
//! and one scattered; 4 KiB reads uniformly over the first so many tables, by fio through one NBD connection at depth 16, and by
//! `quod bench` without one. Beside them a qcow2 image of the same size, with preallocated metadata.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use quod::{BlockingImage, CreateOptions};

use super::page::{Page, Table, rate, ratio};
use super::plot::{Curve, Plot, What};
use super::server::Server;
use super::turns::Turns;
use super::{Bench, fio_rate, output, seconds};

const TABLES: u64 = 4000;
/// Guest bytes under one table of the default geometry.
const TABLE_SPAN: u64 = 2 << 30;
const CLUSTER: u64 = 64 << 10;
const TABLE_BYTES: u64 = 4 * CLUSTER;
const ENTRIES: u64 = TABLE_BYTES / 8;
const SLICE_BYTES: u64 = 4096;
/// What the reference's 50 tables take, which are 3,200 slices of 4 KiB.
const CACHE_BYTES: &str = "13107200";
/// Where the header says where the L1 table is.
const L1_OFFSET_AT: u64 = 40;
const SECONDS: u64 = 2;
/// Of a measurement without a server.
const READS: u64 = 1_000_000;
/// Seconds that a miss may cost above the bare read of its slice.
const MISS_TARGET: f64 = 700e-9;

const FEW: u64 = 40;
const MANY: u64 = 400;
const CURVE: [u64; 9] = [10, FEW, 50, 64, 100, 200, MANY, 1000, TABLES];

pub(super) fn run(bench: &Bench) -> Result<Page> {
    let directory = tempfile::Builder::new().prefix("cliff").tempdir_in(&bench.memory)?;
    let in_directory = |name: &str| directory.path().join(name);
    let images = [in_directory("in-order.qed"), in_directory("scattered.qed")];
    let [in_order, scattered] = &images;
    make_image(in_order, |number| number).context("the QED image in order")?;
    let tables_at = make_image(scattered, scatter).context("the scattered QED image")?;
    let qcow2 = in_directory("cliff.qcow2");
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata"]);
    output(create.arg(&qcow2).arg((TABLES * TABLE_SPAN).to_string()))?;
    let quod = |image: &Path, socket| {
        let options = ["--read-only", "--cache-size", CACHE_BYTES];
        Server::quod(&bench.quod, image, in_directory(socket), &options)
    };
    let servers = [
        quod(in_order, "quod-in-order.sock")?,
        Server::qemu_storage(in_order, "qed", in_directory("qed-in-order.sock"))?,
        quod(scattered, "quod-scattered.sock")?,
        Server::qemu_storage(scattered, "qed", in_directory("qed-scattered.sock"))?,
        Server::qemu_storage(&qcow2, "qcow2", in_directory("qcow2.sock"))?,
    ];
    let columns = [
        "tables",
        "quod serve, in order",
        "qemu, QED, in order",
        "quod / qemu",
        "quod serve, scattered",
        "qemu, QED, scattered",
        "quod / qemu",
        "qemu, qcow2",
    ];
    let mut nbd = Table::new("Through NBD", &columns);
    let mut curves: Vec<Vec<(f64, f64)>> = vec![Vec::new(); servers.len()];
    for tables in CURVE {
        let turns = Turns::take(bench.pairs, &servers, |server| {
            let mut fio = Command::new("fio");
            fio.args([
                "--name=cliff",
                "--ioengine=nbd",
                "--rw=randread",
                "--bs=4k",
                "--iodepth=16",
                "--norandommap",
            ]);
            fio.args(["--randrepeat=0", "--time_based", &format!("--runtime={SECONDS}")]);
            fio.args([format!("--size={}", tables * TABLE_SPAN), format!("--uri={}", server.uri())]);
            fio_rate(&mut fio, "read")
        })?;
        let target = (tables == MANY).then_some(8.0);
        let rates = [0, 1, 2, 3, 4].map(|place| turns.median(|turn| turn[place]));
        let beside = |ours: usize| ratio(turns.median(|turn| turn[ours] / turn[ours + 1]), target);
        let [in_order, qemu, scattered, qemu_scattered, qcow2] = rates.map(rate);
        let (first, second) = (beside(0), beside(2));
        nbd.rows.push(vec![
            tables.to_string(),
            in_order,
            qemu,
            first,
            scattered,
            qemu_scattered,
            second,
            qcow2,
        ]);
        curves.iter_mut().zip(rates).for_each(|(curve, rate)| curve.push((tables as f64, rate)));
    }
    drop(servers);
    let [library, miss] = alone(bench, &images, tables_at)?;
    let names = [
        "quod serve, in order",
        "qemu-storage-daemon, QED, in order",
        "quod serve, scattered",
        "qemu-storage-daemon, QED, scattered",
        "qemu-storage-daemon, qcow2",
    ];
    let curves = names.into_iter().zip(curves).map(|(name, points)| Curve { name, points }).collect();
    Ok(Page {
        name: "cliff",
        title: "The cliff",
        how: format!(
            "Random reads of 4 KiB, uniformly over the first so many L2 tables of 2 GiB each, all clusters of which are \
             allocated, in memory and with sparse data: in the order of the disk, as a conversion leaves them, or scattered \
             over the 2 GiB of their table. quod has a cache of {CACHE_BYTES} bytes, as many as the 3,200 slices of 50 tables \
             have. Slices in order it keeps as runs, and about 145,000 of them fit; of scattered ones, at 32 bits an entry, \
             6,000; over more, most reads take their entry past the cache. qemu-storage-daemon has its defaults, and qcow2 \
             lies in order. fio reads through one NBD connection at depth 16 for {SECONDS} seconds; `quod bench --random` \
             reads without a server, and begins with an empty cache."
        ),
        tables: vec![nbd, library, miss],
        plots: vec![Plot {
            name: "cliff",
            title: "Random reads of 4 KiB through NBD, by working set".into(),
            what: What::Curves { x: "L2 tables of 2 GiB in the working set", curves },
        }],
    })
}

/// A read without a server.
struct Read {
    seconds: f64,
    /// Slices that were loaded for it: a part of one.
    missed: f64,
}

/// Who reads without a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Ours, over so many tables of one of the images.
    Library { image: usize, tables: u64 },
    /// Slices alone.
    Bare,
}

/// Reads without a server, and what a miss costs more than a hit, beside a bare read of the slice. The second image is the one
/// whose slices are not packed.
fn alone(bench: &Bench, images: &[PathBuf; 2], tables_at: u64) -> Result<[Table; 2]> {
    let mut all: Vec<Who> =
        CURVE.into_iter().flat_map(|tables| [0, 1].map(|image| Who::Library { image, tables })).collect();
    // Once more, next to each other: their difference is smaller than what a machine's mood changes in a minute.
    let scattered = |tables| Who::Library { image: 1, tables };
    let [few, many, bare] = [0, 1, 2].map(|place| all.len() + place);
    all.extend([scattered(FEW), scattered(MANY), Who::Bare]);
    let turns = Turns::take(bench.pairs, &all, |who| match *who {
        Who::Library { image, tables } => library_read(bench, &images[image], tables),
        Who::Bare => bare_read(bench, &images[1], tables_at),
    })?;
    let place = |who: Who| all.iter().position(|one| *one == who).expect("all were measured");
    let columns =
        ["tables", "reads a second, in order", "of the rate over 40", "scattered", "of the rate over 40"];
    let mut library = Table::new("`quod bench`, one thread", &columns);
    for tables in CURVE {
        let target = match tables {
            50 => Some(0.9),
            MANY => Some(0.5),
            _ => None,
        };
        let mut row = vec![tables.to_string()];
        for image in [0, 1] {
            let [here, few] = [tables, FEW].map(|tables| place(Who::Library { image, tables }));
            row.push(rate(turns.median(|turn| turn[here].seconds.recip())));
            row.push(ratio(turns.median(|turn| turn[few].seconds / turn[here].seconds), target));
        }
        library.rows.push(row);
    }
    Ok([library, miss(&turns, few, many, bare)])
}

/// What the turns say of a miss: of reads over few tables and many, and bare ones of a slice, by their places.
fn miss(turns: &Turns<Read>, few: usize, many: usize, bare: usize) -> Table {
    let missed = |turn: &[Read]| turn[many].missed - turn[few].missed;
    let more = |turn: &[Read]| (turn[many].seconds - turn[few].seconds) / missed(turn);
    let above = turns.median(|turn| more(turn) - turn[bare].seconds);
    let bound =
        turns.median(|turn| turn[few].seconds / (turn[few].seconds + missed(turn) * turn[bare].seconds));
    let met = if above <= MISS_TARGET { "met" } else { "**not met**" };
    let nanoseconds = |seconds: f64| format!("{:.0} ns", seconds * 1e9);
    let read = |place: usize| nanoseconds(turns.median(|turn| turn[place].seconds));
    let mut table = Table::new("What a miss costs, `quod bench`, scattered", &["what", "figure"]);
    table.rows = vec![
        vec![format!("a read over {FEW} tables"), read(few)],
        vec![format!("a read over {MANY} tables"), read(many)],
        vec![
            format!("{:.0} % of those miss; a miss costs more than a hit", turns.median(missed) * 100.0),
            nanoseconds(turns.median(more)),
        ],
        vec!["a bare read of a slice, at random".into(), read(bare)],
        vec![
            "a miss above that".into(),
            format!("{} (target {} at most: {met})", nanoseconds(above), nanoseconds(MISS_TARGET)),
        ],
        vec![
            format!(
                "the rate over {MANY} tables, of that over {FEW}, if a miss cost a bare read more than a hit"
            ),
            ratio(bound, None),
        ],
    ];
    table
}

fn library_read(bench: &Bench, image: &Path, tables: u64) -> Result<Read> {
    let mut command = Command::new(&bench.quod);
    command.args(["bench", "-f", "qed", "--output", "json", "--threads", "1", "--cache-size", CACHE_BYTES]);
    command.args(["-c", &READS.to_string(), "--random", "1", "--span", &(tables * TABLE_SPAN).to_string()]);
    let told: serde_json::Value = serde_json::from_str(&output(command.arg(image))?)?;
    let figure = |figure: &serde_json::Value| figure.as_f64().with_context(|| format!("no figure in {told}"));
    let missed = figure(&told["cache"]["misses"])? / READS as f64;
    Ok(Read { seconds: figure(&told["operations-per-second"])?.recip(), missed })
}

/// A slice, by a loop without an engine.
fn bare_read(bench: &Bench, image: &Path, tables_at: u64) -> Result<Read> {
    let mut command = Command::new(&bench.bare);
    let slice = SLICE_BYTES.to_string();
    command.args(["reads", "--random", "--threads", "1", "--buffers", "1", "--size", &slice]);
    command.args(["--count", &READS.to_string(), "--offset", &tables_at.to_string()]);
    command.args(["--length", &(MANY * TABLE_BYTES).to_string()]);
    Ok(Read { seconds: seconds(command.arg(image))? / READS as f64, missed: 0.0 })
}

/// Which of the clusters of a table is named by an entry of it, so that neighbours have nothing to do with each other: steps
/// that each have an inverse.
fn scatter(entry: u64) -> u64 {
    let mixed = (entry ^ entry >> 7).wrapping_mul(0x9e37_79b1) % ENTRIES;
    let mixed = (mixed ^ mixed >> 8).wrapping_mul(0x85eb_ca6b) % ENTRIES;
    mixed ^ mixed >> 9
}

/// Tables first, then data that are holes, of which an entry names the `lies`th under its table; where the tables begin.
fn make_image(image: &Path, lies: impl Fn(u64) -> u64) -> Result<u64> {
    BlockingImage::create(image, &CreateOptions::new(TABLES * TABLE_SPAN))?;
    let file = File::options().read(true).write(true).open(image)?;
    let mut l1_at = [0; 8];
    file.read_exact_at(&mut l1_at, L1_OFFSET_AT)?;
    let l1_at = u64::from_le_bytes(l1_at);
    let tables_at = l1_at + TABLE_BYTES;
    let data_at = tables_at + TABLES * TABLE_BYTES;
    file.set_len(data_at + TABLES * TABLE_SPAN)?;
    for table in 0..TABLES {
        let entry = |number: u64| data_at + (table * ENTRIES + lies(number)) * CLUSTER;
        let entries: Vec<u8> = (0..ENTRIES).flat_map(|number| entry(number).to_le_bytes()).collect();
        let at = tables_at + table * TABLE_BYTES;
        file.write_all_at(&entries, at)?;
        file.write_all_at(&at.to_le_bytes(), l1_at + table * 8)?;
    }
    Ok(tables_at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn scattered_entries_name_each_cluster_once_and_rise_evenly_nowhere() {
        let named: Vec<_> = (0..ENTRIES).map(scatter).collect();
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len() as u64, ENTRIES);
        assert!(named.iter().all(|cluster| *cluster < ENTRIES));
        let evenly = named.windows(3).filter(|three| three[0] + three[2] == 2 * three[1]);
        assert!(evenly.count() < 10);
    }
}
