//! How long `quod serve` lives, and whom it tells.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::scrape::Page;
use common::serving::Serving;
use common::wire::{self, Ask, Wire};
use common::{Holder, Killed, QUOD, Room};
use quod_nbd::{Command, Cookie, Mode, Request};

fn room() -> Room {
    let room = Room::new();
    room.quod(&["create", "-q", "a.qed", "1M"]).exits(0);
    room
}

#[test]
fn once_means_until_the_last_client_has_left() {
    let room = room();
    let mut serving = Serving::start(&room, &["--once", "a.qed"]);
    let uri = serving.uri().to_owned();
    let holder = Holder::open(&room, "qemu-io", &["-f", "raw", &uri]);
    room.peer("qemu-io", &["-f", "raw", "-c", "write -P 9 0 64k", &uri]).exits(0);
    std::thread::sleep(Duration::from_millis(200));
    assert!(serving.server.0.try_wait().unwrap().is_none(), "one client is still there");
    drop(holder);
    let ran = serving.wait().exits(0);
    assert!(ran.out.ends_with("Closed a.qed: everything written is in it, and it is clean.\n"), "{ran:?}");
    assert!(!room.path("a.qed.sock").exists());
    room.quod(&["io", "-r", "-c", "read -P 9 0 64k", "a.qed"]).exits(0);
}

#[test]
fn persistent_is_the_default_and_the_later_word_counts() {
    let room = room();
    for options in [&["a.qed"][..], &["-t", "a.qed"], &["--once", "--persistent", "a.qed"]] {
        let serving = Serving::start(&room, options);
        for _ in 0..2 {
            room.peer("qemu-io", &["-f", "raw", "-c", "read 0 512", serving.uri()]).exits(0);
        }
        serving.stop("-TERM").exits(0);
    }
    let serving = Serving::start(&room, &["-t", "--once", "a.qed"]);
    room.peer("qemu-io", &["-f", "raw", "-c", "read 0 512", serving.uri()]).exits(0);
    serving.wait().exits(0);
}

#[test]
fn more_clients_than_may_share_wait_for_each_other() {
    let room = room();
    let serving = Serving::start(&room, &["-e", "1", "a.qed"]);
    let uri = serving.uri().to_owned();
    let holder = Holder::open(&room, "qemu-io", &["-f", "raw", &uri]);
    let mut second = Killed::spawn(room.command("nbdinfo").args(["--size", &uri]).stdout(Stdio::piped()));
    std::thread::sleep(Duration::from_millis(300));
    assert!(second.0.try_wait().unwrap().is_none(), "it waits");
    drop(holder);
    second.wait().exits(0).prints("1048576");
    serving.stop("-TERM").exits(0);
}

#[test]
fn the_pid_file_is_there_as_long_as_the_server_is_ready() {
    let room = room();
    room.write("pid", b"999999\n");
    let serving = Serving::start(&room, &["--pid-file", "pid", "a.qed"]);
    assert_eq!(room.read("pid"), format!("{}\n", serving.server.0.id()).into_bytes());
    serving.stop("-TERM").exits(0);
    assert!(!room.path("pid").exists());
    // A slip of the finger costs no disk.
    room.copy("a.qed", "b.qed");
    room.quod(&["serve", "--pid-file", "b.qed", "a.qed"])
        .exits(1)
        .tells("b.qed: exists and is not a pid file");
    assert!(room.read("a.qed") == room.read("b.qed"));
    room.quod(&["serve", "--pid-file", "no/such/pid", "a.qed"])
        .exits(1)
        .tells("the pid file cannot be written");
    let left: Vec<_> =
        fs::read_dir(room.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn the_service_manager_hears_when_it_is_ready_and_when_it_stops() {
    let room = room();
    let manager = UnixDatagram::bind(room.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hear = || {
        let mut bytes = [0; 100];
        let len = manager.recv(&mut bytes).expect("it is told");
        String::from_utf8_lossy(&bytes[..len]).trim().to_owned()
    };
    for options in [&["a.qed"][..], &["--once", "a.qed"]] {
        let mut command = room.command(QUOD);
        command.env("NOTIFY_SOCKET", room.path("notify")).arg("serve").args(options);
        let serving = Serving::start_as(&mut command);
        assert_eq!(hear(), "READY=1");
        room.peer("qemu-io", &["-f", "raw", "-c", "read 0 512", serving.uri()]).exits(0);
        match options {
            [_] => serving.stop("-TERM").exits(0),
            _ => serving.wait().exits(0),
        };
        assert_eq!(hear(), "STOPPING=1");
    }
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 100]).is_err(), "each is told once");
}

