//! `quod serve` used by clients that nobody here wrote: libnbd's tools, fio, QEMU's tools.

mod common;

use common::Room;
use common::serving::Serving;

const SIZE: usize = 24 << 20;

/// Bytes that tell where they belong, with holes.
fn pattern(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
        if (at >> 14) % 3 != 1 {
            word.copy_from_slice(&(at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        }
    }
    bytes
}

/// Stops the server in order; its image is then sound, clean, and holds these bytes, by its own tools and QEMU's.
#[track_caller]
fn stop_and_compare(room: &Room, serving: Serving, image: &str, raw: &str) {
    serving.stop("-TERM").exits(0);
    room.quod(&["check", image]).exits(0);
    room.peer("qemu-img", &["check", image]).exits(0);
    let compare = ["compare", "-f", "qed", "-F", "raw", image, raw];
    room.quod(&compare).exits(0).prints("Images are identical.");
    room.peer("qemu-img", &compare).exits(0).prints("Images are identical.");
}

#[test]
fn nbdinfo_tells_what_is_served() {
    let room = Room::new();
    let serving = Serving::start(&room, &["--create", "24M", "a.qed"]);
    let uri = serving.uri();
    room.peer("nbdinfo", &["--size", uri]).exits(0).prints(&SIZE.to_string());
    for can in ["flush", "fua", "trim", "zero", "multi-conn"] {
        room.peer("nbdinfo", &["--can", can, uri]).exits(0);
    }
    room.peer("nbdinfo", &["--is", "read-only", uri]).exits(2);
    let told = room.peer("nbdinfo", &["--json", "--list", uri]).exits(0);
    let told: serde_json::Value = serde_json::from_str(&told.out).expect("it prints JSON");
    assert_eq!(told["exports"][0]["export-size"], SIZE);
    assert_eq!(told["exports"][0]["is_read_only"], false);
    serving.stop("-INT").exits(0);
}

#[test]
fn nbdcopy_brings_a_disk_in_and_out() {
    for connections in ["1", "4"] {
        let room = Room::new();
        room.write("source.raw", &pattern(SIZE));
        let serving = Serving::start(&room, &["--create", "24M", "a.qed"]);
        let many = format!("--connections={connections}");
        room.peer("nbdcopy", &[&many, "--flush", "source.raw", serving.uri()]).exits(0);
        room.peer("nbdcopy", &[&many, serving.uri(), "copy.raw"]).exits(0);
        assert!(room.read("copy.raw") == room.read("source.raw"), "{connections} connections");
        stop_and_compare(&room, serving, "a.qed", "source.raw");
    }
}

#[test]
fn fio_finds_what_it_has_written() {
    let room = Room::new();
    let serving = Serving::start(&room, &["--create", "24M", "a.qed"]);
    let uri = format!("--uri={}", serving.uri());
    let job = ["--name=verify", "--ioengine=nbd", "--rw=randwrite", "--bs=4k", "--iodepth=64", "--size=24M"];
    let verify = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0"];
    room.peer("fio", &[&job[..], &verify, &[&uri]].concat()).exits(0);
    room.peer("nbdcopy", &[serving.uri(), "copy.raw"]).exits(0);
    stop_and_compare(&room, serving, "a.qed", "copy.raw");
}

#[test]
fn qemu_io_reads_what_it_has_written() {
    let room = Room::new();
    let serving = Serving::start(&room, &["--create", "24M", "a.qed"]);
    let commands = [
        "write -P 1 0 1M",
        "write -f -P 2 70k 3k",
        "write -z 128k 200k",
        "discard 512k 64k",
        "flush",
        "read -P 1 0 70k",
        "read -P 2 70k 3k",
        "read -P 0 128k 200k",
        "read -P 0 512k 64k",
        "read -P 0 1M 23M",
    ];
    let mut args = vec!["-f", "raw", serving.uri()];
    commands.iter().for_each(|command| args.extend(["-c", command]));
    let ran = room.peer("qemu-io", &args).exits(0);
    assert!(!ran.out.contains("failed"), "{ran:?}");
    room.peer("qemu-img", &["convert", "-f", "raw", "-O", "raw", serving.uri(), "copy.raw"]).exits(0);
    stop_and_compare(&room, serving, "a.qed", "copy.raw");
}

#[test]
fn qemu_img_converts_into_it_and_out_of_it() {
    let room = Room::new();
    room.write("source.raw", &pattern(SIZE));
    let serving = Serving::start(&room, &["--create", "24M", "a.qed"]);
    let uri = serving.uri();
    room.peer("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", "source.raw", uri]).exits(0);
    room.peer("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", uri, "copy.qcow2"]).exits(0);
    room.peer("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", "source.raw", "copy.qcow2"]).exits(0);
    room.peer("qemu-img", &["compare", "-f", "raw", "-F", "raw", "source.raw", uri]).exits(0);
    stop_and_compare(&room, serving, "a.qed", "source.raw");
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let room = Room::new();
    for round in 1..6 {
        let serving = Serving::start(&room, &["--create", "24M", "a.qed"]);
        let written: Vec<String> =
            (0..round * 7).map(|i| format!("write -P {} {}k 5k", i + 1, i * 300)).collect();
        let mut args = vec!["-f", "raw", serving.uri()];
        written.iter().for_each(|command| args.extend(["-c", command]));
        room.peer("qemu-io", &args).exits(0);
        serving.stop("-KILL");
        let serving = Serving::start(&room, &["a.qed"]);
        let reads: Vec<String> =
            (0..round * 7).map(|i| format!("read -P {} {}k 5k", i + 1, i * 300)).collect();
        let mut args = vec!["-f", "raw", serving.uri()];
        reads.iter().for_each(|command| args.extend(["-c", command]));
        let ran = room.peer("qemu-io", &args).exits(0);
        assert!(!ran.out.contains("failed"), "{ran:?}");
        serving.stop("-TERM").exits(0);
        room.quod(&["check", "a.qed"]).exits(0);
    }
}

