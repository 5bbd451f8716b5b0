//! Hostile and damaged images: every verb tells what is wrong and where, exits as the reference does, and changes
//! nothing.

mod common;

use common::header::{BACKING_FILE, CLUSTER, Header, NEED_CHECK, NO_PROBE, write_with_entries};
use common::{Ran, Room};

const VERBS: [&[&str]; 4] = [
    &["info", "-f", "qed"],
    &["check", "-f", "qed"],
    &["map", "-f", "qed"],
    &["io", "-f", "qed", "-c", "read 0 512"],
];

/// No verb opens the image, with this sentence; no panic, no change.
#[track_caller]
fn refused(what: &str, sentence: &str, write: impl FnOnce(&Room)) {
    let room = Room::new();
    write(&room);
    let before = room.read("a.qed");
    for verb in VERBS {
        told(room.quod(&[verb, &["a.qed"]].concat()), 1, sentence, what);
    }
    told(room.quod(&["compare", "-f", "qed", "a.qed", "a.qed"]), 2, sentence, what);
    told(room.quod(&["create", "-b", "a.qed", "-F", "qed", "over.qed"]), 1, sentence, what);
    told(room.quod(&["serve", "-f", "qed", "a.qed"]), 1, sentence, what);
    assert!(before == room.read("a.qed"), "{what}");
}

#[track_caller]
fn told(ran: Ran, code: i32, sentence: &str, what: &str) {
    let named = ran.err.contains("'a.qed'") && ran.err.contains(sentence) && !ran.err.contains("panicked");
    assert!(named && ran.code == Some(code), "{what}: {ran:?}");
}

/// Every verb opens the image, and nothing is wrong with it.
#[track_caller]
fn accepted(what: &str, header: &Header) {
    let room = Room::new();
    header.write(&room, "a.qed");
    for verb in VERBS {
        let ran = room.quod(&[verb, &["a.qed"]].concat());
        assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
    }
}

#[test]
fn a_header_must_be_whole_and_begin_with_the_magic() {
    for len in [0, 1, 3, 4, 16, 63] {
        refused("truncated", "Image not in QED format", |room| {
            room.write("a.qed", &Header::sound().bytes()[..len])
        });
    }
    let wrong = Header { magic: *b"QED\x01", ..Header::sound() };
    refused("magic", "Image not in QED format", |room| wrong.write(room, "a.qed"));
    refused("no L1", "QED table offset is invalid", |room| room.write("a.qed", &Header::sound().bytes()));
}

#[test]
fn geometry_fields_are_held_to_their_bounds() {
    for cluster_size in [0, 1, 2048, 4095, 4097, 65537, 3 << 20, 1 << 27, 1 << 31, u32::MAX] {
        let header = Header { cluster_size, ..Header::sound() };
        refused("cluster size", "QED cluster size is invalid", |room| header.write(room, "a.qed"));
    }
    for table_size in [0, 3, 5, 17, 32, 1 << 31, u32::MAX] {
        let header = Header { table_size, ..Header::sound() };
        refused("table size", "QED table size is invalid", |room| header.write(room, "a.qed"));
    }
    refused("header size 0", "QED header size is invalid", |room| {
        Header { header_size: 0, ..Header::sound() }.write(room, "a.qed")
    });
    for header_size in [2, 65536, u32::MAX] {
        let header = Header { header_size, ..Header::sound() };
        refused("L1 inside the header", "QED table offset is invalid", |room| header.write(room, "a.qed"));
    }
    accepted(
        "smallest",
        &Header {
            cluster_size: 4096,
            table_size: 1,
            l1_table_offset: 4096,
            file_length: 8192,
            ..Header::sound()
        },
    );
    let largest =
        Header { cluster_size: 1 << 26, table_size: 16, l1_table_offset: 1 << 26, ..Header::sound() };
    accepted("largest", &Header { file_length: 17 << 26, ..largest });
    accepted(
        "long header",
        &Header { header_size: 3, l1_table_offset: 3 * CLUSTER, file_length: 7 * CLUSTER, ..Header::sound() },
    );
}

