//! `quod info` beside `qemu-img info`.

mod common;

use common::header::{Header, NEED_CHECK};
use common::{Holder, Room, make_pipe, same_output};

fn furnished() -> Room {
    let room = Room::new();
    std::fs::create_dir(room.path("sub")).expect("a directory");
    room.create_by_peer(&["-f", "raw", "base.raw", "3000"]);
    room.write_by_peer("base.raw", &["write 0 1k"]);
    room.create_by_peer(&["-f", "qed", "-b", "base.raw", "-F", "raw", "mid.qed", "700M"]);
    room.create_by_peer(&[
        "-f",
        "qed",
        "-o",
        "cluster_size=4k,table_size=16",
        "-b",
        "../mid.qed",
        "-F",
        "qed",
        "sub/top.qed",
    ]);
    room.write_by_peer("sub/top.qed", &["write 1M 64k"]);
    room.write("odd.raw", b"abc");
    room.write("empty.raw", b"");
    room
}

#[test]
fn both_forms_are_byte_for_byte_those_of_qemu_img() {
    let room = furnished();
    for name in ["base.raw", "mid.qed", "sub/top.qed", "odd.raw", "empty.raw"] {
        for form in ["human", "json"] {
            let output = format!("--output={form}");
            same_output(&room, &["info", &output, name]);
            same_output(&room, &["info", &output, "--backing-chain", name]);
            same_output(&room, &["info", &output, "-f", "raw", name]);
            same_output(&room, &["info", &output, "-U", name]);
        }
    }
}

#[test]
fn a_dirty_image_is_called_dirty() {
    let room = Room::new();
    Header { features: NEED_CHECK, ..Header::sound() }.write(&room, "dirty.qed");
    room.quod(&["info", "dirty.qed"]).exits(0).prints("cluster_size: 65536\ncleanly shut down: no\n");
    room.quod(&["info", "--output=json", "dirty.qed"]).exits(0).prints("\n    \"dirty-flag\": true\n");
    assert_eq!(room.read("dirty.qed")[16], NEED_CHECK as u8, "looking changes nothing");
}

#[test]
fn nothing_but_the_file_is_opened() {
    let room = Room::new();
    Header::over(b"pipe", true).write(&room, "top.qed");
    make_pipe(&room.path("pipe"));
    room.quod(&["info", "top.qed"]).exits(0).prints("backing file: pipe\nbacking file format: raw\n");
    Header::over(b"gone.qed", false).write(&room, "gone-below.qed");
    room.quod(&["info", "gone-below.qed"]).exits(0).prints("backing file: gone.qed\n");
    room.quod(&["info", "--backing-chain", "gone-below.qed"])
        .exits(1)
        .tells("Could not open 'gone.qed': No such file or directory");
    Header::over(b"nbd://host/name", false).write(&room, "remote.qed");
    room.quod(&["info", "--output=json", "remote.qed"])
        .exits(0)
        .prints("\"full-backing-filename\": \"nbd://host/name\"");
    room.quod(&["info", "--backing-chain", "remote.qed"]).exits(1).tells("not a local file");
}

#[test]
fn loops_end() {
    let room = Room::new();
    Header::over(b"self.qed", false).write(&room, "self.qed");
    let sentence = "Backing file 'self.qed' creates an infinite loop.";
    room.quod(&["info", "--backing-chain", "self.qed"]).exits(1).tells(sentence);
    room.peer("qemu-img", &["info", "--backing-chain", "self.qed"]).exits(1).tells(sentence);
    for (name, below) in [("a.qed", "b.qed"), ("b.qed", "c.qed"), ("c.qed", "./a.qed")] {
        Header::over(below.as_bytes(), false).write(&room, name);
    }
    room.quod(&["info", "--backing-chain", "a.qed"]).exits(1).tells("creates an infinite loop.");
    room.quod(&["map", "a.qed"]).exits(1).tells("creates an infinite loop.");
    room.quod(&["io", "-r", "-c", "length", "a.qed"]).exits(1).tells("creates an infinite loop.");
}

#[test]
fn an_image_in_use_needs_force_share() {
    let room = Room::new();
    room.quod(&["create", "-q", "a.qed", "1M"]).exits(0);
    let _holder = Holder::open(&room, "qemu-io", &["-f", "qed", "a.qed"]);
    let sentence = "Failed to get shared \"write\" lock\nIs another process using the image [a.qed]?";
    for verb in ["info", "map", "check"] {
        room.quod(&[verb, "a.qed"]).exits(1).tells(&format!("quod: Could not open 'a.qed': {sentence}"));
        room.quod(&[verb, "-U", "a.qed"]).exits(0);
    }
    room.quod(&["io", "-c", "length", "a.qed"]).exits(1).tells("Failed to get \"write\" lock");
    room.quod(&["compare", "a.qed", "a.qed"]).exits(2).tells(sentence);
}
