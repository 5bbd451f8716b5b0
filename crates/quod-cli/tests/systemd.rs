//! contrib/systemd/: the units are sound, and what they start serves.

mod common;

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use common::{Killed, QUOD, Room, listens, wait_until};

const SERVICE: &str = include_str!("../../../contrib/systemd/quod@.service");
const SOCKET: &str = include_str!("../../../contrib/systemd/quod@.socket");

/// A unit for the disk `web` of this room, and for a command that is not installed.
fn here(room: &Room, unit: &str) -> String {
    let directory = room.path("");
    let directory = directory.to_str().expect("a plain name").trim_end_matches('/');
    let places = [("/usr/bin/quod", QUOD), ("/run/quod", directory), ("/var/lib/quod", directory)];
    let unit = places.iter().fold(unit.to_owned(), |unit, (from, to)| unit.replace(from, to));
    unit.replace("%i", "web")
}

fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next().unwrap_or_else(|| panic!("no {key} in {unit}"))
}

/// What systemd has to say against these units.
fn complaints(service: &str, socket: &str) -> String {
    let room = Room::new();
    // Instances, since `web` is in them already.
    room.write("quod@web.service", here(&room, service).as_bytes());
    room.write("quod@web.socket", here(&room, socket).as_bytes());
    let units = ["verify", "--man=no", "./quod@web.socket", "./quod@web.service"];
    let ran = room.peer("systemd-analyze", &units);
    ran.out + &ran.err
}

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    assert_eq!(complaints(SERVICE, SOCKET), "");
    // It would say what is wrong.
    let wrong = SERVICE.replace("NoNewPrivileges", "NoNewPrivilege");
    assert!(complaints(&wrong, SOCKET).contains("'NoNewPrivilege'"));
    let wrong = SOCKET.replace("SocketMode", "SocketMood");
    assert!(complaints(SERVICE, &wrong).contains("'SocketMood'"));
}

/// The service's command, started by systemd's activator in place of systemd.
fn activated(room: &Room, notify: &str) -> Killed {
    let (socket, service) = (here(room, SOCKET), here(room, SERVICE));
    let mut command = room.command("systemd-socket-activate");
    command.args(["-E", notify, "-l", value(&socket, "ListenStream")]);
    command.args(value(&service, "ExecStart").split(' '));
    Killed::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

#[test]
fn the_start_command_serves_the_passed_socket_says_so_and_ends_by_the_stop_signal() {
    let room = Room::new();
    room.quod(&["create", "-q", "web.qed", "1M"]).exits(0);
    let notified = UnixDatagram::bind(room.path("notify")).expect("the name is free");
    notified.set_read_timeout(Some(Duration::from_secs(60))).expect("it is a socket");
    let server = activated(&room, &format!("NOTIFY_SOCKET={}", room.path("notify").display()));
    wait_until("the activator listens", || listens(&room.path("web.sock")));

    let uri = format!("nbd+unix:///?socket={}", room.path("web.sock").display());
    room.peer("nbdinfo", &["--size", &uri]).exits(0).prints("1048576");

    assert_eq!(value(SERVICE, "Type"), "notify");
    let mut message = [0; 4096];
    let length = notified.recv(&mut message).expect("it says that it is ready");
    assert!(String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1"));

    let signal = value(SERVICE, "KillSignal").strip_prefix("SIG").expect("a signal");
    server.signal(&format!("-{signal}"));
    server.wait().exits(0).prints("everything written is in it");
}

#[test]
fn systemd_waits_longer_than_the_server_drains() {
    let patience: u64 = value(SERVICE, "TimeoutStopSec").parse().expect("seconds");
    let drain = quod_export::nbd::ServerOptions::default().drain_timeout;
    assert!(Duration::from_secs(patience) >= drain + Duration::from_secs(15));
}