#[test]
fn the_l1_table_must_lie_in_the_file_behind_the_header() {
    let offsets = [
        0,
        1,
        512,
        CLUSTER + 1,
        CLUSTER + 4096,
        2 * CLUSTER,
        4 * CLUSTER,
        5 * CLUSTER,
        6 * CLUSTER,
        1 << 63,
        u64::MAX,
        u64::MAX - CLUSTER + 1,
    ];
    for l1_table_offset in offsets {
        let header = Header { l1_table_offset, ..Header::sound() };
        refused("L1 offset", "QED table offset is invalid", |room| header.write(room, "a.qed"));
    }
    let cut = Header { file_length: 5 * CLUSTER - 1, ..Header::sound() };
    refused("L1 cut short", "QED table offset is invalid", |room| cut.write(room, "a.qed"));
}

#[test]
fn sizes_and_features_are_held_to_their_bounds() {
    for image_size in [1, 511, 513, (1 << 46) + 512, 1 << 63, u64::MAX, u64::MAX - 511] {
        let header = Header { image_size, ..Header::sound() };
        refused("image size", "QED image size is invalid", |room| header.write(room, "a.qed"));
    }
    accepted("largest size", &Header { image_size: 1 << 46, ..Header::sound() });
    for (features, hexadecimal) in [(8, "8"), (0x18, "18"), (1 << 63, "8000000000000000"), (0xfff8, "fff8")] {
        let header = Header { features, ..Header::sound() };
        refused("features", &format!("Unsupported QED features: {hexadecimal}"), |room| {
            header.write(room, "a.qed")
        });
    }
    accepted("unknown compat feature", &Header { compat_features: u64::MAX, ..Header::sound() });
    accepted("unknown autoclear feature", &Header { autoclear_features: u64::MAX, ..Header::sound() });
    accepted("a format without a file", &Header { features: NO_PROBE, ..Header::sound() });
}

#[test]
fn a_backing_name_must_lie_in_the_header_and_be_a_name() {
    let named = |at: u32, len: u32| Header {
        features: BACKING_FILE | NO_PROBE,
        backing_filename_offset: at,
        backing_filename_size: len,
        name: b"base.raw".to_vec(),
        ..Header::sound()
    };
    for (at, len) in [
        (65530, 10),
        (65536, 1),
        (u32::MAX, 1),
        (64, u32::MAX),
        (u32::MAX, u32::MAX),
        (64, 65536),
        (64, 5000),
    ] {
        refused("name out of bounds", "QED backing filename is invalid", |room| {
            named(at, len).write(room, "a.qed")
        });
    }
    for name in [&b"ab\0.raw"[..], b"\0"] {
        refused("no name", "QED backing filename is invalid", |room| {
            Header::over(name, true).write(room, "a.qed")
        });
    }
}

/// The chain cannot be opened: `info` and `check`, which open only the image, can.
#[track_caller]
fn unavailable(name: &[u8], sentence: &str, furnish: impl FnOnce(&Room)) {
    let room = Room::new();
    Header::over(name, true).write(&room, "a.qed");
    furnish(&room);
    for verb in [&["info"][..], &["check"]] {
        room.quod(&[verb, &["a.qed"]].concat()).exits(0);
    }
    for verb in [&["map"][..], &["io", "-c", "length"], &["serve"], &["info", "--backing-chain"]] {
        room.quod(&[verb, &["a.qed"]].concat()).exits(1).tells(sentence);
    }
    room.quod(&["compare", "a.qed", "a.qed"]).exits(2).tells(sentence);
}

#[test]
fn a_backing_file_must_be_there_and_be_a_file() {
    unavailable(b"gone.raw", "No such file or directory", |_| {});
    unavailable(b"gone \xff\xfe.raw", "No such file or directory", |_| {});
    unavailable(b"directory", "not a regular file", |room| {
        std::fs::create_dir(room.path("directory")).unwrap()
    });
    unavailable(b"pipe", "not a regular file", |room| common::make_pipe(&room.path("pipe")));
    unavailable(b"/dev/zero", "not a regular file", |_| {});
    unavailable(b"json:{\"driver\":\"raw\"}", "not a local file", |_| {});
    unavailable(b"nbd://host/export", "not a local file", |_| {});
    let room = Room::new();
    std::fs::create_dir(room.path("sub")).unwrap();
    room.write("base.raw", &[7; 512]);
    Header::over(b"../base.raw", true).write(&room, "sub/a.qed");
    room.quod(&["io", "-c", "read -P 7 0 512", "-c", "read -P 0 512 512", "sub/a.qed"]).exits(0);
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let room = Room::new();
    std::fs::create_dir(room.path("a.qed")).unwrap();
    common::make_pipe(&room.path("pipe"));
    for name in ["a.qed", "pipe", "/dev/zero", "/dev/null"] {
        for verb in
            [&["info"][..], &["check"], &["map"], &["io", "-r", "-c", "length"], &["serve", "--read-only"]]
        {
            room.quod(&[verb, &[name]].concat()).exits(1).tells("not a regular file").tells(name);
        }
        room.quod(&["compare", name, name]).exits(2).tells("not a regular file");
    }
    room.quod(&["create", "pipe", "1M"]).exits(1).tells("not a regular file");
    room.quod(&["create", "a.qed", "1M"]).exits(1).tells("Could not create 'a.qed': Is a directory");
}

