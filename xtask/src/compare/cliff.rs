//! The cliff: what happens to random reads when the working set has more tables than the cache keeps.
//!
//! Role: a QED image of 4,000 fully allocated L2 tables, made for the purpose with its data sparse; 4 KiB reads uniformly over
//! the first so many tables, by fio through one NBD connection at depth 16, and by `quod bench` without one. Beside it a
//! qcow2 image of the same size, with preallocated metadata.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use quod::{BlockingImage, CreateOptions};

use super::page::{Page, Table, rate, ratio};
use super::plot::{Curve, Plot, What};
use super::server::Server;
use super::{Bench, fio_rate, in_turns, output, seconds};

const TABLES: u64 = 4000;
/// Guest bytes under one table of the default geometry.
const TABLE_SPAN: u64 = 2 << 30;
const CLUSTER: u64 = 64 << 10;
const TABLE_BYTES: u64 = 4 * CLUSTER;
const ENTRIES: u64 = TABLE_BYTES / 8;
const SLICE_BYTES: u64 = 4096;
/// 3,200 slices of 4 KiB: what the reference's 50 tables take.
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
    let (qed, qcow2) = (directory.path().join("cliff.qed"), directory.path().join("cliff.qcow2"));
    let tables_at = make_image(&qed).context("the QED image")?;
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata"]);
    output(create.arg(&qcow2).arg((TABLES * TABLE_SPAN).to_string()))?;
    let socket = |name: &str| directory.path().join(name);
    let servers = [
        Server::quod(&bench.quod, &qed, socket("quod.sock"), &["--read-only", "--cache-size", CACHE_BYTES])?,
        Server::qemu_storage(&qed, "qed", socket("qed.sock"))?,
        Server::qemu_storage(&qcow2, "qcow2", socket("qcow2.sock"))?,
    ];
    let mut nbd =
        Table::new("Through NBD", &["tables", "quod serve", "qemu, QED", "qemu, qcow2", "quod / qemu, QED"]);
    let mut library =
        Table::new("`quod bench`, one thread", &["tables", "reads a second", "of the rate over 40"]);
    let mut curves: Vec<Vec<(f64, f64)>> = vec![Vec::new(); servers.len()];
    let mut alone = Vec::new();
    for tables in CURVE {
        let rates = in_turns(bench.pairs, &servers, |server| {
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
        let mut row = vec![tables.to_string()];
        row.extend(rates.iter().map(|one| rate(*one)));
        row.push(ratio(rates[0] / rates[1], target));
        nbd.rows.push(row);
        curves.iter_mut().zip(&rates).for_each(|(curve, rate)| curve.push((tables as f64, *rate)));
        let missed = Cell::new(0.0);
        let found = in_turns(bench.pairs, &[()], |()| library_reads(bench, &qed, tables, &missed))?;
        alone.push(Alone { tables, rate: found[0], missed: missed.get() });
    }
    let over = |tables| alone.iter().find(|one| one.tables == tables).context("one of the curve");
    let (few, many) = (over(FEW)?, over(MANY)?);
    let miss = miss(bench, &qed, tables_at, few, many)?;
    let few = few.rate;
    for Alone { tables, rate: found, .. } in alone {
        let target = match tables {
            50 => Some(0.9),
            MANY => Some(0.5),
            _ => None,
        };
        library.rows.push(vec![tables.to_string(), rate(found), ratio(found / few, target)]);
    }
    let names = ["quod serve", "qemu-storage-daemon, QED", "qemu-storage-daemon, qcow2"];
    let curves = names.into_iter().zip(curves).map(|(name, points)| Curve { name, points }).collect();
    Ok(Page {
        name: "cliff",
        title: "The cliff",
        how: format!(
            "Random reads of 4 KiB, uniformly over the first so many L2 tables of 2 GiB each, all clusters of which are \
             allocated, in memory and with sparse data. quod has a cache of {CACHE_BYTES} bytes: 3,200 slices of 4 KiB, which hold \
             50 tables. qemu-storage-daemon has its defaults. fio reads through one NBD connection at depth 16 for {SECONDS} \
             seconds; `quod bench --random` reads without a server, and begins with an empty cache."
        ),
        tables: vec![nbd, library, miss],
        plots: vec![Plot {
            name: "cliff",
            title: "Random reads of 4 KiB through NBD, by working set".into(),
            what: What::Curves { x: "L2 tables of 2 GiB in the working set", curves },
        }],
    })
}

/// Reads without a server.
struct Alone {
    tables: u64,
    rate: f64,
    /// Slices that were loaded for a read.
    missed: f64,
}

fn library_reads(bench: &Bench, image: &Path, tables: u64, missed: &Cell<f64>) -> Result<f64> {
    let mut command = Command::new(&bench.quod);
    command.args(["bench", "-f", "qed", "--output", "json", "--threads", "1", "--cache-size", CACHE_BYTES]);
    command.args(["-c", &READS.to_string(), "--random", "1", "--span", &(tables * TABLE_SPAN).to_string()]);
    let told: serde_json::Value = serde_json::from_str(&output(command.arg(image))?)?;
    let figure = |figure: &serde_json::Value| figure.as_f64().with_context(|| format!("no figure in {told}"));
    missed.set(figure(&told["cache"]["misses"])? / READS as f64);
    figure(&told["operations-per-second"])
}

/// What a miss costs more than a hit, beside a bare read of the slice.
fn miss(bench: &Bench, image: &Path, tables_at: u64, few: &Alone, many: &Alone) -> Result<Table> {
    let slice = SLICE_BYTES.to_string();
    let bare = in_turns(bench.pairs, &[()], |()| {
        let mut command = Command::new(&bench.bare);
        command.args(["reads", "--random", "--threads", "1", "--buffers", "1", "--size", &slice]);
        command.args(["--count", &READS.to_string(), "--offset", &tables_at.to_string()]);
        command.args(["--length", &(MANY * TABLE_BYTES).to_string()]);
        Ok(seconds(command.arg(image))? / READS as f64)
    })?;
    let missed = many.missed - few.missed;
    let more = (many.rate.recip() - few.rate.recip()) / missed;
    let nanoseconds = |seconds: f64| format!("{:.0}", seconds * 1e9);
    let above = more - bare[0];
    let met = if above <= MISS_TARGET { "met" } else { "**not met**" };
    let mut table = Table::new("What a miss costs, `quod bench`", &["what", "nanoseconds"]);
    table.rows = vec![
        vec![format!("a read over {FEW} tables"), nanoseconds(few.rate.recip())],
        vec![format!("a read over {MANY} tables"), nanoseconds(many.rate.recip())],
        vec![
            format!("{:.0} % of those miss; a miss costs more than a hit", missed * 100.0),
            nanoseconds(more),
        ],
        vec!["a bare read of a slice, at random".into(), nanoseconds(bare[0])],
        vec![
            "a miss above that".into(),
            format!("{} (target {} at most: {met})", nanoseconds(above), nanoseconds(MISS_TARGET)),
        ],
    ];
    Ok(table)
}

/// Tables first, then data that are holes; where the tables begin.
fn make_image(image: &Path) -> Result<u64> {
    BlockingImage::create(image, &CreateOptions::new(TABLES * TABLE_SPAN))?;
    let file = File::options().read(true).write(true).open(image)?;
    let mut l1_at = [0; 8];
    file.read_exact_at(&mut l1_at, L1_OFFSET_AT)?;
    let l1_at = u64::from_le_bytes(l1_at);
    let tables_at = l1_at + TABLE_BYTES;
    let data_at = tables_at + TABLES * TABLE_BYTES;
    file.set_len(data_at + TABLES * TABLE_SPAN)?;
    for table in 0..TABLES {
        let entry = |number: u64| data_at + (table * ENTRIES + number) * CLUSTER;
        let entries: Vec<u8> = (0..ENTRIES).flat_map(|number| entry(number).to_le_bytes()).collect();
        let at = tables_at + table * TABLE_BYTES;
        file.write_all_at(&entries, at)?;
        file.write_all_at(&at.to_le_bytes(), l1_at + table * 8)?;
    }
    Ok(tables_at)
}
