//! What `quod serve` tells of itself: by HTTP, on SIGUSR1, and in its log.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use common::scrape::{Page, ask, connect};
use common::serving::Serving;
use common::wire::{Ask, Wire};
use common::{QUOD, Room, wait_until};
use quod_nbd::Command;

/// A server that tells its metrics at some port, and `more`.
#[track_caller]
fn start(room: &Room, more: &[&str]) -> Serving {
    Serving::start(room, &[&["--metrics", "127.0.0.1:0", "--create", "64M"], more].concat())
}

#[test]
fn counters_move_by_what_a_client_did() {
    let room = Room::new();
    let serving = start(&room, &["a.qed"]);
    let before = Page::fetch(&serving);
    let mut wire = Wire::connect(&room.path("a.qed.sock"));
    let bytes = vec![7; 128 << 10];
    wire.ask(&Ask::write(0, &bytes)).expect("it is written");
    for at in [0, 4096, 1 << 20] {
        wire.ask(&Ask::of(Command::Read, at, 512)).expect("it is read");
    }
    wire.ask(&Ask::of(Command::Flush, 0, 0)).expect("it is flushed");
    wire.ask(&Ask::of(Command::Trim, 0, 64 << 10)).expect("it is discarded");
    wire.ask(&Ask::of(Command::Cache, 0, 4096)).expect("it is brought near");
    wire.ask(&Ask::of(Command::Read, 64 << 20, 512)).expect_err("it is past the end");
    wire.ask(&Ask::of(Command::Unknown(77), 0, 0)).expect_err("it is not known");
    let after = Page::fetch(&serving);
    let moved = |name: &str, of: &str| {
        let sample = format!("{name}{{export=\"\"{of}}}");
        after.get(&sample) - before.get(&sample)
    };
    for (command, answered, bytes, failed) in [
        ("read", 4.0, Some(1536.0), 1.0),
        ("write", 1.0, Some(131_072.0), 0.0),
        ("write_zeroes", 0.0, Some(0.0), 0.0),
        ("trim", 1.0, Some(65536.0), 0.0),
        ("flush", 1.0, None, 0.0),
        ("cache", 1.0, Some(4096.0), 0.0),
        ("block_status", 0.0, None, 0.0),
        ("unknown", 1.0, None, 1.0),
    ] {
        let of = format!(",command=\"{command}\"");
        assert_eq!(moved("quod_requests_total", &of), answered, "{command}");
        assert_eq!(moved("quod_request_errors_total", &of), failed, "{command}");
        assert_eq!(moved("quod_requests_in_flight", &of), 0.0, "{command}");
        assert_eq!(moved("quod_request_duration_seconds_count", &of), answered, "{command}");
        let took = moved("quod_request_duration_seconds_sum", &of);
        assert!(if answered > 0.0 { (1e-9..60.0).contains(&took) } else { took == 0.0 }, "{command}: {took}");
        if let Some(bytes) = bytes {
            assert_eq!(moved("quod_request_bytes_total", &of), bytes, "{command}");
        }
    }
    // Two clusters, and a table of four; two entries for the ones, and one for the other.
    assert_eq!(moved("quod_clusters_allocated_total", ""), 6.0);
    assert_eq!(moved("quod_entries_written_total", ""), 3.0);
    assert_eq!(moved("quod_flushes_asked_total", ""), 1.0);
    assert!(moved("quod_file_flushes_total", "") >= 1.0);
    assert!(moved("quod_cache_hits_total", "") >= 3.0);
    assert_eq!(after.get("quod_needs_check{export=\"\"}"), 1.0);
    assert_eq!(after.get("quod_latched{export=\"\"}"), 0.0);
    assert_eq!(after.get("quod_file_bytes{export=\"\"}"), room.read("a.qed").len() as f64);
    assert_eq!((before.get("quod_clients"), after.get("quod_clients")), (0.0, 1.0));
    assert_eq!(after.get("quod_export_clients{export=\"\"}"), 1.0);
    assert_eq!(after.get("quod_clients_accepted_total"), 1.0);
    drop(wire);
    wait_until("the client has left", || Page::fetch(&serving).get("quod_clients") == 0.0);
    serving.stop("-TERM").exits(0);
}