#[test]
fn permission_denied_is_told() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let room = Room::new();
    room.quod(&["create", "-q", "a.qed", "1M"]).exits(0);
    // By another process: what another test starts meanwhile would hold a copy of ours open, and nobody could run it.
    room.peer("cp", &[common::QUOD, "quod"]).exits(0);
    let set = |name: &str, mode| {
        std::fs::set_permissions(room.path(name), std::fs::Permissions::from_mode(mode)).unwrap()
    };
    set(".", 0o755);
    let run = |args: &[&str]| {
        let mut command = room.command("./quod");
        // Root may do everything, so somebody else asks.
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(65534).gid(65534);
        }
        let output = command.args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    };
    set("a.qed", 0o444);
    run(&["info", "a.qed"]).exits(0);
    run(&["io", "-r", "-c", "read 0 512", "a.qed"]).exits(0);
    run(&["io", "-c", "read 0 512", "a.qed"]).exits(1).tells("Could not open 'a.qed': Permission denied");
    run(&["check", "-r", "all", "a.qed"]).exits(1).tells("Permission denied");
    set("a.qed", 0);
    for verb in [&["info"][..], &["check"], &["map"], &["io", "-c", "length"]] {
        run(&[verb, &["a.qed"]].concat()).exits(1).tells("Could not open 'a.qed': Permission denied");
    }
    run(&["compare", "a.qed", "a.qed"]).exits(2).tells("Permission denied");
    run(&["create", "a.qed", "1M"]).exits(1).tells("Could not create 'a.qed': Permission denied");
}

#[test]
fn a_dirty_image_is_repaired_when_it_is_written_to_and_not_before() {
    let room = Room::new();
    write_with_entries(&room, "a.qed", 1 << 20, &[9 * CLUSTER, 0x123456]);
    room.patch("a.qed", 16, &NEED_CHECK.to_le_bytes());
    let before = room.read("a.qed");
    room.quod(&["io", "-r", "-c", "read 0 64k", "a.qed"]).exits(0);
    room.quod(&["map", "a.qed"]).exits(1);
    assert!(before == room.read("a.qed"));
    room.quod(&["io", "-c", "read 0 64k", "-c", "read -P 0 64k 64k", "a.qed"]).exits(0);
    room.quod(&["check", "a.qed"]).exits(0);
    room.quod(&["info", "--output=json", "a.qed"]).exits(0).prints("\n    \"dirty-flag\": false");
}

#[test]
fn a_dirty_image_that_stays_corrupt_is_not_written_to() {
    let room = Room::new();
    write_with_entries(&room, "a.qed", 1 << 20, &[9 * CLUSTER, 9 * CLUSTER]);
    room.patch("a.qed", 16, &NEED_CHECK.to_le_bytes());
    room.quod(&["io", "-c", "write 0 512", "a.qed"]).exits(1).tells("Could not open 'a.qed'");
    room.quod(&["io", "-r", "-c", "read 0 128k", "a.qed"]).exits(0);
    assert_eq!(room.read("a.qed")[16], NEED_CHECK as u8);
}

#[test]
fn a_huge_geometry_is_opened_in_little_memory() {
    let room = Room::new();
    let header = Header {
        cluster_size: 1 << 26,
        table_size: 16,
        l1_table_offset: 1 << 26,
        image_size: i64::MAX as u64 & !511,
        file_length: 17 << 26,
        ..Header::sound()
    };
    header.write(&room, "a.qed");
    let script = "ulimit -v 700000; for verb in info check 'map --output=json' 'io -c length -c \"read 0 1M\" -c \"write 1T 4k\"'; \
        do eval \"$0\" $verb a.qed >/dev/null || exit 9; done";
    room.peer("bash", &["-c", script, common::QUOD]).exits(0);
}
