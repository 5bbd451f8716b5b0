//! `quod serve` with several images.

mod common;

use common::scrape::Page;
use common::serving::Serving;
use common::{QUOD, Room};

fn make(room: &Room, names: &[&str]) {
    for name in names {
        room.quod(&["create", "-q", name, "1M"]).exits(0);
    }
}

/// The URI of an export on a socket.
fn uri(room: &Room, socket: &str, export: &str) -> String {
    format!("nbd+unix:///{export}?socket={}", room.path(socket).display())
}

#[test]
fn images_are_exports_by_their_file_names_and_the_first_is_the_default() {
    let room = Room::new();
    std::fs::create_dir(room.path("sub")).unwrap();
    make(&room, &["a.qed", "sub/b.qed"]);
    let serving = Serving::start(&room, &["a.qed", "sub/b.qed", "--create", "2M", "c.qed"]);
    let list = room.peer("nbdinfo", &["--list", &uri(&room, "a.qed.sock", "")]).exits(0);
    let names: Vec<_> = list.out.lines().filter(|line| line.starts_with("export=")).collect();
    assert_eq!(names, ["export=\"a.qed\":", "export=\"b.qed\":", "export=\"c.qed\":"]);
    for (name, pattern) in [("a.qed", 1), ("b.qed", 2), ("c.qed", 3)] {
        let write = format!("write -P {pattern} 0 1M");
        room.peer("qemu-io", &["-f", "raw", "-c", &write, &uri(&room, "a.qed.sock", name)]).exits(0);
    }
    room.peer("qemu-io", &["-f", "raw", "-r", "-c", "read -P 1 0 1M", &uri(&room, "a.qed.sock", "")])
        .exits(0);
    assert!(serving.welcome.contains("as a.qed, and by default\n"), "{}", serving.welcome);
    room.peer("nbdinfo", &["--size", serving.uri()]).exits(0).prints("1048576");
    let ran = serving.stop("-TERM").exits(0);
    for (name, pattern) in [("a.qed", 1), ("sub/b.qed", 2), ("c.qed", 3)] {
        assert!(ran.out.contains(&format!("Closed {name}: everything written is in it")), "{ran:?}");
        room.quod(&["io", "-r", "-c", &format!("read -P {pattern} 0 1M"), name]).exits(0);
        room.quod(&["check", name]).exits(0);
    }
}

#[test]
fn a_name_that_nobody_has_is_refused_and_the_others_are_served_on() {
    let room = Room::new();
    make(&room, &["a.qed", "b.qed"]);
    let serving = Serving::start(&room, &["-k", "s.sock", "a.qed", "--export", "data disk=b.qed"]);
    room.peer("nbdinfo", &[&uri(&room, "s.sock", "b.qed")]).exits(1).tells("No such file or directory");
    room.peer("nbdinfo", &["--size", &uri(&room, "s.sock", "data%20disk")]).exits(0).prints("1048576");
    serving.stop("-TERM").exits(0);
}

#[test]
fn a_single_image_is_called_as_it_was_asked_for() {
    let room = Room::new();
    make(&room, &["a.qed"]);
    let options = ["-x", "root", "-D", "the root disk", "-r", "a.qed"];
    let serving = Serving::start(&room, &options);
    let told = room.peer("nbdinfo", &[serving.uri()]).exits(0);
    assert!(
        told.out.contains("export=\"root\":") && told.out.contains("description: the root disk"),
        "{told:?}"
    );
    assert!(serving.uri().contains(":///root?"), "{}", serving.uri());
    serving.stop("-TERM").exits(0);
}

#[test]
fn names_and_files_are_given_once() {
    let room = Room::new();
    std::fs::create_dir(room.path("sub")).unwrap();
    make(&room, &["a.qed", "sub/a.qed", "b.qed"]);
    room.quod(&["serve", "a.qed", "sub/a.qed"])
        .exits(1)
        .tells("a.qed and sub/a.qed would both be the export 'a.qed'; name one by --export NAME=FILE");
    std::os::unix::fs::symlink("a.qed", room.path("link.qed")).unwrap();
    room.quod(&["serve", "a.qed", "link.qed"]).exits(1).tells("a.qed and link.qed are the same file");
    room.quod(&["serve", "--export", "a.qed"]).exits(1).tells("NAME=FILE");
    room.quod(&["serve", "-x", "n", "a.qed", "b.qed"]).exits(1).tells("for a single image");
    for flag in ["-x", "-D"] {
        room.quod(&["serve", flag, &"x".repeat(4097), "a.qed"]).exits(1).tells("at most 4096 bytes");
    }
    room.quod(&["serve"]).exits(1).tells("FILE");
    let serving = Serving::start(&room, &["-r", "a.qed", "link.qed"]);
    room.peer("nbdinfo", &["--size", &uri(&room, "a.qed.sock", "link.qed")]).exits(0);
    serving.stop("-TERM").exits(0);
}

