//! `quod check` beside `qemu-img check`.

mod common;

use common::header::{CLUSTER, Header, NEED_CHECK, write_with_entries};
use common::{Room, same_as_qemu_img};
use serde_json::Value;

/// What both tools tell: not the end of the image and the findings, which are ours alone.
fn told(text: &str) -> String {
    if let Ok(Value::Object(mut members)) = serde_json::from_str::<Value>(text) {
        members.retain(|name, _| name != "image-end-offset" && name != "findings");
        return Value::Object(members).to_string();
    }
    text.lines()
        .filter(|line| !line.starts_with("Image end offset: "))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Checks by both tools: the same sentences, the same exit code.
#[track_caller]
fn agree(prepare: impl Fn(&Room), args: &[&str]) -> i32 {
    let (theirs, ours) = (Room::new(), Room::new());
    prepare(&theirs);
    prepare(&ours);
    let expected = theirs.peer("qemu-img", args);
    let ran = ours.quod(args);
    assert_eq!(told(&expected.out), told(&ran.out), "{args:?}\n{ran:?}");
    assert_eq!(expected.code, ran.code, "{args:?}");
    ran.code.expect("it was not killed")
}

fn written(room: &Room) {
    room.create_by_peer(&["-f", "qed", "a.qed", "64M"]);
    room.write_by_peer("a.qed", &["write 0 200k", "write -P 3 1M 64k", "write -z 2M 128k", "write 10M 1"]);
}

#[test]
fn sound_and_leaking_images_are_told_as_by_qemu_img() {
    for form in ["--output=human", "--output=json"] {
        assert_eq!(agree(written, &["check", form, "a.qed"]), 0);
        assert_eq!(agree(written, &["check", form, "-r", "all", "a.qed"]), 0);
        assert_eq!(
            agree(|room| room.create_by_peer(&["-f", "qed", "a.qed", "64M"]), &["check", form, "a.qed"]),
            0
        );
        let leaking = |room: &Room| {
            written(room);
            room.set_len("a.qed", room.read("a.qed").len() as u64 + 3 * CLUSTER);
        };
        assert_eq!(agree(leaking, &["check", form, "a.qed"]), 3);
        assert_eq!(agree(leaking, &["check", "-q", form, "a.qed"]), 3);
    }
}

/// A bad cluster counts once, however it is bad. The first two entries are sound.
fn bad_entries() -> Vec<(&'static str, u64)> {
    vec![
        ("unaligned", 10 * CLUSTER + 512),
        ("just off alignment", 10 * CLUSTER + 1),
        ("inside the header", 4096),
        ("the marker and more", 3),
        ("past the end", 16 * CLUSTER),
        ("far past the end", 1 << 40),
        ("at the top of 64 bits", !(CLUSTER - 1)),
        ("twice", 9 * CLUSTER),
        ("the L1 table", CLUSTER),
        ("its own L2 table", 5 * CLUSTER),
    ]
}

#[test]
fn every_kind_of_bad_l2_entry_is_corruption() {
    for (kind, entry) in bad_entries() {
        let prepare = |room: &Room| write_with_entries(room, "a.qed", 1 << 20, &[9 * CLUSTER, 1, entry]);
        let room = Room::new();
        prepare(&room);
        let ran = room.quod(&["check", "a.qed"]).exits(2).prints("1 errors were found on the image.");
        assert!(ran.err.starts_with("ERROR: "), "{kind}: {ran:?}");
        assert_eq!(room.peer("qemu-img", &["check", "a.qed"]).code, Some(2), "{kind}");
    }
}

#[test]
fn every_kind_of_bad_l1_entry_is_corruption() {
    let whole = 16 * CLUSTER;
    for entry in [1, 512, CLUSTER + 1, 4096, CLUSTER, 2 * CLUSTER, whole, whole - CLUSTER, 1 << 50, !4095] {
        let room = Room::new();
        Header { image_size: 8 << 30, file_length: whole, ..Header::sound() }.write(&room, "a.qed");
        room.patch("a.qed", CLUSTER + 8, &entry.to_le_bytes());
        room.quod(&["check", "a.qed"]).exits(2).prints("errors were found on the image.");
        room.quod(&["check", "--output=json", "a.qed"]).exits(2).prints("\"corruptions\": ");
    }
}

#[test]
fn repair_clears_what_points_nowhere_and_leaves_what_is_referenced_twice() {
    let prepare = |room: &Room| {
        written(room);
        let room_for = 0x90000 + 8 * 30;
        room.patch("a.qed", room_for, &0x123456_u64.to_le_bytes());
        room.patch("a.qed", room_for + 8, &0x7fff0000_u64.to_le_bytes());
    };
    let twice = |room: &Room| {
        prepare(room);
        let data: [u8; 8] = room.read("a.qed")[0x90000..0x90008].try_into().unwrap();
        room.patch("a.qed", 0x90000 + 8 * 39, &data);
    };
    for form in ["--output=human", "--output=json"] {
        assert_eq!(agree(prepare, &["check", form, "-r", "all", "a.qed"]), 0);
        assert_eq!(agree(twice, &["check", form, "-r", "all", "a.qed"]), 2);
    }
    let room = Room::new();
    prepare(&room);
    room.quod(&["check", "-r", "all", "a.qed"]).exits(0).prints("    0 leaked clusters\n    2 corruptions\n");
    room.peer("qemu-img", &["check", "a.qed"]).exits(0);
}

#[test]
fn repair_gives_back_what_is_unused_at_the_end() {
    let room = Room::new();
    written(&room);
    let length = room.read("a.qed").len() as u64;
    room.set_len("a.qed", length + 5 * CLUSTER + 100);
    room.quod(&["check", "a.qed"]).exits(3);
    room.quod(&["check", "-r", "leaks", "a.qed"])
        .exits(0)
        .prints("    5 leaked clusters\n    0 corruptions\n");
    assert_eq!(room.read("a.qed").len() as u64, length);
    room.peer("qemu-img", &["check", "a.qed"]).exits(0);
}

#[test]
fn a_check_leaves_the_dirty_bit_and_a_repair_clears_it() {
    let room = Room::new();
    Header { features: NEED_CHECK, ..Header::sound() }.write(&room, "a.qed");
    let before = room.read("a.qed");
    room.quod(&["check", "a.qed"]).exits(0);
    assert!(before == room.read("a.qed"));
    room.quod(&["check", "-r", "all", "a.qed"]).exits(0);
    assert_eq!(room.read("a.qed")[16], 0);
}

#[test]
fn there_are_no_leaks_where_the_reference_counts_false_ones() {
    let room = Room::new();
    room.quod(&["create", "-q", "-o", "cluster_size=4k", "a.qed", "64M"]).exits(0);
    room.quod(&["io", "-c", "write 0 64M", "a.qed"]).exits(0);
    room.quod(&["check", "a.qed"]).exits(0).prints("16384/16384 = 100.00% allocated");
    room.peer("qemu-img", &["check", "a.qed"]).exits(3).prints("4 leaked clusters");
}

#[test]
fn what_cannot_be_checked_has_an_exit_code_of_its_own() {
    let raw = |room: &Room| room.create_by_peer(&["-f", "raw", "a.raw", "1M"]);
    for args in [
        &["a.raw"][..],
        &["-f", "raw", "a.raw"],
        &["-f", "raw", "missing"],
        &["-f", "raw", "/"],
        &["--output=json", "a.raw"],
        &["-f", "qed", "a.raw"],
        &["missing"],
        &["-r", "foo", "a.raw"],
        &[],
        &["a.raw", "b.raw"],
        &["--output=xml", "a.raw"],
    ] {
        same_as_qemu_img(raw, &[&["check"], args].concat());
    }
    let room = Room::new();
    written(&room);
    room.quod(&["check", "-U", "-r", "all", "a.qed"])
        .exits(1)
        .tells("force-share=on can only be used with read-only");
    raw(&room);
    room.quod(&["check", "a.raw"]).exits(63).tells("This image format does not support checks");
}

#[test]
fn no_backing_file_is_opened() {
    let room = Room::new();
    Header::over(b"missing.qed", false).write(&room, "a.qed");
    room.quod(&["check", "a.qed"]).exits(0).prints("No errors were found on the image.");
}
