//! `quod compare` beside `qemu-img compare`.

mod common;

use common::header::{CLUSTER, write_with_entries};
use common::{Room, same_output};

fn furnished() -> Room {
    let room = Room::new();
    let a = &["write 0 200k", "write -P 3 1M 64k", "write -z 2M 128k", "write 10M 1"];
    room.create_by_peer(&["-f", "qed", "a.qed", "64M"]);
    room.write_by_peer("a.qed", a);
    room.create_by_peer(&["-f", "qed", "-o", "cluster_size=4k,table_size=2", "same.qed", "64M"]);
    room.write_by_peer("same.qed", a);
    room.copy("a.qed", "other.qed");
    room.write_by_peer("other.qed", &["write -P 7 1100000 1"]);
    room.create_by_peer(&["-f", "qed", "empty.qed", "64M"]);
    room.create_by_peer(&["-f", "qed", "longer.qed", "80M"]);
    room.create_by_peer(&["-f", "qed", "longer-data.qed", "80M"]);
    room.write_by_peer("longer-data.qed", &["write -P 7 70000000 1"]);
    room.create_by_peer(&["-f", "qed", "longer-zeroes.qed", "80M"]);
    room.write_by_peer("longer-zeroes.qed", &["write -P 0 70000000 1"]);
    room.create_by_peer(&["-f", "qed", "-b", "a.qed", "-F", "qed", "over.qed"]);
    room.peer("qemu-img", &["convert", "-O", "raw", "a.qed", "a.raw"]).exits(0);
    room.write("odd.raw", &[0; 1000]);
    room.write("odd-data.raw", b"abc");
    room
}

const IMAGES: [&str; 11] = [
    "a.qed",
    "same.qed",
    "other.qed",
    "empty.qed",
    "longer.qed",
    "longer-data.qed",
    "longer-zeroes.qed",
    "over.qed",
    "a.raw",
    "odd.raw",
    "odd-data.raw",
];

#[test]
fn every_pair_is_judged_as_by_qemu_img() {
    let room = furnished();
    for first in IMAGES {
        for second in IMAGES {
            same_output(&room, &["compare", first, second]);
        }
    }
}

#[test]
fn strictness_is_that_of_qemu_img() {
    let room = furnished();
    room.copy("empty.qed", "marked.qed");
    room.write_by_peer("marked.qed", &["write -z 0 64k"]);
    for (first, second) in [
        ("a.qed", "other.qed"),
        ("a.qed", "over.qed"),
        ("a.qed", "a.raw"),
        ("a.raw", "a.qed"),
        ("empty.qed", "longer.qed"),
        ("longer.qed", "empty.qed"),
        ("empty.qed", "marked.qed"),
        ("a.raw", "a.raw"),
    ] {
        same_output(&room, &["compare", "-s", first, second]);
        same_output(&room, &["compare", "-q", "-s", first, second]);
    }
}

#[test]
fn a_strict_difference_is_told_where_it_is() {
    // The reference tells offset 0: the run there ends with the disk in one of the two.
    let room = furnished();
    room.copy("empty.qed", "marked.qed");
    room.write_by_peer("marked.qed", &["write -z 1M 64k"]);
    room.quod(&["compare", "-s", "empty.qed", "marked.qed"])
        .exits(1)
        .prints("Strict mode: Offset 1048576 block status mismatch!\n");
    room.peer("qemu-img", &["compare", "-s", "empty.qed", "marked.qed"]).exits(1);
}

#[test]
fn flags_formats_and_errors_are_those_of_qemu_img() {
    let room = furnished();
    for args in [
        &["-q", "a.qed", "other.qed"][..],
        &["-q", "a.qed", "same.qed"],
        &["-q", "empty.qed", "longer.qed"],
        &["-f", "raw", "a.qed", "a.qed"],
        &["-F", "raw", "a.qed", "a.qed"],
        &["-f", "qed", "a.raw", "a.qed"],
        &["-F", "qed", "a.raw", "a.qed"],
        &["-f", "foo", "a.qed", "a.qed"],
        &["missing", "a.qed"],
        &["a.qed", "missing"],
        &["-q", "missing", "a.qed"],
        &["a.qed"],
        &["-U", "a.qed", "a.raw"],
    ] {
        same_output(&room, &[&["compare"], args].concat());
    }
    let ran = room.quod(&["compare", "-p", "a.qed", "same.qed"]).exits(0);
    assert!(
        ran.out.starts_with("    (0.00/100%)\r")
            && ran.out.ends_with("    (100.00/100%)\rImages are identical.\n\n")
    );
}

#[test]
fn what_cannot_be_told_or_read_has_an_exit_code_of_its_own() {
    let room = furnished();
    write_with_entries(&room, "bad.qed", 64 << 20, &[9 * CLUSTER, 0x123456]);
    for args in [["bad.qed", "longer.qed"], ["longer.qed", "bad.qed"], ["bad.qed", "bad.qed"]] {
        let args = ["compare", args[0], args[1]];
        room.quod(&args)
            .exits(3)
            .tells("Sector allocation test failed for bad.qed")
            .tells("names file offset 0x123456");
        room.peer("qemu-img", &args).exits(3).tells("Sector allocation test failed for bad.qed");
    }
    // Sound by its header, but the cluster of its data is gone with the end of the file.
    write_with_entries(&room, "cut.qed", 1 << 20, &[15 * CLUSTER]);
    room.set_len("cut.qed", 15 * CLUSTER + 512);
    room.quod(&["compare", "cut.qed", "empty.qed"]).exits(3);
}

#[test]
fn random_differences_are_found_in_the_sector_where_qemu_img_finds_them() {
    let room = Room::new();
    room.create_by_peer(&["-f", "qed", "base.qed", "8M"]);
    room.write_by_peer("base.qed", &["write -P 1 1M 2M", "write -z 4M 1M"]);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..24 {
        room.copy("base.qed", "other.qed");
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let (at, len) = (seed % (7 << 20), 1 + seed % 5000);
        room.write_by_peer("other.qed", &[&format!("write -P 9 {at} {len}")]);
        same_output(&room, &["compare", "base.qed", "other.qed"]);
        same_output(&room, &["compare", "other.qed", "base.qed"]);
    }
}
