//! `quod bench` beside `qemu-img bench`; and what its figures say of writes and flushes.

mod common;

use std::process::Stdio;

use common::{Killed, Room, same_output, wait_until};
use serde_json::Value;

const QUOD: &str = env!("CARGO_BIN_EXE_quod");

/// An overlay over a full base of 64 MiB.
fn overlay() -> Room {
    let room = Room::new();
    let base: Vec<u8> = (0..64 << 20).map(|i: u32| (i % 251) as u8 + 1).collect();
    room.write("base.raw", &base);
    room.create_by_peer(&["-f", "qed", "-b", "base.raw", "-F", "raw", "disk.qed"]);
    room
}

fn empty() -> Room {
    let room = Room::new();
    room.create_by_peer(&["-f", "qed", "disk.qed", "1G"]);
    room
}

/// The figures of a run, as JSON.
#[track_caller]
fn figures(room: &Room, args: &[&str]) -> Value {
    let all = [&["bench", "-f", "qed", "--output", "json"], args, &["disk.qed"]].concat();
    let ran = room.quod(&all).exits(0);
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.out))
}

fn number(figures: &Value, path: &str) -> f64 {
    figures.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {figures:#}"))
}

#[test]
fn it_says_what_qemu_img_says() {
    let room = empty();
    let without_time = |text: &str| {
        let line = |line: &str| match line.strip_prefix("Run completed in ") {
            Some(rest) if rest.ends_with(" seconds.") => "Run completed in T seconds.".to_owned(),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>()
    };
    for args in [
        vec!["-c", "100"],
        vec!["-c", "100", "-q", "-w", "-d", "4"],
        vec!["-c", "0x10", "-w", "-s", "1.5k", "-o", "3", "-S", "77", "--pattern", "9"],
        vec!["-c", "100", "-w", "-d", "4", "--flush-interval", "10"],
        vec!["-c", "100", "-w", "-d", "4", "--flush-interval", "10", "--no-drain"],
        vec!["-c", "3", "-S", "0", "-t", "writethrough"],
        vec!["-c", "3", "-w", "--flush-interval", "0"],
    ] {
        let all = [vec!["bench", "-f", "qed"], args, vec!["disk.qed"]].concat();
        let (ours, theirs) = (room.quod(&all).exits(0), room.peer("qemu-img", &all).exits(0));
        assert_eq!(without_time(&ours.out), without_time(&theirs.out), "{all:?}");
    }
}

#[test]
fn it_refuses_what_qemu_img_refuses() {
    let room = empty();
    for args in [
        vec!["-c", "0"],
        vec!["--count=-1"],
        vec!["-c", "1k"],
        vec!["-c", "99999999999"],
        vec!["-d", "0"],
        vec!["-d", "foo"],
        vec!["-s", "1x"],
        vec!["-S", "4G"],
        vec!["--step-size=-1"],
        vec!["-o", "foo"],
        vec!["-s", "0"],
        vec!["-s", "2G"],
        vec!["-c", "10", "-o", "1G"],
        vec!["-c", "1", "-d", "1", "-s", "1G", "-o", "512"],
        vec!["--flush-interval", "3"],
        vec!["-w", "-d", "20", "--flush-interval", "10"],
        vec!["-w", "--flush-interval=-1"],
        vec!["-w", "--pattern", "300"],
        vec!["-w", "--pattern", "foo"],
    ] {
        let ran = same_output(&room, &[vec!["bench", "-f", "qed"], args, vec!["disk.qed"]].concat());
        assert_eq!(ran.code, Some(1));
    }
}

#[test]
fn what_it_writes_is_there_and_the_image_is_clean() {
    let room = overlay();
    room.quod(&["bench", "-f", "qed", "-w", "-c", "200", "-S", "64k", "--pattern", "0x5a", "disk.qed"])
        .exits(0);
    room.peer("qemu-img", &["check", "-f", "qed", "disk.qed"]).exits(0);
    let mut wanted = room.read("base.raw");
    for cluster in wanted.chunks_mut(64 << 10).take(200) {
        cluster[..4096].fill(0x5a);
    }
    assert!(room.read_by_peer("disk.qed") == wanted);
}

#[test]
fn whole_clusters_cost_hardly_more_than_their_bytes() {
    let sequential = ["-w", "-c", "2000", "-s", "64k", "-d", "1"];
    let mut random = sequential.to_vec();
    random.extend(["--random", "7"]);
    for args in [&sequential[..], &random] {
        let found = figures(&empty(), args);
        let amplification = number(&found, "/written-bytes-per-guest-byte");
        assert!((1.0..=1.05).contains(&amplification), "{found:#}");
    }
    let found = figures(&overlay(), &["-w", "-c", "1000", "-s", "64k", "-d", "1"]);
    assert!((1.0..=1.05).contains(&number(&found, "/written-bytes-per-guest-byte")), "{found:#}");
    assert_eq!(number(&found, "/backing/reads"), 0.0, "what is covered whole is not read below: {found:#}");
}

#[test]
fn small_first_writes_over_nothing_cost_no_more_than_twice_their_bytes() {
    let found = figures(&empty(), &["-w", "-c", "2000", "-S", "64k"]);
    assert!((1.0..=2.0).contains(&number(&found, "/written-bytes-per-guest-byte")), "{found:#}");
    let room = Room::new();
    room.set_len("base.raw", 1 << 30);
    room.create_by_peer(&["-f", "qed", "-b", "base.raw", "-F", "raw", "disk.qed"]);
    let found = figures(&room, &["-w", "-c", "2000", "-S", "64k", "--random", "1"]);
    assert!((1.0..=2.0).contains(&number(&found, "/written-bytes-per-guest-byte")), "{found:#}");
}

#[test]
fn first_writes_over_a_base_share_their_flushes() {
    let room = overlay();
    let log = room.path("calls");
    let log = log.to_str().expect("a temporary name is text");
    let bench =
        [QUOD, "bench", "-f", "qed", "-w", "-c", "1000", "--random", "1", "-i", "threads", "disk.qed"];
    let strace = ["-f", "-o", log, "-e", "trace=fsync,fdatasync,sync_file_range,openat"];
    room.peer("strace", &[&strace[..], &bench].concat()).exits(0);
    let calls = String::from_utf8(room.read("calls")).expect("strace writes text");
    let flushes = calls.lines().filter(|line| line.contains("fsync(") || line.contains("fdatasync(")).count();
    assert!((1..=5).contains(&flushes), "{flushes} of them, the close included:\n{calls}");
    assert!(!calls.contains("SYNC"), "no file is opened with O_SYNC or O_DSYNC:\n{calls}");
}

#[test]
fn a_guest_s_flush_costs_two_flushes_and_none_where_nothing_is_pending() {
    let args = ["-w", "-c", "64", "-d", "8", "-S", "64k", "--flush-interval", "8"];
    let grouped = number(&figures(&overlay(), &args), "/file/flushes");
    assert!((16.0..=18.0).contains(&grouped), "eight flushes: {grouped}");
    let through = [&args[..], &["--commit", "through", "-i", "threads", "--threads", "1"]].concat();
    assert!(number(&figures(&overlay(), &through), "/file/flushes") >= 64.0, "one for each first write");
}

#[test]
fn figures_are_complete_and_plausible() {
    let found = figures(
        &overlay(),
        &["-w", "-c", "100", "-s", "8k", "-S", "64k", "-d", "4", "--flush-interval", "10"],
    );
    assert_eq!((number(&found, "/operations"), number(&found, "/bytes")), (100.0, 819_200.0));
    let [p50, p99, p999, max] =
        ["p50", "p99", "p99.9", "max"].map(|name| number(&found, &format!("/latency-us/{name}")));
    assert!(0.0 < p50 && p50 <= p99 && p99 <= p999 && p999 <= max * 1.01, "{found:#}");
    assert!(max / 1e6 <= number(&found, "/seconds"), "{found:#}");
    assert!(
        number(&found, "/flush-latency-us/p50") > 0.0 && number(&found, "/cache/hits") > 0.0,
        "{found:#}"
    );
    assert!(
        number(&found, "/file/written-bytes") >= 100.0 * 65536.0,
        "whole clusters are copied up: {found:#}"
    );
}

#[test]
fn what_it_cannot_measure_it_refuses() {
    let room = empty();
    room.quod(&["bench", "-t", "unsafe", "disk.qed"]).exits(1).tells("every flush is carried out here");
    room.quod(&["bench", "-i", "native", "disk.qed"])
        .exits(1)
        .tells("[possible values: auto, threads, io_uring]");
    room.quod(&["bench", "-d", "5000", "disk.qed"]).exits(1).tells("Must be between 1 and 4096");
    room.quod(&["bench", "nbd://localhost/x"]).exits(1).tells("it must be a local file");
    room.quod(&["bench", "-w", "-U", "disk.qed"]).exits(1).tells("cannot be used with");
    room.quod(&["bench", "missing.qed"]).exits(1).tells("Could not open 'missing.qed'");
}

/// Whichever way requests go, what they write is what the peer reads, and what they read fails where the image ends.
#[test]
fn every_way_to_the_kernel_does_the_same() {
    for aio in ["auto", "threads", "io_uring"] {
        for cache in ["writeback", "writethrough", "none", "directsync"] {
            // On a disk: O_DIRECT in memory proves little.
            let room = overlay();
            let how = ["-f", "qed", "-i", aio, "-t", cache, "-d", "8", "--threads", "2"];
            let writes = ["bench", "-w", "-c", "200", "-s", "9k", "-S", "200k", "--pattern", "7"];
            room.quod(&[&writes[..], &how, &["disk.qed"]].concat()).exits(0);
            room.quod(&[&["bench", "-c", "999", "-S", "61k"], &how[..], &["disk.qed"]].concat()).exits(0);
            let read = |at: u64| format!("read -P 7 {} 9k", at * (200 << 10));
            let reads = (0..200).map(read).flat_map(|command| ["-c".to_owned(), command]);
            let reads: Vec<String> = reads.collect();
            let reads: Vec<&str> =
                ["-f", "qed"].into_iter().chain(reads.iter().map(String::as_str)).collect();
            let seen = room.peer("qemu-io", &[&reads[..], &["disk.qed"]].concat()).exits(0);
            assert!(!seen.out.contains("failed"), "{aio} {cache}: {}", seen.out);
            room.peer("qemu-img", &["check", "-f", "qed", "disk.qed"]).exits(0);
        }
    }
}

/// Ctrl-C ends it in order: what was written is there, and nothing is left to repair.
#[test]
fn an_interrupt_closes_the_image() {
    let room = empty();
    let mut command = room.command(QUOD);
    command.args(["bench", "-f", "qed", "-w", "-c", "2000000000", "-S", "64k", "disk.qed"]);
    let bench = Killed::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let length = || std::fs::metadata(room.path("disk.qed")).map_or(0, |file| file.len());
    wait_until("something is written", || length() > 4 << 20);
    bench.signal("-INT");
    let ran = bench.wait();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("interrupted"), "{ran:?}");
    room.peer("qemu-img", &["check", "-f", "qed", "disk.qed"]).exits(0);
}
