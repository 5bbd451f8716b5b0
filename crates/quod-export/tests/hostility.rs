//! Clients that stop, stall, lie in number, or never read; and the end of a server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use quod_export::nbd::{BindError, ExportOptions, Server, ServerOptions};
use quod_nbd::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Client, SIZE, Served, session};

#[test]
fn disconnecting_at_any_byte_hurts_nobody() {
    let served = Served::new(ServerOptions::default());
    for mode in session::MODES {
        let session = session::bytes(mode);
        for len in 0..=session.len() {
            let mut client = served.raw();
            client.send(&session[..len]);
            if len % 2 == 0 {
                client.stream.shutdown(std::net::Shutdown::Write).unwrap();
                io::copy(&mut client.stream, &mut io::sink()).unwrap();
            }
        }
    }
    served.still_serves();
    assert_eq!(served.stop().cut, 0);
}

#[test]
fn one_byte_at_a_time_is_as_good_as_all_at_once() {
    let served = Served::new(ExportOptions::default());
    let mut client = served.raw();
    for byte in session::bytes(Mode::Simple) {
        client.send(&[byte]);
    }
    let mut answers = Vec::new();
    io::copy(&mut client.stream, &mut answers).unwrap();
    let mut success = Vec::new();
    encode_simple_reply(Cookie(7), Ok(()), &mut success);
    assert_eq!(answers.windows(success.len()).filter(|window| **window == success).count(), 6);
}

#[test]
fn a_thousand_clients_are_served_and_one_too_many_is_let_go() {
    const MANY: usize = 1000;
    // Both ends of each connection are files of this process.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(4096), ..limit }).unwrap();
    let mut options = ServerOptions::default();
    options.max_connections = MANY;
    let served = Served::new(options);
    let mut clients: Vec<Client> = (0..MANY).map(|_| served.client()).collect();
    served.raw().is_disconnected();
    for client in &mut clients {
        assert_eq!(client.read(0, 512).unwrap(), [0; 512]);
    }
    drop(clients);
    let begun = Instant::now();
    while served.raw().stream.read(&mut [0]).unwrap_or(0) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "places become free when clients leave");
    }
    served.still_serves();
    let summary = served.stop();
    assert!(summary.accepted > MANY as u64 && summary.refused >= 1, "{summary:?}");
}

