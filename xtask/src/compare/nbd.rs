//! An NBD server: `quod serve` beside qemu-nbd, by fio and nbdcopy.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use super::page::{Page, Table, rate, ratio};
use super::plot::{Curve, Plot, What};
use super::server::Server;
use super::turns::Turns;
use super::{Bench, fio_rate, make_full_image, output};

const SIZE: u64 = 1 << 30;
/// Seconds of a measurement by fio.
const SECONDS: u64 = 3;
const TARGET: f64 = 1.3;
const COPY_TARGET: f64 = 1.5;

/// A load by fio.
struct Load {
    kind: &'static str,
    depth: u64,
    connections: u64,
}

const LOADS: [Load; 7] = [
    Load { kind: "read", depth: 1, connections: 1 },
    Load { kind: "read", depth: 16, connections: 1 },
    Load { kind: "read", depth: 64, connections: 1 },
    Load { kind: "write", depth: 64, connections: 1 },
    Load { kind: "read", depth: 16, connections: 2 },
    Load { kind: "read", depth: 16, connections: 4 },
    Load { kind: "write", depth: 16, connections: 4 },
];

pub(super) fn run(bench: &Bench) -> Result<Page> {
    let directory = tempfile::Builder::new().prefix("nbd").tempdir_in(&bench.memory)?;
    let images = ["quod", "qemu"].map(|name| directory.path().join(format!("{name}.qed")));
    for image in &images {
        make_full_image(image, SIZE)?;
    }
    let servers = [
        Server::quod(&bench.quod, &images[0], directory.path().join("quod.sock"), &[])?,
        Server::qemu_nbd(&images[1], directory.path().join("qemu.sock"))?,
    ];
    let mut table = Table::new("fio, 4 KiB, random", &["load", "quod serve", "qemu-nbd", "quod / qemu-nbd"]);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for Load { kind, depth, connections } in LOADS {
        let turns = Turns::take(bench.pairs, &servers, |server| {
            let mut fio = Command::new("fio");
            fio.args(["--name=nbd", "--ioengine=nbd", "--bs=4k", "--time_based", "--group_reporting"]);
            fio.args([
                format!("--rw=rand{kind}"),
                format!("--iodepth={depth}"),
                format!("--numjobs={connections}"),
            ]);
            fio.args([
                format!("--runtime={SECONDS}"),
                format!("--size={SIZE}"),
                format!("--uri={}", server.uri()),
            ]);
            fio_rate(&mut fio, kind)
        })?;
        let target = (connections == 1).then_some(TARGET);
        let name = format!("rand{kind}, depth {depth}, {connections} connections");
        let rates = [0, 1].map(|place| turns.median(|turn| turn[place]));
        let beside = ratio(turns.median(|turn| turn[0] / turn[1]), target);
        table.rows.push(vec![name, rate(rates[0]), rate(rates[1]), beside]);
        if kind == "read" && connections == 1 {
            ours.push((depth as f64, rates[0]));
            theirs.push((depth as f64, rates[1]));
        }
    }
    let copied = Turns::take(bench.pairs, &servers, |server| {
        let began = Instant::now();
        output(Command::new("nbdcopy").args([&server.uri(), "null:"]))?;
        Ok(1.0 / began.elapsed().as_secs_f64())
    })?;
    let mut copies = Table::new("nbdcopy to null:", &["", "quod serve", "qemu-nbd", "quod / qemu-nbd"]);
    let gib = |rate: f64| format!("{rate:.2} GiB/s");
    copies.rows.push(vec![
        "1 GiB".into(),
        gib(copied.median(|turn| turn[0])),
        gib(copied.median(|turn| turn[1])),
        ratio(copied.median(|turn| turn[0] / turn[1]), Some(COPY_TARGET)),
    ]);
    let curves = vec![Curve { name: "quod serve", points: ours }, Curve { name: "qemu-nbd", points: theirs }];
    Ok(Page {
        name: "nbd",
        title: "NBD",
        how: format!(
            "`quod serve FILE` and `qemu-nbd -t -e 8 -f qed FILE`, each with its defaults and a fully allocated image of 1 GiB in \
             memory of its own, on a Unix socket. fio runs for {SECONDS} seconds; nbdcopy opens four connections. Client and \
             server share the processors."
        ),
        tables: vec![table, copies],
        plots: vec![Plot {
            name: "nbd-depth",
            title: "Random reads of 4 KiB by one NBD connection".into(),
            what: What::Curves { x: "requests in flight", curves },
        }],
    })
}