#[test]
fn when_one_cannot_be_opened_none_is_served_and_all_are_closed() {
    let room = Room::new();
    make(&room, &["a.qed"]);
    let ran = room.quod(&["serve", "a.qed", "missing.qed"]).exits(1);
    assert!(ran.err.contains("Could not open 'missing.qed'") && ran.out.is_empty(), "{ran:?}");
    assert!(!room.path("a.qed.sock").exists());
    room.quod(&["info", "--output=json", "a.qed"]).exits(0).prints("\"dirty-flag\": false");
    room.quod(&["io", "-c", "write 0 1k", "a.qed"]).exits(0);
}

/// Two images, of which one lies on a file system that fails when it is full.
const ONE_OF_TWO_FAILS: &str = "
    mkdir small && mount -t tmpfs -o size=1M none small || exit 99
    trap 'kill -TERM $server' TERM
    quod serve --create 64M --socket s.sock good.qed small/bad.qed & server=$!
    wait $server; wait $server; ended=$?
    quod check good.qed; checked=$?
    exit $((ended * 10 + checked))";

#[test]
fn an_image_that_is_full_harms_no_other() {
    let room = Room::new();
    let mut command = room.command("unshare");
    let script = ONE_OF_TWO_FAILS.replace("quod ", &format!("'{QUOD}' "));
    let serving = Serving::start_as(command.args(["--map-root-user", "--mount", "bash", "-c", &script]));
    let client = |export: &str, command: &str| {
        room.peer("qemu-io", &["-f", "raw", "-c", command, "-c", "flush", &uri(&room, "s.sock", export)])
    };
    client("bad.qed", "write -P 1 0 4M").exits(1).prints("No space left on device");
    client("good.qed", "write -P 2 0 4M").exits(0);
    let ran = serving.stop("-TERM").exits(0);
    assert!(ran.out.contains("Closed good.qed: everything"), "{ran:?}");
    room.quod(&["io", "-r", "-c", "read -P 2 0 4M", "good.qed"]).exits(0);
}

/// Ten times as many slices of tables as the budget holds are asked for.
#[test]
fn a_hundred_images_under_one_budget_take_little_memory() {
    const IMAGES: usize = 100;
    let room = Room::new();
    let names: Vec<_> = (0..IMAGES).map(|number| format!("{number}.qed")).collect();
    let mut args =
        vec!["-k", "s.sock", "--metrics", "127.0.0.1:0", "--create", "10G", "--cache-size", "1280K"];
    args.extend(names.iter().map(String::as_str));
    let serving = Serving::start(&room, &args);
    for (number, name) in names.iter().enumerate() {
        // Tables of 2 GiB, in slices of 32 MiB.
        let writes = (0..5).map(|table| format!("write -q -P {} {}G 4k", number + 1, 2 * table));
        let reads = (0..32).map(|slice| format!("read -q -P 0 {}M 4k", 256 * (slice + 1) + 32));
        let back = (0..5).map(|table| format!("read -q -P {} {}G 4k", number + 1, 2 * table));
        let commands: Vec<_> = writes.chain(reads).chain(back).collect();
        let uri = uri(&room, "s.sock", name);
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        let args: Vec<_> = ["-f", "raw"].into_iter().chain(commands).chain([&*uri]).collect();
        let ran = room.peer("qemu-io", &args).exits(0);
        assert!(!ran.out.contains("failed"), "{ran:?}");
    }
    let kib = serving.status("VmHWM:");
    assert!(kib < 64 << 10, "{kib} KiB");
    let page = Page::fetch(&serving);
    let cached: f64 =
        names.iter().map(|name| page.get(&format!("quod_cache_bytes{{export=\"{name}\"}}"))).sum();
    let evicted = page.get("quod_cache_evictions_total{export=\"99.qed\"}");
    assert!(cached <= 1280.0 * 1024.0 && evicted > 0.0, "{cached} bytes of tables, {evicted} evicted");
    serving.stop("-TERM").exits(0);
    room.quod(&["check", "99.qed"]).exits(0);
}