/// Writes by one connection, flushes by another, and kills the server.
const TWO_CONNECTIONS: &str = "
import os
a, b = nbd.NBD(), nbd.NBD()
a.connect_uri(uri)
b.connect_uri(uri)
for i in range(64):
    a.pwrite(bytes([i + 1]) * 5000, i * 300000)
b.flush()
os.kill(server, 9)
";

#[test]
fn a_flush_of_one_connection_covers_what_another_has_written() {
    let room = Room::new();
    for _ in 0..3 {
        let serving = Serving::start(&room, &["--create", "24M", "a.qed"]);
        let (uri, server) =
            (format!("uri = '{}'", serving.uri()), format!("server = {}", serving.server.0.id()));
        let mut nbdsh = room.command("nbdsh");
        // It takes the first python3 that it finds, and its module is there for the system's.
        nbdsh.env("PATH", format!("/usr/bin:{}", std::env::var("PATH").unwrap_or_default()));
        let ran = nbdsh.args(["-n", "-c", &uri, "-c", &server, "-c", TWO_CONNECTIONS]).output();
        let ran = ran.expect("nbdsh is needed here (cargo xtask test gets it)");
        assert!(ran.status.success(), "{ran:?}");
        serving.stop("-KILL");
        let reads: Vec<_> = (0..64).map(|i| format!("read -P {} {} 5000", i + 1, i * 300_000)).collect();
        let args: Vec<_> = reads.iter().flat_map(|read| ["-c", read]).collect();
        let ran = room.quod(&[&["io", "-f", "qed"], &args[..], &["a.qed"]].concat()).exits(0);
        assert!(!ran.out.contains("failed"), "{ran:?}");
        room.quod(&["check", "a.qed"]).exits(0);
        std::fs::remove_file(room.path("a.qed")).expect("it is there");
    }
}

#[test]
fn one_block_of_the_largest_default_disk_costs_little_memory() {
    let room = Room::new();
    room.quod(&["create", "-q", "-f", "qed", "huge.qed", "64T"]).exits(0);
    let serving = Serving::start(&room, &["huge.qed"]);
    room.peer("qemu-io", &["-f", "raw", "-c", "read -P 0 40T 4k", serving.uri()]).exits(0);
    let kib = serving.status("VmHWM:");
    assert!(kib < 32 << 10, "{kib} KiB");
    serving.stop("-TERM").exits(0);
}