/// A hundred times asks for so many things together, and takes all answers; how often the client was looked out for by
/// then, and how often in vain.
#[track_caller]
fn lookouts(serving: &Serving, wire: &mut Wire, together: usize) -> [f64; 2] {
    for _ in 0..100 {
        wire.send_together(&vec![Ask::of(Command::Read, 0, 512); together]).expect("it listens");
        (0..together).for_each(|_| drop(wire.receive().expect("it answers").1.expect("it is read")));
    }
    let page = Page::fetch(serving);
    ["", "_in_vain"].map(|which| page.get(&format!("quod_lookouts{which}_total{{export=\"\"}}")))
}

#[test]
fn who_asks_for_a_few_things_at_a_time_is_looked_out_for() {
    let room = Room::new();
    let serving = start(&room, &["a.qed"]);
    let mut wire = Wire::connect(&room.path("a.qed.sock"));
    let mut lookouts = |together| lookouts(&serving, &mut wire, together);
    let has_one_processor = thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    for few in [1, 4, 1] {
        let [all, in_vain] = lookouts(5);
        wait_until("a look-out was not in vain, or there is one processor", || {
            let now = lookouts(few);
            now[0] - now[1] > all - in_vain || has_one_processor
        });
        // The last wait before these was of the few.
        let settled = lookouts(5);
        assert_eq!(lookouts(5), settled, "who sends more is left to send");
    }
    serving.stop("-TERM").exits(0);
}

#[test]
fn on_one_processor_nobody_is_looked_out_for() {
    let room = Room::new();
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    let first = allowed.and_then(|list| list.split([',', '-']).next()).expect("there is a processor");
    let mut command = room.command("taskset");
    command.args(["-c", first, QUOD, "serve", "--metrics", "127.0.0.1:0", "--create", "64M", "a.qed"]);
    let serving = Serving::start_as(&mut command);
    let mut wire = Wire::connect(&room.path("a.qed.sock"));
    assert_eq!([1, 1, 4].map(|together| lookouts(&serving, &mut wire, together)), [[0.0; 2]; 3]);
    serving.stop("-TERM").exits(0);
}

#[test]
fn exports_are_told_apart_by_names_that_stay_names() {
    let room = Room::new();
    let exports = ["--export", "q\"b\\s\n=secret.qed", "--export", "second=b.qed", "--commit", "grouped"];
    let serving = start(&room, &[&exports[..], &["--socket", "s.sock"]].concat());
    let mut wire = Wire::connect(&room.path("s.sock"));
    wire.ask(&Ask::write(0, &[1; 4096])).expect("it is written");
    let page = Page::fetch(&serving);
    let first = "export=\"q\\\"b\\\\s\\n\"";
    assert_eq!(page.get(&format!("quod_requests_total{{{first},command=\"write\"}}")), 1.0);
    assert_eq!(page.get("quod_requests_total{export=\"second\",command=\"write\"}"), 0.0);
    // The cluster's entry, and that of its table.
    assert_eq!(page.get(&format!("quod_pending_entries{{{first}}}")), 2.0);
    assert_eq!(page.get(&format!("quod_pending_bytes{{{first}}}")), 4096.0);
    let answer = ask(connect(&serving), "GET /metrics");
    assert!(!answer.body.contains("secret") && !answer.body.contains(".qed"), "no names of files");
    serving.stop("-TERM").exits(0);
}

#[test]
fn only_the_page_is_there_and_only_to_be_read() {
    let room = Room::new();
    let serving = start(&room, &["a.qed"]);
    assert_eq!(ask(connect(&serving), "GET /").status, 404);
    assert_eq!(ask(connect(&serving), "GET /metrics/../../etc/passwd").status, 404);
    assert_eq!(ask(connect(&serving), "GET /metrics?a=b").status, 200);
    let refused = ask(connect(&serving), "DELETE /metrics");
    assert!(refused.status == 405 && refused.head.contains("allow: get, head"), "{refused:?}");
    let head = ask(connect(&serving), "HEAD /metrics");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    serving.stop("-TERM").exits(0);
}

