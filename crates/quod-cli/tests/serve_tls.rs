//! `quod serve` and `quod`'s verbs over TLS, with the tools of others at the other end.

mod common;
#[path = "../../quod-export/tests/support/pki.rs"]
mod pki;

use std::process::Stdio;

use common::serving::Serving;
use common::{Killed, Room, listens, wait_until};
use pki::pki;

/// A server of a new disk that requires TLS; the URI for a client, which has the same certificates.
fn secured(room: &Room, certificates: &str, more: &[&str]) -> (Serving, String) {
    let tls = ["--create", "24M", "a.qed", "--tls-certificates", certificates];
    let serving = Serving::start(room, &[&tls, more].concat());
    let socket = room.path("a.qed.sock");
    (serving, format!("nbds+unix:///?socket={}&tls-certificates={certificates}", socket.display()))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at ^ at >> 9).wrapping_mul(31) as u8).collect()
}

#[test]
fn nbdinfo_and_nbdcopy_use_a_disk_over_tls() {
    let (room, pki) = (Room::new(), pki(&["localhost"]));
    let (serving, uri) = secured(&room, pki.path().to_str().expect("a plain name"), &[]);
    assert!(serving.welcome.contains(&format!("nbdcopy '{uri}'")), "{}", serving.welcome);
    room.peer("nbdinfo", &[&uri]).exits(0).prints("with TLS");
    room.write("source.raw", &pattern(24 << 20));
    room.peer("nbdcopy", &["--connections=4", "--flush", "source.raw", &uri]).exits(0);
    room.peer("nbdcopy", &["--connections=4", &uri, "copy.raw"]).exits(0);
    assert!(room.read("copy.raw") == room.read("source.raw"));
    let ran = serving.stop("-TERM").exits(0);
    assert!(!ran.err.contains("Warning"), "{ran:?}");
    room.quod(&["compare", "-f", "qed", "-F", "raw", "a.qed", "source.raw"]).exits(0);
}

#[test]
fn who_does_not_begin_with_tls_gets_nothing() {
    let (room, pki) = (Room::new(), pki(&["localhost"]));
    let (serving, _) = secured(&room, pki.path().to_str().expect("a plain name"), &[]);
    let clear = format!("nbd+unix:///?socket={}", room.path("a.qed.sock").display());
    for list in [&["--list"][..], &[]] {
        let ran = room.peer("nbdinfo", &[list, &[&clear]].concat());
        assert!(ran.code != Some(0) && !ran.out.contains("export-size"), "{ran:?}");
    }
    room.peer("qemu-img", &["info", &clear]).exits(1).tells("TLS");
    room.quod(&["info", &clear]).exits(1).tells("TLS");
    serving.stop("-TERM").exits(0);
}

#[test]
fn only_clients_with_a_certificate_are_let_in_where_that_is_asked_for() {
    let (room, pki) = (Room::new(), pki(&["localhost"]));
    let (serving, uri) = secured(&room, pki.path().to_str().expect("a plain name"), &["--tls-verify-peer"]);
    room.peer("nbdinfo", &["--size", &uri]).exits(0).prints(&(24 << 20).to_string());
    room.quod(&["io", "-f", "raw", "-c", "write -P 5 1M 64k", "-c", "read -P 5 1M 64k", &uri]).exits(0);
    for certificate in ["client-cert.pem", "client-key.pem"] {
        std::fs::remove_file(pki.path().join(certificate)).expect("it was there");
    }
    assert_ne!(room.peer("nbdinfo", &["--size", &uri]).code, Some(0));
    room.quod(&["info", &uri]).exits(1).tells("Could not open 'nbds+unix://");
    serving.stop("-TERM").exits(0);
}

#[test]
fn over_tcp_the_certificate_must_name_the_host() {
    let (room, pki) = (Room::new(), pki(&["localhost"]));
    let certificates = pki.path().to_str().expect("a plain name");
    let (serving, _) = secured(&room, certificates, &["--listen", "127.0.0.1:0"]);
    let (_, port) = serving.welcome.split_once("127.0.0.1:").expect("it names its port");
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let uri = |host: &str| format!("nbds://{host}:{port}/?tls-certificates={certificates}");
    for uri in [uri("localhost"), format!("{}&tls-hostname=localhost", uri("127.0.0.1"))] {
        room.quod(&["info", &uri]).exits(0).prints("virtual size: 24 MiB");
    }
    room.peer("nbdinfo", &["--size", &uri("localhost")]).exits(0);
    room.quod(&["info", &uri("127.0.0.1")]).exits(1).tells("certificate");
    serving.stop("-TERM").exits(0);
}

#[test]
fn our_verbs_use_a_disk_of_nbdkit_over_tls() {
    let (room, pki) = (Room::new(), pki(&["localhost"]));
    room.write("disk.raw", &pattern(8 << 20));
    let certificates = format!("--tls-certificates={}", pki.path().display());
    let mut nbdkit = room.command("nbdkit");
    let socket = room.path("kit.sock");
    nbdkit.args(["-f", "--tls=require", "--tls-verify-peer", &certificates, "-U"]).arg(&socket);
    let _nbdkit = Killed::spawn(nbdkit.args(["file", "disk.raw"]).stdin(Stdio::null()));
    wait_until("nbdkit listens", || listens(&socket));
    let uri = format!("nbds+unix:///?socket={}&tls-certificates={}", socket.display(), pki.path().display());
    room.quod(&["info", &uri]).exits(0).prints("virtual size: 8 MiB");
    room.quod(&["compare", "-f", "raw", "-F", "raw", &uri, "disk.raw"]).exits(0).prints("identical");
    room.quod(&["io", "-f", "raw", "-c", "write -P 9 70k 200k", "-c", "flush", &uri]).exits(0);
    room.quod(&["io", "-f", "raw", "-c", "read -P 9 70k 200k", "disk.raw"]).exits(0);
    room.quod(&["map", "--output=json", &uri]).exits(0).prints("\"length\": 8388608");
}

#[test]
fn what_keeps_tls_from_being_had_is_told_before_anything_is_made() {
    let (room, pki) = (Room::new(), pki(&["localhost"]));
    let certificates = pki.path().to_str().expect("a plain name");
    let fails = |args: &[&str], told: &str| {
        room.quod(&[&["serve", "--create", "24M", "b.qed"], args].concat()).exits(1).tells(told);
        assert!(!room.path("b.qed").exists() && !room.path("b.qed.sock").exists());
    };
    fails(&["--tls", "require"], "--tls-certificates DIR");
    fails(&["--tls-verify-peer"], "--tls-certificates DIR");
    fails(&["--tls-verify-peer", "--tls", "off", "--tls-certificates", certificates], "--tls=off");
    fails(&["--tls-certificates", "nowhere"], "nowhere/server-cert.pem: No such file");
    fails(&["--tls", "maybe", "--tls-certificates", certificates], "maybe");
    std::fs::write(pki.path().join("server-key.pem"), "no key").expect("it was there");
    fails(&["--tls-certificates", certificates], "server-key.pem: ");
}
