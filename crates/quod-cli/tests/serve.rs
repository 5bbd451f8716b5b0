//! `quod serve` with clients that nobody here wrote.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::serving::Serving;
use common::{Killed, QUOD, Room, wait_until};

#[test]
fn a_disk_is_made_served_and_left_clean() {
    let room = Room::new();
    let serving = Serving::start(&room, &["--create", "10G", "disk.qed"]);
    assert!(
        serving.welcome.starts_with("Created disk.qed: 10 GiB (10737418240 bytes), qed.\n"),
        "{}",
        serving.welcome
    );
    let uri = serving.uri().to_owned();
    room.peer("nbdinfo", &["--size", &uri]).exits(0).prints("10737418240");
    room.peer(
        "qemu-io",
        &["-f", "raw", "-c", "write -P 7 1M 3M", "-c", "write -z 9M 1M", "-c", "flush", &uri],
    )
    .exits(0);
    room.peer("nbdcopy", &[&uri, "copy.raw"]).exits(0);
    let ran = serving.stop("-TERM").exits(0);
    assert!(ran.out.ends_with("Closed disk.qed: everything written is in it, and it is clean.\n"), "{ran:?}");
    assert!(!room.path("disk.qed.sock").exists());
    room.peer("qemu-img", &["check", "disk.qed"]).exits(0);
    room.quod(&["info", "--output=json", "disk.qed"]).exits(0).prints("\n    \"dirty-flag\": false");
    room.quod(&["compare", "disk.qed", "copy.raw"]).exits(0);
    room.quod(&["io", "-r", "-c", "read -P 7 1M 3M", "disk.qed"]).exits(0);
    let again = Serving::start(&room, &["--create", "5G", "disk.qed"]);
    assert!(!again.welcome.contains("Created"), "an image that is there is kept");
    room.peer("qemu-io", &["-r", "-f", "raw", "-c", "read -P 7 1M 3M", again.uri()]).exits(0);
    again.stop("-INT").exits(0);
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let room = Room::new();
    let serving = Serving::start(&room, &["-v", "-v", "-v", "--create", "64M", "a.qed"]);
    // Far more than a pipe holds: nobody reads standard error before the server has ended.
    let commands = ["-c", "read 0 4k"].repeat(2000);
    room.peer("qemu-io", &[&["-f", "raw"], &commands[..], &[serving.uri()]].concat()).exits(0);
    let ran = serving.stop("-TERM").exits(0);
    assert!(ran.err.len() > 60_000, "the pipe was full: {} bytes", ran.err.len());
    room.quod(&["check", "a.qed"]).exits(0);
}

#[test]
fn awkward_names_are_escaped_for_uris_and_shells() {
    let room = Room::new();
    let serving = Serving::start(&room, &["--create", "1M", "a b'c,d?e&f%g#h.qed"]);
    let commands: Vec<&str> = serving.welcome.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(commands.len(), 5);
    for command in
        commands.iter().filter(|command| command.starts_with("nbd") || command.starts_with("qemu-i"))
    {
        room.run("bash", &["-c", command], "quit\n").exits(0);
    }
    assert_eq!(room.read("copy.raw").len(), 1 << 20);
    serving.stop("-TERM").exits(0);
}

