//! `quod create` beside `qemu-img create`.

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use common::{Holder, QUOD, Room, same_as_qemu_img, same_output};

fn with_bases(room: &Room) {
    room.create_by_peer(&["-f", "qed", "base.qed", "5M"]);
    room.create_by_peer(&["-f", "raw", "base.raw", "3M"]);
}

#[test]
fn lines_and_exit_codes_are_those_of_qemu_img() {
    let sizes = [
        "1000",
        "1k",
        "1.5M",
        "0",
        "abc",
        "10Z",
        "0x1000",
        "8E",
        "7E",
        "65T",
        "1b",
        "5kib",
        " 5k",
        "1e3",
        ".5M",
        "64T",
        "70368744177665",
    ];
    for size in sizes {
        same_as_qemu_img(|_| {}, &["create", "-f", "qed", "new.qed", size]);
    }
    let options = [
        "cluster_size=4k,table_size=1",
        "cluster_size=3k",
        "cluster_size=128M",
        "table_size=3",
        "table_size=32",
        "foo=3",
        "cluster_size=abc",
        "cluster_size",
        "size=3M",
        "table_size=4k",
        ",",
        "cluster_size=,table_size=2",
        "cluster_size=1.5k",
        "cluster_size=-1",
        "cluster_size=65536.0",
        "table_size=2,cluster_size=8k",
        "size=1M,backing_fmt=raw",
        "cluster_size=4k,cluster_size=8k",
    ];
    for list in options {
        same_as_qemu_img(|_| {}, &["create", "-f", "qed", "-o", list, "new.qed", "2M"]);
    }
    for args in [
        &["new.qed"][..],
        &["-o", "size=1M", "new.qed"],
        &["-q", "new.qed", "1M"],
        &["no/new.qed", "1M"],
        &[".", "1M"],
        &["a b'c,d.qed", "1M"],
        &["-o", "cluster_size=4k", "-o", "table_size=2", "new.qed", "1M"],
    ] {
        same_as_qemu_img(|_| {}, &[&["create", "-f", "qed"], args].concat());
    }
    for args in [
        &["-f", "raw", "new.raw", "1000"][..],
        &["-f", "foo", "new", "1M"],
        &["-f", "raw", "-o", "foo=1", "r", "1M"],
    ] {
        same_as_qemu_img(|_| {}, &[&["create"], args].concat());
    }
}

#[test]
fn overlays_are_made_and_refused_as_by_qemu_img() {
    let cases: [&[&str]; 14] = [
        &["-b", "base.qed", "-F", "qed", "new.qed"],
        &["-b", "base.raw", "-F", "raw", "new.qed"],
        &["-b", "base.qed", "-F", "qed", "new.qed", "100M"],
        &["-b", "base.qed", "new.qed"],
        &["-F", "qed", "new.qed", "1M"],
        &["-b", "missing.qed", "-F", "qed", "new.qed"],
        &["-b", "missing.qed", "-F", "qed", "new.qed", "10M"],
        &["-u", "-b", "missing.qed", "-F", "qed", "new.qed", "10M"],
        &["-u", "-b", "missing.qed", "-F", "qed", "new.qed"],
        &["-b", "base.qed", "-F", "foo", "new.qed"],
        &["-b", "base.raw", "-F", "qed", "new.qed"],
        &["-o", "backing_file=base.qed,backing_fmt=qed", "-b", "base.raw", "-F", "raw", "new.qed"],
        &["-b", "", "-F", "qed", "new.qed", "1M"],
        &["-b", "new.qed", "-F", "qed", "new.qed"],
    ];
    for args in cases {
        same_as_qemu_img(with_bases, &[&["create", "-f", "qed"], args].concat());
    }
}

#[test]
fn a_new_image_is_byte_for_byte_that_of_qemu_img() {
    let cases: [&[&str]; 6] = [
        &["new.qed", "10G"],
        &["-o", "cluster_size=4k,table_size=2", "new.qed", "3M"],
        &["-o", "cluster_size=1M,table_size=8", "new.qed", "1T"],
        &["-b", "base.qed", "-F", "qed", "new.qed"],
        &["-b", "base.raw", "-F", "raw", "new.qed"],
        &["-b", "base.raw", "-F", "raw", "new.qed", "1000"],
    ];
    for args in cases {
        let room = Room::new();
        with_bases(&room);
        room.create_by_peer(&[&["-f", "qed"], args].concat());
        let theirs = room.read("new.qed");
        std::fs::remove_file(room.path("new.qed")).unwrap();
        room.quod(&[&["create"], args].concat()).exits(0);
        assert!(theirs == room.read("new.qed"), "{args:?}");
    }
}

#[test]
fn geometries_that_the_reference_cannot_make_or_open_work() {
    let room = Room::new();
    for (cluster, table) in [("64M", "16"), ("2M", "16"), ("16M", "1"), ("4k", "1"), ("4k", "16")] {
        let options = format!("cluster_size={cluster},table_size={table}");
        room.quod(&["create", "-o", &options, "new.qed", "8M"]).exits(0);
        room.quod(&["io", "-c", "write -P 9 1M 64k", "-c", "read -P 9 1M 64k", "new.qed"]).exits(0);
        room.quod(&["check", "new.qed"]).exits(0);
    }
}