/// Sends requests until the server takes no more for a while; returns how many bytes it took.
fn stuff(client: &mut Client, message: &[u8]) -> usize {
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while sent < 1 << 30 {
        match client.stream.write_all(message) {
            Ok(()) => sent += message.len(),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

fn request(command: Command, offset: u64, length: u64) -> Vec<u8> {
    let mut message = Vec::new();
    Request { flags: 0, command, cookie: Cookie(1), offset, length }.encode(Mode::Simple, &mut message);
    message
}

#[test]
fn a_client_that_does_not_read_is_pushed_back() {
    let served = Served::new(ExportOptions::default());
    let mut reader = served.client();
    let requests = stuff(&mut reader, &request(Command::Read, 0, 1 << 20)) / COMPACT_REQUEST_LEN;
    assert!(requests < 100_000, "{requests} requests were taken without a reply read");
    let mut writer = served.client();
    let small_write = [request(Command::Write, 0, 1), vec![1]].concat();
    let taken = stuff(&mut writer, &small_write);
    assert!(taken < 4 << 20, "{taken} bytes of writes were taken without a reply read");
    served.still_serves();
    // Once it reads, it is served on.
    for _ in 0..requests.min(200) {
        assert_eq!(reader.reply().1, Ok(()));
        reader.bytes(1 << 20);
    }
}

#[test]
fn options_without_end_hold_up_nobody() {
    let served = Served::new(ExportOptions::default());
    let mut modest = served.client();
    let mut flood = served.greeted();
    let mut replies = flood.stream.try_clone().unwrap();
    let options = OptionHeader { option: 77, length: 0 }.encode().repeat(4096);
    std::thread::scope(|threads| {
        threads.spawn(|| io::copy(&mut replies, &mut io::sink()));
        threads.spawn(|| while flood.stream.write_all(&options).is_ok() {});
        let begun = Instant::now();
        let mut reads = 0;
        while begun.elapsed() < Duration::from_secs(2) {
            assert_eq!(modest.read(0, 512).unwrap(), [0; 512]);
            reads += 1;
        }
        served.tell_to_stop();
        assert!(reads > 40, "{reads} reads in two seconds");
    });
}

#[test]
fn nothing_works_on_for_clients_that_are_gone() {
    let served = Served::new(ExportOptions::default());
    for _ in 0..20 {
        let mut greedy = served.client();
        for _ in 0..63 {
            greedy.send(&request(Command::Cache, 0, SIZE));
        }
        greedy.send(&request(Command::Read, 0, 512));
        // Closed with bytes unread, it is gone both ways.
        assert_eq!(greedy.reply(), (Cookie(1), Ok(())));
    }
    let begun = Instant::now();
    assert_eq!(served.client().call(Command::Cache, 0, 0, SIZE as u32), Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} behind work for nobody", begun.elapsed());
}

#[test]
fn a_stalled_client_gives_way_to_those_who_wait_for_its_memory() {
    let mut options = ServerOptions::default();
    options.memory = 0;
    options.stall_timeout = Duration::from_millis(500);
    let served = Served::new(options);
    let (mut deaf, mut mute) = (served.client(), served.client());
    deaf.send(&request(Command::Read, 0, MAX_PAYLOAD.into()));
    mute.send(&request(Command::Write, 0, MAX_PAYLOAD.into()));
    mute.send(&[1; 1000]);
    std::thread::sleep(Duration::from_millis(1200));
    deaf.send(&request(Command::Flush, 0, 0));
    served.still_serves();
    let mut busy = served.client();
    assert_eq!(
        busy.read(0, MAX_PAYLOAD).unwrap().len(),
        MAX_PAYLOAD as usize,
        "it waits for one to be cut, not more"
    );
    served.still_serves();
}

#[test]
fn a_payload_that_never_ends_is_not_written_and_keeps_nobody_waiting() {
    let served = Served::new(ExportOptions::default());
    let mut client = served.client();
    client.send(&request(Command::Write, 0, 100_000));
    client.send(&[1; 99_999]);
    served.still_serves();
    drop(client);
    let mut other = served.client();
    assert_eq!(other.read(0, 100_000).unwrap(), vec![0; 100_000]);
}

#[test]
fn shutdown_answers_what_is_in_flight_and_lets_idle_clients_go() {
    let served = Served::new(ExportOptions::default());
    let (mut idle, mut half, mut greeted) = (served.client(), served.client(), served.greeted());
    half.send(&request(Command::Read, 0, 512)[..10]);
    let mut busy = served.client();
    assert_eq!(busy.write(0, &[5; 4096]), Ok(()));
    let socket = served.socket.clone();
    served.tell_to_stop();
    for client in [&mut idle, &mut half, &mut busy] {
        client.is_disconnected();
    }
    assert_eq!(io::copy(&mut greeted.stream, &mut io::sink()).unwrap(), 0);
    assert_eq!(served.stop().cut, 0);
    assert!(!socket.exists(), "its name is gone");
}

#[test]
fn shutdown_does_not_wait_for_ever() {
    let mut options = ServerOptions::default();
    options.drain_timeout = Duration::from_millis(300);
    let served = Served::new(options);
    let mut deaf = served.client();
    deaf.send(&request(Command::Read, 0, MAX_PAYLOAD.into()));
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    assert_eq!(served.stop().cut, 1);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

fn bind(path: &Path) -> Result<Server, BindError> {
    let mut server = Server::new(ServerOptions::default());
    server.bind_unix(path).map(|()| server)
}

#[test]
fn the_socket_is_private_and_only_a_dead_servers_is_replaced() {
    let served = Served::new(ExportOptions::default());
    let mode = std::fs::metadata(&served.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let again = bind(&served.socket);
    assert!(matches!(again, Err(BindError::InUse(_))), "{again:?}");
    served.still_serves();

    let directory = tempfile::tempdir().unwrap();
    let stale = directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let server = bind(&stale).unwrap();
    assert!(stale.exists());
    drop(server);
    assert!(!stale.exists());

    std::fs::write(&stale, "a file").unwrap();
    let file = bind(&stale);
    assert!(matches!(file, Err(BindError::NotASocket(_))), "{file:?}");
    assert_eq!(std::fs::read(&stale).unwrap(), b"a file");
    let long = bind(&directory.path().join("l".repeat(200)));
    let why = long.unwrap_err().source().map(ToString::to_string);
    assert!(why.is_some_and(|why| why.contains("107 bytes")));
    let nowhere = bind(&directory.path().join("no/such/place"));
    assert!(matches!(nowhere, Err(BindError::Io { .. })));
}
