//! Where a server listens, how many it lets in, and when it has served enough.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use quod_export::nbd::{Address, BindError, Server, ServerOptions};
use quod_nbd::*;
use support::Served;

const MOMENT: Duration = Duration::from_millis(300);

fn shared(most: usize) -> ServerOptions {
    let mut options = ServerOptions::default();
    options.shared = most;
    options
}

fn once() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.once = true;
    options
}

#[test]
fn who_comes_while_all_places_are_taken_waits_for_one() {
    let served = Served::new(shared(2));
    let (mut one, mut two) = (served.client(), served.client());
    let mut waits = served.raw();
    waits.stream.set_read_timeout(Some(MOMENT)).unwrap();
    let nothing = waits.stream.read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock, "it is neither greeted nor let go");
    assert_eq!(one.write(0, &[1; 512]), Ok(()));
    drop(one);
    waits.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!(decode_greeting(&waits.array()).is_ok());
    assert_eq!(two.read(0, 512).unwrap(), [1; 512]);
    drop((two, waits));
    served.still_serves();
    assert_eq!(served.stop().refused, 0);
}

#[test]
fn a_server_for_one_time_ends_when_the_last_of_its_clients_has_left() {
    let served = Served::new(once());
    // One that only looks is no user.
    let mut looker = served.greeted();
    looker.option(OPT_LIST, &[]);
    while looker.option_reply(OPT_LIST).0 != REP_ACK {}
    drop(looker);
    let (mut one, two) = (served.client(), served.client());
    drop(two);
    std::thread::sleep(MOMENT);
    assert_eq!(one.write(0, &[1; 512]), Ok(()));
    drop(served.client());
    assert!(served.socket.exists());
    let socket = served.socket.clone();
    drop(one);
    let summary = served.ended();
    assert_eq!((summary.accepted, summary.cut), (4, 0));
    assert!(!socket.exists());
}

#[test]
fn a_server_for_one_time_ends_when_it_is_told_to_as_well() {
    let served = Served::new(once());
    let mut client = served.client();
    served.tell_to_stop();
    client.is_disconnected();
    assert_eq!(served.ended().cut, 0);
}

#[test]
fn tcp_ports_are_told_and_a_taken_one_is_an_error() {
    let mut server = Server::new(ServerOptions::default());
    for ip in ["127.0.0.1:0", "127.0.0.1:0"] {
        server.bind_tcp(ip.parse().unwrap()).unwrap();
    }
    let addresses: Vec<Address> = server.addresses().cloned().collect();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let Address::Tcp(tcp) = address else { panic!("{address} is not TCP") };
        assert!(tcp.port() != 0 && Address::Tcp(tcp).is_local());
        let taken = Server::new(ServerOptions::default()).bind_tcp(tcp).unwrap_err();
        assert!(matches!(&taken, BindError::Tcp { address, .. } if *address == tcp), "{taken:?}");
    }
    assert!(!Address::Tcp(SocketAddr::from(([0, 0, 0, 0], 1))).is_local());
}

#[test]
fn sockets_that_listen_are_taken_over_and_keep_their_name_and_others_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inherited.sock");
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let mut server = Server::new(ServerOptions::default());
    server.adopt(UnixListener::bind(&path).unwrap().into()).unwrap();
    server.adopt(tcp.into()).unwrap();
    let addresses: Vec<_> = server.addresses().cloned().collect();
    assert_eq!(addresses, [Address::Unix(path.clone()), Address::Tcp(address)]);
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_eq!(server.adopt(datagrams.into()).unwrap_err().kind(), ErrorKind::InvalidInput);
    let (connected, _peer) = UnixStream::pair().unwrap();
    assert_eq!(server.adopt(connected.into()).unwrap_err().kind(), ErrorKind::InvalidInput);
    drop(server);
    assert!(path.exists());
}