#[test]
fn a_hangup_reopens_nothing_and_says_so() {
    let room = room();
    let mut serving = Serving::start(&room, &["a.qed"]);
    serving.server.signal("-HUP");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        assert!(serving.server.0.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    room.peer("qemu-io", &["-f", "raw", "-c", "write -P 4 0 1k", serving.uri()]).exits(0);
    let ran = serving.stop("-TERM").exits(0);
    assert_eq!(ran.err.matches("SIGHUP: there is nothing to reopen").count(), 1, "{ran:?}");
}

/// What the threads of a process have run so far: for how many nanoseconds, and how often. Not those of the kernel: where
/// io_uring needed a worker, it keeps it, and that one looks for more work every five seconds.
fn work(process: u32) -> [u64; 2] {
    let mut work = [0; 2];
    for thread in fs::read_dir(format!("/proc/{process}/task")).expect("the process runs") {
        let thread = thread.expect("it is listed").path();
        let told = |what| fs::read_to_string(thread.join(what)).expect("the thread stays");
        if told("comm").starts_with("iou-wrk") {
            continue;
        }
        let told = told("schedstat");
        let told: Vec<u64> = told.split_whitespace().map(|one| one.parse().expect("a number")).collect();
        let [ran, _waited, times] = told[..] else { panic!("not what Linux tells: {told:?}") };
        work = [work[0] + ran, work[1] + times];
    }
    work
}

#[test]
fn a_server_with_nothing_to_do_does_nothing() {
    let room = room();
    let serving = Serving::start(&room, &["--threads", "2", "a.qed"]);
    falls_asleep(&room, serving);
}

#[test]
fn nor_does_one_whose_metrics_nobody_asks_for() {
    let room = room();
    let serving = Serving::start(&room, &["--threads", "2", "--metrics", "127.0.0.1:0", "a.qed"]);
    assert_eq!(Page::fetch(&serving).get("quod_clients"), 0.0);
    falls_asleep(&room, serving);
}

/// Clients write to the disk and stay; once that is settled nothing wakes the server.
#[track_caller]
fn falls_asleep(room: &Room, serving: Serving) {
    let socket = room.path("a.qed.sock");
    let mut clients = [(); 3].map(|()| Wire::connect(&socket));
    for (at, client) in clients.iter_mut().enumerate() {
        client.ask(&Ask::write(at as u64 * 4096, &[9; 4096])).expect("it is written");
    }
    let mut torn = wire::client(&socket);
    let mut request = Vec::new();
    let flush = Request { flags: 0, command: Command::Flush, cookie: Cookie(1), offset: 0, length: 0 };
    flush.encode(Mode::Simple, &mut request);
    torn.write_all(&request[..request.len() / 2]).expect("it listens");
    // An image that was written to is settled once it has been idle for five seconds.
    let begun = Instant::now();
    let is_dirty = || room.read("a.qed")[16] & 2 != 0;
    assert!(is_dirty(), "NEED_CHECK is set");
    while is_dirty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is settled");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Threads of the pool leave, and the last of the settling is over.
    std::thread::sleep(Duration::from_secs(2));
    let process = serving.server.0.id();
    let before = work(process);
    assert!(before.iter().all(|one| *one > 0), "Linux tells it");
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(work(process), before, "an idle server does not run");
    drop((clients, torn));
    serving.stop("-TERM").exits(0);
}
