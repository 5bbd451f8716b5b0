//! `quod map` beside `qemu-img map`: the same bytes for the same image.

mod common;

use common::header::{CLUSTER, write_with_entries};
use common::{Room, same_output};

/// Images of every kind, and chains of them.
fn furnished() -> Room {
    let room = Room::new();
    std::fs::create_dir(room.path("sub")).expect("a directory");
    room.create_by_peer(&["-f", "qed", "flat.qed", "64M"]);
    room.write_by_peer("flat.qed", &["write 0 200k", "write -P 3 1M 64k", "write -z 2M 128k", "write 10M 1"]);
    room.create_by_peer(&["-f", "qed", "empty.qed", "3G"]);
    room.create_by_peer(&["-f", "qed", "none.qed", "0"]);
    room.set_len("holes.raw", 20 << 20);
    room.patch("holes.raw", 1 << 20, &[7; 100_000]);
    room.patch("holes.raw", 5_000_000, b"y");
    room.write("odd.raw", &[1; 3]);
    room.write("tail.raw", b"");
    room.patch("tail.raw", 70_000, b"x");
    room.write("nothing.raw", b"");
    let over = |top: &str, below: &str, format: &str, options: &str| {
        let options = format!("cluster_size={options}");
        room.create_by_peer(&["-f", "qed", "-o", &options, "-b", below, "-F", format, top]);
    };
    over("over-raw.qed", "holes.raw", "raw", "64k");
    room.write_by_peer("over-raw.qed", &["write 64k 64k", "write -z 1M 64k"]);
    over("over-qed.qed", "flat.qed", "qed", "4k");
    room.write_by_peer(
        "over-qed.qed",
        &["write -P 1 5k 1k", "write -z 16k 32k", "write 1088k 10k", "write 3M 1M"],
    );
    over("sub/deep.qed", "../over-raw.qed", "qed", "1M");
    room.write_by_peer("sub/deep.qed", &["write 0 1", "write -z 12M 2M", "write 16M 64k"]);
    over("over-tail.qed", "tail.raw", "raw", "64k");
    room
}

const IMAGES: [&str; 11] = [
    "flat.qed",
    "empty.qed",
    "none.qed",
    "holes.raw",
    "odd.raw",
    "tail.raw",
    "nothing.raw",
    "over-raw.qed",
    "over-qed.qed",
    "sub/deep.qed",
    "over-tail.qed",
];

#[test]
fn every_image_is_mapped_as_by_qemu_img() {
    let room = furnished();
    for image in IMAGES {
        for form in ["--output=json", "--output=human"] {
            same_output(&room, &["map", form, image]);
            same_output(&room, &["map", form, "-f", "raw", image]);
        }
    }
}

#[test]
fn a_range_is_cut_as_by_qemu_img() {
    let room = furnished();
    let ranges = [
        ("3", "5"),
        ("100000", "2000000"),
        ("1M", "1M"),
        ("0", "0"),
        ("100M", "1"),
        ("64k", "8E"),
        ("-1", "1"),
        ("abc", "1"),
        ("0", "x"),
        ("0.5M", "1k"),
        ("0x10000", "0x20000"),
    ];
    for (start, length) in ranges {
        let (start, length) = (format!("--start-offset={start}"), format!("--max-length={length}"));
        for image in ["over-qed.qed", "sub/deep.qed", "holes.raw"] {
            for form in ["--output=json", "--output=human"] {
                same_output(&room, &["map", form, &start, &length, image]);
            }
        }
    }
}

#[test]
fn past_a_short_backing_file_it_is_the_image_above_that_has_nothing() {
    let room = furnished();
    room.create_by_peer(&["-f", "qed", "-b", "flat.qed", "-F", "qed", "longer.qed", "80M"]);
    room.write_by_peer("longer.qed", &["write 70M 100k"]);
    room.create_by_peer(&["-f", "qed", "-b", "longer.qed", "-F", "qed", "longest.qed", "100M"]);
    room.create_by_peer(&["-f", "qed", "-b", "tail.raw", "-F", "raw", "over-short.qed", "1M"]);
    for image in ["longer.qed", "longest.qed", "over-short.qed"] {
        same_output(&room, &["map", "--output=json", image]);
        same_output(&room, &["map", image]);
    }
}

#[test]
fn a_bad_entry_ends_the_map_behind_what_is_sound() {
    let room = Room::new();
    write_with_entries(&room, "a.qed", 1 << 20, &[9 * CLUSTER, 10 * CLUSTER, 1, 0x123456]);
    let sentence = "Could not read file metadata: Invalid argument";
    let ran = room.quod(&["map", "a.qed"]).exits(1).tells(sentence).tells("0x123456");
    assert_eq!(ran.out, room.peer("qemu-img", &["map", "a.qed"]).exits(1).tells(sentence).out);
    room.quod(&["map", "--output=json", "a.qed"])
        .exits(1)
        .prints("[{ \"start\": 0, \"length\": 131072, \"depth\": 0, \"present\": true, \"zero\": false, \"data\": true");
}

#[test]
fn what_cannot_be_opened_is_told_as_by_qemu_img() {
    let room = furnished();
    for args in
        [&["missing"][..], &[], &["flat.qed", "x"], &["-f", "qed", "holes.raw"], &["-f", "foo", "flat.qed"]]
    {
        same_output(&room, &[&["map"], args].concat());
    }
    room.create_by_peer(&["-f", "qed", "-u", "-b", "gone.qed", "-F", "qed", "over-gone.qed", "1M"]);
    room.quod(&["map", "over-gone.qed"])
        .exits(1)
        .tells("quod: Could not open 'over-gone.qed': Could not open backing file: gone.qed: ")
        .tells("No such file or directory");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let room = Room::new();
    let entries: Vec<u64> = (0..4096).map(|number| u64::from(number % 2 == 1)).collect();
    write_with_entries(&room, "a.qed", 256 << 20, &entries);
    let mut command = room.command(common::QUOD);
    command.args(["map", "--output=json", "a.qed"]);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0), "{output:?}");
}