#[test]
fn a_refused_image_leaves_the_file_that_is_there() {
    let room = Room::new();
    with_bases(&room);
    room.create_by_peer(&["-f", "qed", "-b", "base.qed", "-F", "qed", "mid.qed"]);
    let before = room.read("base.qed");
    let over_itself = "Trying to create an image with the same filename as the backing file";
    room.quod(&["create", "-o", "cluster_size=3k", "base.qed", "1M"])
        .exits(1)
        .tells("QED cluster size is invalid");
    room.quod(&["create", "-b", "./base.qed", "-F", "qed", "base.qed"]).exits(1).tells(over_itself);
    room.quod(&["create", "-b", "mid.qed", "-F", "qed", "base.qed"]).exits(1).tells(over_itself);
    let holder = Holder::open(&room, QUOD, &["io", "base.qed"]);
    room.quod(&["create", "base.qed", "1M"])
        .exits(1)
        .tells("Failed to get \"write\" lock\nIs another process using the image [base.qed]?");
    drop(holder);
    assert!(before == room.read("base.qed"));
}

#[test]
fn a_backing_name_is_looked_up_beside_the_new_image() {
    let room = Room::new();
    with_bases(&room);
    std::fs::create_dir(room.path("sub")).unwrap();
    room.quod(&["create", "-b", "../base.qed", "-F", "qed", "sub/new.qed"])
        .exits(0)
        .prints("Formatting 'sub/new.qed', fmt=qed size=5242880 backing_file=../base.qed backing_fmt=qed");
    room.quod(&["create", "-b", "base.qed", "-F", "qed", "sub/other.qed"])
        .exits(1)
        .tells("Could not open 'sub/base.qed': No such file or directory\nCould not open backing image.");
    room.quod(&["create", "-u", "-b", "nbd://host/x", "-F", "raw", "new.qed", "1M"])
        .exits(1)
        .tells("not a local file");
    let long = "n".repeat(5000);
    room.quod(&["create", "-u", "-b", &long, "-F", "raw", "new.qed", "1M"])
        .exits(1)
        .tells("QED backing filename");
}

#[test]
fn a_name_need_not_be_utf_8() {
    let room = Room::new();
    let base = OsStr::from_bytes(b"base \xff.raw");
    std::fs::write(room.path(".").join(base), [9; 4096]).unwrap();
    for tool in ["qemu-img", QUOD] {
        let name = OsStr::from_bytes(b"over \xfe.qed");
        let mut create = room.command(tool);
        create.args(["create", "-q", "-f", "qed", "-F", "raw", "-b"]).args([base, name]);
        assert!(create.status().expect("it is there").success(), "{tool}");
        for reader in ["qemu-io", QUOD] {
            let mut read = room.command(reader);
            let verb = if reader == QUOD { &["io"][..] } else { &[] };
            read.args(verb).args(["-f", "qed", "-r", "-c", "read -P 9 0 4k"]).arg(name);
            assert!(read.status().expect("it is there").success(), "{tool} {reader}");
        }
    }
}

#[test]
fn of_a_flag_that_is_given_again_the_last_one_holds() {
    let room = Room::new();
    room.quod(&["create", "-q", "-q", "-f", "raw", "-f", "qed", "a.qed", "1M"]).exits(0);
    for args in [
        &["info", "--output=human", "--output=json", "--backing-chain", "--backing-chain", "a.qed"][..],
        &["map", "--output=human", "--output=json", "-s", "0", "-s", "64k", "-l", "1k", "-l", "64k", "a.qed"],
    ] {
        same_output(&room, args).prints("{");
    }
    room.quod(&["check", "--output=human", "--output=json", "-r", "leaks", "-r", "all", "a.qed"])
        .exits(0)
        .prints("{");
    room.quod(&["compare", "-s", "-s", "-q", "-q", "-f", "raw", "-f", "qed", "a.qed", "a.qed"]).exits(0);
    room.quod(&["io", "-r", "-r", "-c", "length", "-c", "read 0 1k", "a.qed"])
        .exits(0)
        .prints("read 1024/1024");
}

#[test]
fn a_failure_is_told_once() {
    let room = Room::new();
    for (args, whole) in [
        (
            &["create", "no/a.qed", "1M"][..],
            "quod: no/a.qed: Could not create 'no/a.qed': No such file or directory\n",
        ),
        (
            &["create", "-f", "raw", "no/a", "1M"],
            "quod: no/a: Could not create 'no/a': No such file or directory\n",
        ),
        (
            &["serve", "--create", "1M", "no/a.qed"],
            "quod: no/a.qed: Could not create 'no/a.qed': No such file or directory\n",
        ),
    ] {
        let ran = room.quod(args).exits(1);
        assert_eq!(ran.err, whole, "{args:?}");
    }
}

#[test]
fn the_options_are_listed() {
    let room = Room::new();
    room.quod(&["create", "-o", "help"]).exits(0).prints("table_size=<size>");
    room.quod(&["create", "-f", "qed", "-o", "?", "x.qed"]).exits(0).prints("cluster_size=<size>");
    room.quod(&["create", "--help"]).exits(0).prints("Examples:");
    room.quod(&["create"]).exits(1);
    assert!(!room.path("x.qed").exists());
}

#[test]
fn what_cannot_be_printed_is_not_taken_for_the_images_fault() {
    let room = Room::new();
    let script = |verb: &str| format!("'{QUOD}' {verb} > /dev/full");
    let run = |verb: &str| room.run("bash", &["-c", &script(verb)], "");
    let told = "Could not write to standard output: No space left on device\n";
    run("create a.qed 1M").exits(1).tells(told);
    room.quod(&["check", "a.qed"]).exits(0);
    for verb in ["info a.qed", "check a.qed", "map a.qed", "compare a.qed a.qed"] {
        run(verb).exits(1).tells(told);
    }
    let gone = format!("(sleep 0.2; '{QUOD}' --help) | true; exit ${{PIPESTATUS[0]}}");
    room.run("bash", &["-c", &gone], "").exits(141);
}