#[test]
fn the_socket_is_the_owners_and_the_image_is_locked() {
    let room = Room::new();
    room.quod(&["create", "-q", "a.qed", "1M"]).exits(0);
    let serving = Serving::start(&room, &["--socket", "s.sock", "--cache-size", "1M", "a.qed"]);
    let mode = std::fs::metadata(room.path("s.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    room.peer("qemu-io", &["-f", "qed", "-c", "length", "a.qed"]).exits(1).tells("lock");
    room.quod(&["io", "-c", "length", "a.qed"]).exits(1).tells("Is another process using the image [a.qed]?");
    room.quod(&["create", "-q", "b.qed", "1M"]).exits(0);
    room.quod(&["serve", "--socket", "s.sock", "b.qed"]).exits(1).tells("another server is listening");
    room.quod(&["serve", "--socket", "b.qed", "b.qed"]).exits(1).tells("not a socket");
    serving.stop("-TERM").exits(0);
}

#[test]
fn read_only_means_that_nothing_changes() {
    let room = Room::new();
    room.quod(&["create", "-q", "a.qed", "1M"]).exits(0);
    let before = room.read("a.qed");
    let serving = Serving::start(&room, &["--read-only", "a.qed"]);
    room.peer("nbdinfo", &["--is", "readonly", serving.uri()]).exits(0);
    room.peer("qemu-io", &["-f", "raw", "-c", "write 0 512", serving.uri()]).exits(1);
    room.quod(&["info", "a.qed"]).exits(0);
    serving.stop("-TERM").exits(0);
    assert!(before == room.read("a.qed"));
}

#[test]
fn raw_images_and_overlays_are_served_too() {
    let room = Room::new();
    let serving = Serving::start(&room, &["--create", "2M", "--format", "raw", "a.raw"]);
    room.peer("qemu-io", &["-f", "raw", "-c", "write -P 3 1M 64k", serving.uri()]).exits(0);
    serving.stop("-TERM").exits(0);
    assert!(room.read("a.raw")[1 << 20..(1 << 20) + 65536].iter().all(|&byte| byte == 3));
    room.quod(&["create", "-q", "-b", "a.raw", "-F", "raw", "over.qed"]).exits(0);
    let serving = Serving::start(&room, &["over.qed"]);
    room.peer("qemu-io", &["-f", "raw", "-c", "read -P 3 1M 64k", "-c", "write -P 4 1M 1k", serving.uri()])
        .exits(0);
    serving.stop("-TERM").exits(0);
    room.quod(&["io", "-r", "-c", "read -P 4 1M 1k", "-c", "read -P 3 1025k 63k", "over.qed"]).exits(0);
}

#[test]
fn a_deep_directory_moves_the_socket() {
    let room = Room::new();
    let deep = "d".repeat(100);
    std::fs::create_dir(room.path(&deep)).unwrap();
    std::fs::create_dir(room.path("run")).unwrap();
    let image = format!("{deep}/disk.qed");
    let mut command = room.command(QUOD);
    command.env_remove("XDG_RUNTIME_DIR").args(["serve", "--create", "1M", &image]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--socket"), "{output:?}");
    let mut command = room.command(QUOD);
    command.env("XDG_RUNTIME_DIR", room.path("run")).args(["serve", "--create", "1M", &image]);
    let serving = Serving::start_as(&mut command);
    assert!(Path::new(&room.path("run/disk.qed.sock")).exists());
    room.peer("nbdinfo", &["--size", serving.uri()]).exits(0).prints("1048576");
    serving.stop("-TERM").exits(0);
}

#[test]
fn what_cannot_be_served_is_told() {
    let room = Room::new();
    room.quod(&["serve", "missing.qed"])
        .exits(1)
        .tells("Could not open 'missing.qed': No such file or directory");
    room.quod(&["serve", "--create", "abc", "a.qed"]).exits(1).tells("Invalid image size specified: 'abc'.");
    room.quod(&["serve", "--create", "65T", "a.qed"]).exits(1).tells("QED image size is invalid");
    assert!(!room.path("a.qed").exists(), "an image that could not be made leaves nothing");
    let long = "s".repeat(200);
    room.quod(&["serve", "--create", "1M", "--socket", &long, "a.qed"]).exits(1).tells("107 bytes");
    assert!(!room.path("a.qed").exists(), "nor does one that could not be served");
    room.quod(&["serve", "--format", "vmdk", "--create", "1M", "a.qed"])
        .exits(1)
        .tells("Unknown file format 'vmdk'");
    room.quod(&["serve", "--help"]).exits(0).prints("Examples:");
}

#[test]
fn a_killed_server_leaves_an_image_that_the_next_one_repairs() {
    let room = Room::new();
    let serving = Serving::start(&room, &["--create", "64M", "a.qed"]);
    room.peer("qemu-io", &["-f", "raw", "-c", "write -P 5 1M 1M", "-c", "flush", serving.uri()]).exits(0);
    assert_eq!(serving.stop("-KILL").code, None);
    let serving = Serving::start(&room, &["a.qed"]);
    room.peer("qemu-io", &["-f", "raw", "-c", "read -P 5 1M 1M", serving.uri()]).exits(0);
    serving.stop("-TERM").exits(0);
    room.quod(&["check", "a.qed"]).exits(0);
}

#[test]
fn without_room_only_what_needs_room_fails_until_there_is_room_again() {
    let room = Room::new();
    room.quod(&["create", "-q", "base.raw", "-f", "raw", "64M"]).exits(0);
    room.write_by_peer("base.raw", &["write -P 9 0 64M"]);
    for options in [&["a.qed", "64M"][..], &["-b", "base.raw", "-F", "raw", "a.qed"]] {
        room.quod(&[&["create", "-q"], options].concat()).exits(0);
        // A limit on the size of files is a full disk that a test needs no privilege for.
        let mut command = room.command("prlimit");
        let serving = Serving::start_as(command.args(["--fsize=4194304:", QUOD, "serve", "a.qed"]));
        let client = |commands: &[&str]| {
            let args: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
            room.peer("qemu-io", &[&["-f", "raw"], &args[..], &[serving.uri()]].concat())
        };
        client(&["write -P 1 0 2M", "flush"]).exits(0);
        for _ in 0..3 {
            client(&["write -P 2 8M 4M"]).exits(1).prints("No space left on device");
        }
        client(&["write -P 3 100k 4k", "read -P 1 0 100k", "read -P 1 104k 1944k", "flush"]).exits(0);
        let id = serving.server.0.id().to_string();
        room.peer("prlimit", &["--pid", &id, "--fsize=unlimited:"]).exits(0);
        client(&["write -P 2 8M 4M", "write -P 4 20M 1k", "flush"]).exits(0);
        let ran = serving.stop("-TERM").exits(0).tells("cannot grow to");
        assert!(!ran.err.contains('\u{1b}'), "no colours in a log: {ran:?}");
        // What the file could not be made long enough for is not leaked.
        room.quod(&["check", "a.qed"]).exits(0);
        room.peer("qemu-img", &["check", "a.qed"]).exits(0);
        let rest = if options.contains(&"-b") { "read -P 9" } else { "read -P 0" };
        let behind = [format!("{rest} 2M 6M"), format!("{rest} 12M 8M"), format!("{rest} 20481k 4M")];
        let reads = ["read -P 1 0 100k", "read -P 3 100k 4k", "read -P 2 8M 4M", "read -P 4 20M 1k"];
        let reads = reads.into_iter().chain(behind.iter().map(String::as_str));
        let args: Vec<&str> = reads.flat_map(|command| ["-c", command]).collect();
        room.quod(&[&["io", "-r"], &args[..], &["a.qed"]].concat()).exits(0);
        std::fs::remove_file(room.path("a.qed")).unwrap();
    }
}

/// Serves an image on a file system of 16 MiB that nobody else sees, most of it taken by another file.
const ON_A_SMALL_DISK: &str = "
    mkdir small && mount -t tmpfs -o size=16M none small || exit 99
    head -c 10M /dev/zero > small/other
    trap 'kill -TERM $server' TERM
    quod serve --create 64M --socket s.sock small/a.qed & server=$!
    wait $server; wait $server; ended=$?
    quod check small/a.qed; checked=$?
    exit $((ended * 10 + checked))";

#[test]
fn a_full_file_system_harms_nothing_and_is_written_to_again_once_there_is_room() {
    let room = Room::new();
    let mut command = room.command("unshare");
    let script = ON_A_SMALL_DISK.replace("quod ", &format!("'{QUOD}' "));
    let serving = Serving::start_as(command.args(["--map-root-user", "--mount", "bash", "-c", &script]));
    let client = |commands: &[&str]| {
        let args: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
        room.peer("qemu-io", &[&["-f", "raw"], &args[..], &[serving.uri()]].concat())
    };
    client(&["write -P 1 0 2M", "flush"]).exits(0);
    for _ in 0..3 {
        client(&["write -P 2 8M 8M"]).exits(1).prints("No space left on device");
        client(&["write -P 4 40M 64k", "write -P 3 100k 4k", "flush", "read -P 1 104k 1944k"]).exits(0);
    }
    let other = format!("/proc/{}/root{}", serving.server.0.id(), room.path("small/other").display());
    std::fs::remove_file(other).expect("the other file makes room");
    client(&["write -P 2 8M 8M", "flush", "read -P 2 8M 8M", "read -P 4 40M 64k"]).exits(0);
    client(&["read -P 1 0 100k", "read -P 3 100k 4k", "read -P 0 2M 6M", "read -P 0 16M 24M"]).exits(0);
    // What failed is leaked once (D1), and that is all.
    let ran = serving.stop("-TERM").exits(3);
    assert!(ran.out.contains("\n128 leaked clusters were found on the image.\n"), "{ran:?}");
}

#[test]
fn a_creation_that_found_no_room_leaves_nothing_to_be_taken_for_a_disk() {
    let room = Room::new();
    for verb in [&["create", "a.qed", "1G"][..], &["serve", "--create", "1G", "a.qed"]] {
        let small = ["--fsize=100000:", QUOD];
        room.peer("prlimit", &[&small[..], verb].concat()).exits(1).tells("File too large");
        assert_eq!(room.read("a.qed").len(), 0);
    }
    let serving = Serving::start(&room, &["--create", "1000", "a.qed"]);
    assert!(serving.welcome.starts_with("Created a.qed: 1 KiB (1024 bytes), qed.\n"), "{}", serving.welcome);
    serving.stop("-TERM").exits(0);
    room.write("b.img", &[0; 4096]);
    room.quod(&["serve", "--create", "1G", "b.img"]).exits(1).tells("not in QED format");
    assert_eq!(room.read("b.img").len(), 4096);
}

#[test]
fn of_two_servers_that_create_one_makes_the_image_and_nobody_empties_it() {
    for _ in 0..4 {
        let room = Room::new();
        let start = |socket: &str| {
            let mut command = room.command(QUOD);
            command.args(["serve", "--create", "64M", "--socket", socket, "a.qed"]);
            Killed::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
        };
        let servers = ["one.sock", "two.sock"].map(|socket| (socket, start(socket)));
        let uri = |socket: &str| format!("nbd+unix:///?socket={}", room.path(socket).display());
        let writes = |socket: &str| {
            let uri = uri(socket);
            room.peer("qemu-io", &["-f", "raw", "-c", "write -P 90 0 64k", "-c", "flush", &uri]).code
                == Some(0)
        };
        // The one that has the lock serves; the other one waits for it for a second.
        let mut first = None;
        wait_until("one of them serves", || {
            first = servers.iter().position(|(socket, _)| room.path(socket).exists() && writes(socket));
            first.is_some()
        });
        let [one, two] = servers;
        let ((_, first), (_, second)) = if first == Some(0) { (one, two) } else { (two, one) };
        first.signal("-TERM");
        first.wait().exits(0);
        // It serves by now, or it has given up.
        std::thread::sleep(Duration::from_millis(300));
        second.signal("-TERM");
        second.wait();
        room.quod(&["io", "-r", "-c", "read -P 90 0 64k", "a.qed"]).exits(0);
        room.quod(&["check", "a.qed"]).exits(0);
    }
}

#[test]
fn a_disk_that_was_guessed_to_be_raw_stays_raw() {
    let room = Room::new();
    room.write("a.img", &[b'E'; 4096]);
    room.write("qed", b"QED\0 and the name of a file of the host");
    let write = ["-f", "raw", "-c", "write -s qed 0 512"];
    let serving = Serving::start(&room, &["a.img"]);
    let refused = room.peer("qemu-io", &[&write[..], &[serving.uri()]].concat()).exits(1);
    assert!(refused.out.contains("Operation not permitted"), "{refused:?}");
    room.peer("qemu-io", &["-f", "raw", "-c", "write -P 1 512 3584", serving.uri()]).exits(0);
    serving.stop("-TERM").exits(0).tells("name its format");
    room.quod(&["io", "-c", "write -s qed 0 512", "a.img"]).exits(1);
    let serving = Serving::start(&room, &["--format", "raw", "a.img"]);
    room.peer("qemu-io", &[&write[..], &[serving.uri()]].concat()).exits(0);
    serving.stop("-TERM").exits(0);
}