#[test]
fn a_socket_for_metrics_is_the_owners_and_goes_with_the_server() {
    let room = Room::new();
    for place in ["unix:m.sock", "./m.sock"] {
        // As a server leaves it that was killed.
        drop(std::os::unix::net::UnixListener::bind(room.path("m.sock")).expect("it is free"));
        let serving = Serving::start(&room, &["--metrics", place, "--create", "1M", "a.qed"]);
        let socket = room.path("m.sock");
        let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Page::fetch_at(&socket).get("quod_clients"), 0.0);
        assert!(serving.welcome.contains("Metrics: curl --unix-socket "), "{}", serving.welcome);
        room.quod(&["serve", "--create", "1M", "--metrics", place, "b.qed"])
            .exits(1)
            .tells("m.sock: another server is listening on this socket");
        serving.stop("-TERM").exits(0);
        assert!(!socket.exists());
    }
}

#[test]
fn an_address_that_is_taken_or_wrong_is_told_before_anything_is_served() {
    let room = Room::new();
    room.quod(&["create", "-q", "a.qed", "1M"]).exits(0);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let ran = room.quod(&["serve", "--metrics", &address, "a.qed"]).exits(1);
    assert_eq!(ran.out, "", "it does not serve");
    ran.tells(&format!(
        "metrics cannot be told there: {address}: cannot listen on this address: Address already in use"
    ));
    room.quod(&["serve", "--metrics", "./a.qed", "a.qed"]).exits(1).tells("exists and is not a socket");
    for (wrong, why) in [
        ("9100", "--metrics '9100': HOST:PORT or unix:PATH is wanted: the port is missing"),
        ("127.0.0.1:x", "'x' is not a port"),
        ("unix:", "the path is missing"),
    ] {
        room.quod(&["serve", "--create", "1M", "--metrics", wrong, "b.qed"]).exits(1).tells(why);
        assert!(!room.path("b.qed").exists(), "nothing is made for a server that cannot be");
    }
    room.quod(&["info", "--output=json", "a.qed"]).exits(0).prints("\"dirty-flag\": false");
}

/// Clients that hold what they can of the metrics: some say nothing, some never end, some do not read.
fn besiege(serving: &Serving) -> Vec<TcpStream> {
    let mut besiegers: Vec<_> = (0..60).map(|_| connect(serving)).collect();
    for (number, stream) in besiegers.iter_mut().enumerate() {
        let sent = match number % 3 {
            0 => Ok(()),
            1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Never-Ends: "),
            _ => stream.write_all(&b"GET /metrics HTTP/1.1\r\n\r\n".repeat(100)),
        };
        sent.expect("the kernel takes it");
    }
    besiegers
}

#[test]
fn a_slow_or_hostile_client_holds_up_neither_disks_nor_the_end() {
    let room = Room::new();
    let serving = start(&room, &["--threads", "1", "a.qed"]);
    let besiegers = besiege(&serving);
    let mut wire = Wire::connect(&room.path("a.qed.sock"));
    for at in 0..100 {
        wire.ask(&Ask::write(at << 16, &[3; 4096])).expect("disks are served");
    }
    // Each is sent away in time, and then there is room for others.
    assert_eq!(Page::fetch(&serving).get("quod_requests_total{export=\"\",command=\"write\"}"), 100.0);
    drop(besiegers);
    // What is no HTTP, and what does not end, is cut off before it is all there.
    for endless in [&b"GET /metrics HTTP/1.1\r\nX: "[..], b"\0\xff\r\n"] {
        let mut stream = connect(&serving);
        let filler = vec![b'x'; 64 << 10];
        let mut sent = stream.write_all(endless);
        while sent.is_ok() {
            sent = stream.write_all(&filler);
        }
    }
    let _besiegers = besiege(&serving);
    let begun = Instant::now();
    serving.stop("-TERM").exits(0);
    assert!(begun.elapsed() < Duration::from_secs(4), "the end took {:?}", begun.elapsed());
    room.quod(&["check", "a.qed"]).exits(0);
}

