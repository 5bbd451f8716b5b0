//! Where `quod serve` listens: TCP, several sockets, and those that a service manager passes.

mod common;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use common::serving::Serving;
use common::{Killed, QUOD, Room, listens, wait_until};

fn room() -> Room {
    let room = Room::new();
    room.quod(&["create", "-q", "a.qed", "1M"]).exits(0);
    room
}

/// The port that the welcome names.
fn port(serving: &Serving) -> u16 {
    let (_, rest) = serving.welcome.split_once(" 127.0.0.1:").expect("it is on TCP");
    rest.split_whitespace().next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn tcp_is_served_when_asked_for_and_the_real_port_is_told() {
    let room = room();
    let serving = Serving::start(&room, &["--listen", "127.0.0.1:0", "-x", "disk", "a.qed"]);
    assert!(!room.path("a.qed.sock").exists(), "no other place was asked for");
    let uri = format!("nbd://127.0.0.1:{}/disk", port(&serving));
    assert_eq!(serving.uri(), uri);
    room.peer("nbdinfo", &["--size", &uri]).exits(0).prints("1048576");
    room.peer("qemu-io", &["-f", "raw", "-c", "write -P 7 0 1M", "-c", "flush", &uri]).exits(0);
    room.peer("nbdcopy", &[&uri, "copy.raw"]).exits(0);
    // Commands of the welcome work as they stand.
    for command in serving.welcome.lines().filter_map(|line| line.strip_prefix("  qemu-i")) {
        room.run("bash", &["-c", &format!("qemu-i{command}")], "quit\n").exits(0);
    }
    serving
        .stop("-TERM")
        .exits(0)
        .tells("Every user of this machine can read and write what is served on 127.0.0.1:");
    room.quod(&["compare", "a.qed", "copy.raw"]).exits(0);
}

#[test]
fn who_listens_to_the_world_without_tls_is_warned_once() {
    let room = room();
    let serving = Serving::start(&room, &["-r", "--listen", "0.0.0.0:0", "-p", "0", "-k", "s.sock", "a.qed"]);
    room.peer("nbdinfo", &["--size", &format!("nbd://127.0.0.1:{}/", port(&serving))]).exits(0);
    let socket = format!("nbd+unix:///?socket={}", room.path("s.sock").display());
    room.peer("nbdinfo", &["--size", &socket]).exits(0);
    let ran = serving.stop("-TERM").exits(0);
    assert_eq!(ran.err.matches("can read what is served").count(), 1, "{ran:?}");
    assert!(ran.err.contains("Warning: TLS is not required: whoever can reach 0.0.0.0:"), "{ran:?}");
    assert!(!room.path("s.sock").exists());
}

#[test]
fn a_port_that_is_taken_is_told_and_the_image_closed() {
    let room = room();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    room.quod(&["serve", "-p", &port, "a.qed"])
        .exits(1)
        .tells(&format!("127.0.0.1:{port}: cannot listen on this address: Address already in use"));
    for (flag, value, why) in [
        ("--listen", "127.0.0.1:x", "--listen '127.0.0.1:x': 'x' is not a port"),
        ("--listen", "[::1", "--listen '[::1': not an address"),
        ("--listen", "", "--listen '': not an address"),
        ("--bind", "127.0.0.1:99", "--bind '127.0.0.1:99': not an address"),
        ("--bind", "", "--bind '': not an address"),
    ] {
        room.quod(&["serve", flag, value, "a.qed"]).exits(1).tells(why);
    }
    room.quod(&["info", "--output=json", "a.qed"]).exits(0).prints("\"dirty-flag\": false");
}

#[test]
fn clients_that_die_on_tcp_take_nobody_with_them() {
    let room = room();
    let serving = Serving::start(&room, &["-p", "0", "a.qed"]);
    let port = port(&serving);
    let mut half: Vec<_> = (0..20).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for stream in &mut half {
        stream.read_exact(&mut [0; 18]).unwrap();
    }
    let mut command = room.command("qemu-io");
    command.args(["-f", "raw", "-c", "write 0 1M", "-c", "sleep 60000", serving.uri()]);
    let killed = Killed::spawn(command.stdout(Stdio::null()));
    std::thread::sleep(Duration::from_millis(300));
    drop(killed);
    drop(half);
    room.peer("qemu-io", &["-f", "raw", "-c", "write -P 3 0 1M", "-c", "read -P 3 0 1M", serving.uri()])
        .exits(0);
    serving.stop("-TERM").exits(0);
}

#[test]
fn sockets_of_a_service_manager_are_served_on_and_keep_their_names() {
    let room = room();
    let socket = room.path("passed.sock");
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = room.command("systemd-socket-activate");
    command.arg("-l").arg(&socket).args(["-l", &format!("127.0.0.1:{port}"), QUOD, "serve", "a.qed"]);
    let server = Killed::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    wait_until("the activator listens", || listens(&socket));
    // It becomes the server with the first client.
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    wait_until("it answers", || room.peer("nbdinfo", &["--size", &uri]).code == Some(0));
    room.peer("nbdinfo", &["--size", &format!("nbd://127.0.0.1:{port}/")]).exits(0);
    assert!(!room.path("a.qed.sock").exists(), "no other place was asked for");
    server.signal("-TERM");
    server.wait().exits(0).prints(&format!("and 127.0.0.1:{port}\n"));
    assert!(socket.exists(), "its name is the service manager's");
}

#[test]
fn what_is_passed_to_another_process_is_ignored_and_what_is_no_socket_is_refused() {
    let room = room();
    let mut command = room.command(QUOD);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").args(["serve", "a.qed"]);
    let serving = Serving::start_as(&mut command);
    assert!(room.path("a.qed.sock").exists());
    serving.stop("-TERM").exits(0);
    for (passed, why) in [
        ("LISTEN_FDS=1 exec 3>&-", "Socket 0 of LISTEN_FDS cannot be served on"),
        ("LISTEN_FDS=1 exec 3</dev/null", "Socket 0 of LISTEN_FDS cannot be served on"),
        ("LISTEN_FDS=4000000000 exec", "at most 64 sockets"),
    ] {
        let (variable, redirect) = passed.split_once(' ').unwrap();
        let redirect = redirect.strip_prefix("exec").unwrap();
        let script = format!("export {variable} LISTEN_PID=$$; exec '{QUOD}' serve a.qed {redirect}");
        room.peer("bash", &["-c", &script]).exits(1).tells(why);
    }
    assert!(!room.path("a.qed.sock").exists());
}
