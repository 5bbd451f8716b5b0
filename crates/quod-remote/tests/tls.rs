//! Storage through TLS, with certificates made for each test, over the servers of others.

mod common;
#[path = "../../quod-export/tests/support/pki.rs"]
mod pki;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use common::{Server, connect, flush, read, write};
use pki::pki;
use tempfile::TempDir;

/// An `nbdkit` that requires TLS, and its directory of certificates.
fn nbdkit(pki: &TempDir, more: &[&str]) -> Server {
    let certificates = format!("--tls-certificates={}", pki.path().display());
    Server::nbdkit(&[&["--tls=require", &certificates], more, &["memory", "64M"]].concat())
}

fn uri(server: &Server, pki: &TempDir) -> String {
    format!("nbds+unix:///?socket={}&tls-certificates={}", server.socket().display(), pki.path().display())
}

#[test]
fn what_is_written_through_tls_is_read_through_tls() {
    let pki = pki(&["localhost"]);
    let server = nbdkit(&pki, &["--tls-verify-peer"]);
    let storage = connect(&uri(&server, &pki)).expect("both sides agree");
    let bytes: Vec<u8> = (0..5_000_000u32).map(|at| ((at * 31) >> 3) as u8).collect();
    write(&storage, 12_345, &bytes).expect("written");
    flush(&storage).expect("flushed");
    assert_eq!(read(&storage, 12_345, bytes.len()).expect("read"), bytes);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (storage, bytes) = (&storage, &bytes);
            scope.spawn(move || {
                for round in 0..20 {
                    let at = 100_000 * round + 7 * reader;
                    if round % 5 == reader {
                        write(storage, 12_345 + at as u64, &bytes[at..at + 200_000]).expect("written");
                    }
                    let read = read(storage, 12_345 + at as u64, 300_000).expect("read");
                    assert!(read == bytes[at..at + 300_000]);
                }
            });
        }
    });
}

#[test]
fn tls_over_tcp_verifies_the_name_of_the_host() {
    let pki = pki(&["127.0.0.1", "disks.example"]);
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let mut nbdkit = Command::new("nbdkit")
        .args(["-f", "--exit-with-parent", "-i", "127.0.0.1", "--tls=require", "-p", &port.to_string()])
        .arg(format!("--tls-certificates={}", pki.path().display()))
        .args(["memory", "1M"])
        .stdin(Stdio::null())
        .spawn()
        .expect("nbdkit is installed");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let name = format!("nbds://127.0.0.1:{port}/?tls-certificates={}", pki.path().display());
    let (good, other, wrong) = (
        connect(&name).and_then(|storage| read(&storage, 0, 1)),
        connect(&format!("{name}&tls-hostname=disks.example")).and_then(|storage| read(&storage, 0, 1)),
        connect(&format!("{name}&tls-hostname=elsewhere.example")).map(drop),
    );
    nbdkit.kill().and_then(|()| nbdkit.wait().map(drop)).expect("it ran");
    assert_eq!((good.expect("by address"), other.expect("by name")), (vec![0], vec![0]));
    let wrong = wrong.expect_err("a certificate for others").to_string();
    assert!(wrong.starts_with("TLS: invalid peer certificate"), "{wrong}");
}

#[test]
fn a_server_of_another_authority_is_refused() {
    let (ours, theirs) = (pki(&["localhost"]), pki(&["localhost"]));
    let server = nbdkit(&theirs, &[]);
    let error = connect(&uri(&server, &ours)).map(drop).expect_err("a stranger").to_string();
    assert!(error.starts_with("TLS: invalid peer certificate"), "{error}");
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_is_refused() {
    let theirs = pki(&["localhost"]);
    let server = nbdkit(&theirs, &["--tls-verify-peer"]);
    let ours = tempfile::tempdir().expect("a directory");
    fs::copy(theirs.path().join("ca-cert.pem"), ours.path().join("ca-cert.pem")).expect("copied");
    assert!(connect(&uri(&server, &ours)).and_then(|storage| read(&storage, 0, 1)).is_err());
}

#[test]
fn neither_side_does_without_tls_that_it_wants() {
    let pki = pki(&["localhost"]);
    let server = nbdkit(&pki, &[]);
    let error = connect(&server.uri()).map(drop).expect_err("it requires TLS").to_string();
    assert!(error.starts_with("the server requires TLS"), "{error}");
    let plain = Server::nbdkit(&["--tls=off", "memory", "1M"]);
    let error = connect(&uri(&plain, &pki)).map(drop).expect_err("it has no TLS").to_string();
    assert!(error.starts_with("the server does not offer TLS"), "{error}");
}

#[test]
fn a_directory_without_certificates_is_told() {
    let (pki, empty) = (pki(&["localhost"]), tempfile::tempdir().expect("a directory"));
    let server = nbdkit(&pki, &[]);
    let error = connect(&uri(&server, &empty)).map(drop).expect_err("nobody to trust").to_string();
    assert!(error.contains("ca-cert.pem"), "{error}");
}

#[test]
fn qemu_nbd_takes_the_same_certificates() {
    let pki = pki(&["localhost"]);
    let object = format!("tls-creds-x509,id=tls,endpoint=server,verify-peer=on,dir={}", pki.path().display());
    let server = Server::qemu_nbd(&["-f", "raw", "--object", &object, "--tls-creds", "tls"], |file| {
        fs::write(file, vec![5; 1 << 20]).expect("a file");
    });
    let storage = connect(&uri(&server, &pki)).expect("both sides agree");
    assert_eq!(read(&storage, 1000, 4000).expect("read"), vec![5; 4000]);
}