#[test]
fn a_line_for_each_export_comes_with_sigusr1() {
    let room = Room::new();
    room.quod(&["create", "-q", "a.qed", "64M"]).exits(0);
    room.quod(&["create", "-q", "b.qed", "64M"]).exits(0);
    let serving = Serving::start(&room, &["--commit", "grouped", "--socket", "s.sock", "a.qed", "b.qed"]);
    let mut wire = Wire::connect(&room.path("s.sock"));
    wire.ask(&Ask::write(0, &[1; 65536])).expect("it is written");
    wire.ask(&Ask::of(Command::Read, 0, 512)).expect("it is read");
    wire.ask(&Ask::of(Command::Read, 64 << 20, 512)).expect_err("it is past the end");
    serving.server.signal("-USR1");
    let ran = serving.stop("-TERM").exits(0);
    let line =
        |file: &str| ran.err.lines().find(|line| line.contains(&format!(" {file}: "))).expect("its line");
    let words = "a.qed: 1 clients, 2 read (512 B), 1 write (64 KiB), 0 in flight, 1 errors, ";
    assert!(line("a.qed").contains(words), "{ran:?}");
    assert!(
        line("a.qed").contains("% cache hits, file ")
            && line("a.qed").contains(", pending 2 entries (64 KiB)")
    );
    assert!(
        line("b.qed").contains("b.qed: 0 clients, 0 in flight, 0 errors, file 320 KiB, pending 0 "),
        "{ran:?}"
    );
    let mut command = room.command(common::QUOD);
    let silenced = Serving::start_as(command.env("RUST_LOG", "off").args(["serve", "a.qed"]));
    silenced.server.signal("-USR1");
    // It goes on.
    Wire::connect(&room.path("a.qed.sock")).ask(&Ask::of(Command::Read, 0, 512)).expect("it is read");
    silenced.stop("-TERM").exits(0).tells("quod::status: a.qed: ");
}

#[test]
fn a_request_is_a_span_where_everything_is_traced_and_nothing_elsewhere() {
    let room = Room::new();
    for (verbose, traced) in [(&["-v", "-v", "-v"][..], true), (&["-v", "-v"], false)] {
        let serving = Serving::start(&room, &[verbose, &["--create", "1M", "-x", "disk", "a.qed"]].concat());
        let mut wire = Wire::connect(&room.path("a.qed.sock"));
        wire.ask(&Ask::of(Command::Read, 512, 1024)).expect("it is read");
        drop(wire);
        let ran = serving.stop("-TERM").exits(0);
        let span = "request{export=\"disk\" command=Read offset=512 length=1024}: ";
        let told =
            ran.err.lines().filter(|line| line.contains(span) && line.contains("close time.busy")).count();
        assert_eq!(told, usize::from(traced), "{ran:?}");
    }
}

#[test]
fn who_says_no_more_is_answered_all_the_same() {
    let room = Room::new();
    let serving = start(&room, &["a.qed"]);
    let mut stream = connect(&serving);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it listens");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and closes");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("# EOF\n"), "{answer}");
    serving.stop("-TERM").exits(0);
}

/// The kernel ends what a ring waited for after the process has ended.
#[test]
fn the_port_is_free_once_the_server_has_ended() {
    let room = Room::new();
    // A loopback address of this test's own: elsewhere a port may become another test's meanwhile.
    let free = TcpListener::bind("127.0.0.2:0").expect("a port is free");
    let address = free.local_addr().expect("it listens").to_string();
    drop(free);
    room.quod(&["create", "-q", "a.qed", "1M"]).exits(0);
    for _ in 0..20 {
        let serving = Serving::start(&room, &["--metrics", &address, "a.qed"]);
        Page::fetch(&serving);
        serving.stop("-TERM").exits(0);
        // At once: a few milliseconds later it is free in any case.
        TcpListener::bind(&address).expect("the port is free");
    }
}

#[test]
fn a_client_that_leaves_is_no_error() {
    let room = Room::new();
    let serving = start(&room, &["a.qed"]);
    let mut wire = Wire::connect(&room.path("a.qed.sock"));
    // More than a socket takes, so that some are still to be sent when it leaves.
    for at in 0..60 {
        wire.send(&Ask::of(Command::Read, at << 20, 1 << 20)).expect("it listens");
    }
    let in_flight = || Page::fetch(&serving).get("quod_requests_in_flight{export=\"\",command=\"read\"}");
    wait_until("it has begun", || in_flight() > 0.0);
    drop(wire);
    wait_until("nothing is left of it", || in_flight() == 0.0);
    let page = Page::fetch(&serving);
    let read = |name: &str| page.get(&format!("{name}{{export=\"\",command=\"read\"}}"));
    assert_eq!(read("quod_request_errors_total"), 0.0);
    assert!(read("quod_requests_total") < 60.0, "what nobody waited for was not answered");
    serving.stop("-TERM").exits(0);
}
