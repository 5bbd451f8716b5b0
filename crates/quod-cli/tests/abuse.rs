//! A day's worth of abuse in a minute: `quod serve` among clients that come and go, sit idle, and never read. What it
//! took of memory is printed: `cargo test -p quod-cli --test abuse -- --nocapture`.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Room;
use common::serving::Serving;
use common::wire::{client, connect, go};
use quod_nbd::*;

/// Clients that come and go.
const PASSING: usize = 10_000;
/// Clients that stay and say nothing.
const IDLE: usize = 1000;
/// Clients that ask for much and read nothing.
const DEAF: usize = 20;

/// What the server may take at most: the default of 256 MiB for requests in flight, and 64 MiB for all else.
const MOST_KIB: u64 = (256 + 64) << 10;

/// How a client leaves.
#[derive(Clone, Copy)]
enum Leaving {
    /// As soon as it is connected.
    AtOnce,
    /// In the middle of an option.
    InTheHandshake,
    /// With requests in flight.
    WithRequests,
    /// As it should.
    InOrder,
}

fn request(command: Command, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Request { flags: 0, command, cookie: Cookie(offset), offset, length }.encode(Mode::Simple, &mut bytes);
    bytes
}

fn pass(socket: &Path, leaving: Leaving) {
    match leaving {
        Leaving::AtOnce => drop(connect(socket)),
        Leaving::InTheHandshake => {
            connect(socket).write_all(&go()[..17]).expect("it listens");
        }
        Leaving::WithRequests => {
            let mut stream = client(socket);
            for block in 0..8 {
                stream.write_all(&request(Command::Read, block << 16, 1 << 16)).expect("it listens");
            }
            stream.write_all(&request(Command::Write, 0, 4096)[..20]).expect("it listens");
        }
        Leaving::InOrder => {
            client(socket).write_all(&request(Command::Disconnect, 0, 0)).expect("it listens");
        }
    }
}

/// Asks for much until the server takes no more.
fn stuff(stream: &mut UnixStream) {
    stream.set_nonblocking(true).expect("it is a socket");
    let ask = request(Command::Read, 0, 4 << 20);
    for _ in 0..10_000 {
        match stream.write(&ask) {
            Ok(len) if len == ask.len() => {}
            Ok(_) => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A read of one block, and how long it took.
fn read_one(stream: &mut UnixStream) -> Duration {
    let begun = Instant::now();
    stream.write_all(&request(Command::Read, 4096, 4096)).expect("it listens");
    let mut reply = [0; SIMPLE_REPLY_LEN + 4096];
    stream.read_exact(&mut reply).expect("it answers");
    let head = ReplyHead::decode(&reply[..SIMPLE_REPLY_LEN]);
    assert_eq!(head, Ok(ReplyHead::Simple { cookie: Cookie(4096), result: Ok(()) }));
    assert!(reply[SIMPLE_REPLY_LEN..].iter().all(|&byte| byte == 7));
    begun.elapsed()
}

fn open_files(serving: &Serving) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", serving.server.0.id())).expect("it runs").count()
}

#[test]
fn a_days_worth_of_abuse_costs_bounded_memory_and_hurts_nobody() {
    let room = Room::new();
    // As a login shell gives it: too few for all the clients, unless the server takes more.
    let serve = format!("ulimit -S -n 256 && exec {} serve --create 64M a.qed", common::QUOD);
    let serving = Serving::start_as(room.command("bash").args(["-c", &serve]));
    let socket = room.path("a.qed.sock");
    room.peer("qemu-io", &["-f", "raw", "-c", "write -q -P 7 0 8M", serving.uri()]).exits(0);
    let (at_rest, files_at_rest) = (serving.status("VmRSS:"), open_files(&serving));
    let mut neighbour = client(&socket);
    let mut slowest = Duration::ZERO;

    let begun = Instant::now();
    let ways = [Leaving::AtOnce, Leaving::InTheHandshake, Leaving::WithRequests, Leaving::InOrder];
    for (number, leaving) in ways.into_iter().cycle().take(PASSING).enumerate() {
        pass(&socket, leaving);
        if number % 100 == 0 {
            slowest = slowest.max(read_one(&mut neighbour));
        }
    }
    let passing = begun.elapsed();
    let after_passing = serving.status("VmHWM:");

    let idle: Vec<_> = (0..IDLE).map(|_| client(&socket)).collect();
    slowest = slowest.max(read_one(&mut neighbour));
    let with_idle = serving.status("VmRSS:");

    let mut deaf: Vec<_> = (0..DEAF).map(|_| client(&socket)).collect();
    deaf.iter_mut().for_each(stuff);
    for _ in 0..100 {
        slowest = slowest.max(read_one(&mut neighbour));
    }
    let most = serving.status("VmHWM:");

    drop((idle, deaf));
    let begun = Instant::now();
    // The neighbour stays.
    while open_files(&serving) > files_at_rest + 1 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} files stay open", open_files(&serving));
        std::thread::sleep(Duration::from_millis(20));
    }
    read_one(&mut neighbour);
    let threads = serving.status("Threads:");
    println!(
        "{PASSING} clients came and went in {passing:.1?}; resident: {at_rest} KiB at rest, at most {after_passing} KiB \
         until then, {with_idle} KiB with {IDLE} idle clients, at most {most} KiB with {DEAF} that never read; the \
         slowest of a neighbour's reads took {slowest:.1?}; {threads} threads are left"
    );
    assert!(most < MOST_KIB, "{most} KiB");
    drop(neighbour);
    serving.stop("-TERM").exits(0);
    room.quod(&["check", "a.qed"]).exits(0);
}
