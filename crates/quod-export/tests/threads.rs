//! A server with several event loops: one disk for all clients, whichever loop they are on.

mod support;

use std::num::NonZero;
use std::sync::Barrier;
use std::thread;

use quod::block_on;
use quod_export::nbd::{ClientStats, RequestKind, ServerOptions};
use quod_nbd::Command;
use support::{SIZE, Served};

const CLUSTER: u64 = 64 << 10;

fn on(threads: usize) -> ServerOptions {
    let mut options = ServerOptions::default();
    options.threads = NonZero::new(threads).expect("there are loops");
    options
}

#[test]
fn what_one_loop_wrote_another_reads_and_flushes() {
    let served = Served::new(on(3));
    let mut clients: Vec<_> = (0..6).map(|_| served.client()).collect();
    for (number, writer) in (0..6_u8).zip(0..6) {
        let bytes = [number + 1; 5000];
        assert_eq!(clients[writer].write(u64::from(number) * 5000, &bytes), Ok(()));
        assert_eq!(clients[(writer + 1) % 6].call(Command::Flush, 0, 0, 0), Ok(()));
        for reader in &mut clients {
            assert_eq!(reader.read(u64::from(number) * 5000, 5000).unwrap(), bytes);
        }
    }
    drop(clients);
    let summary = served.stop();
    assert_eq!((summary.accepted, summary.refused, summary.cut), (6, 0, 0));
}

#[test]
fn an_observer_adds_up_what_all_loops_have_done() {
    let mut options = on(3);
    options.latencies = true;
    let served = Served::new(options);
    let mut clients: Vec<_> = (0..6).map(|_| served.client()).collect();
    for (number, client) in (0..).zip(&mut clients) {
        assert_eq!(client.write(number * CLUSTER, &[1; 512]), Ok(()));
        client.read(SIZE, 512).expect_err("it is past the end");
    }
    let export = served.observer.exports().next().expect("there is one");
    let [reads, writes] = [RequestKind::Read, RequestKind::Write].map(|kind| export.requests[kind as usize]);
    assert_eq!((reads.answered, reads.failed, reads.bytes, reads.in_flight), (6, 6, 0, 0));
    assert_eq!((writes.answered, writes.failed, writes.bytes, writes.in_flight), (6, 0, 6 * 512, 0));
    assert_eq!(writes.latencies.map(|latencies| latencies.count()), Some(6));
    assert_eq!((export.clients, export.image.entries_written), (6, 7));
    let ClientStats { connected, accepted, refused, .. } = served.observer.clients();
    assert_eq!((connected, accepted, refused), (6, 6, 0));
    drop(clients);
    served.stop();
}

/// First writes of parts of the same clusters, all at the same time, each part by another loop.
#[test]
fn first_writes_on_all_loops_at_once_lose_nothing() {
    const CLIENTS: usize = 4;
    let part = CLUSTER / CLIENTS as u64;
    let served = Served::new(on(CLIENTS));
    let start = Barrier::new(CLIENTS);
    let clusters = SIZE / CLUSTER;
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (mut client, start) = (served.client(), &start);
            scope.spawn(move || {
                for cluster in 0..clusters {
                    start.wait();
                    let at = cluster * CLUSTER + number as u64 * part;
                    assert_eq!(client.write(at, &vec![number as u8 + 1; part as usize]), Ok(()));
                }
            });
        }
    });
    let mut client = served.client();
    for cluster in 0..clusters {
        let read = client.read(cluster * CLUSTER, CLUSTER as u32).unwrap();
        for (number, bytes) in read.chunks(part as usize).enumerate() {
            assert!(bytes.iter().all(|&byte| byte == number as u8 + 1), "cluster {cluster}, part {number}");
        }
    }
    drop(client);
    let image = served.image.clone();
    served.stop();
    block_on(image.close()).expect("it is sound");
}

#[test]
fn bounds_of_clients_are_those_of_the_server() {
    let mut options = on(3);
    options.max_connections = 4;
    let served = Served::new(options);
    let mut clients: Vec<_> = (0..4).map(|_| served.client()).collect();
    served.raw().is_disconnected();
    for client in &mut clients {
        assert_eq!(client.read(0, 512).unwrap(), [0; 512]);
    }
    drop(clients);
    assert_eq!(served.stop().refused, 1);
}

#[test]
fn it_ends_when_the_last_client_of_the_last_loop_leaves() {
    let mut options = on(3);
    options.once = true;
    let served = Served::new(options);
    let mut clients: Vec<_> = (0..3).map(|_| served.client()).collect();
    let mut last = clients.remove(1);
    drop(clients);
    assert_eq!(last.write(0, &[7; 512]), Ok(()));
    drop(last);
    assert_eq!(served.ended().accepted, 3);
}

#[test]
fn requests_of_all_loops_are_answered_before_it_ends() {
    let served = Served::new(on(3));
    let mut clients: Vec<_> = (0..3).map(|_| served.client()).collect();
    let mut cookies = Vec::new();
    for client in &mut clients {
        // Each takes a while: the whole disk, with the data before it.
        cookies.push(client.request(Command::Cache, 0, 0, SIZE as u32));
        cookies.push(client.request(Command::Flush, 0, 0, 0));
    }
    thread::sleep(std::time::Duration::from_millis(100));
    served.tell_to_stop();
    for (client, asked) in clients.iter_mut().zip(cookies.chunks(2)) {
        let mut answered = [client.reply(), client.reply()].map(|(cookie, result)| {
            result.unwrap();
            cookie
        });
        answered.sort_by_key(|cookie| cookie.0);
        assert_eq!(answered, asked);
        client.is_disconnected();
    }
    assert_eq!(served.ended().cut, 0);
}

/// Many tasks of one loop are woken by another: by the word that the server closes, and by a load that they all wait for.
#[test]
fn a_crowd_on_every_loop_is_woken_by_the_others() {
    let served = Served::new(on(2));
    let mut clients: Vec<_> = (0..300).map(|_| served.client()).collect();
    for client in &mut clients {
        for block in 0..4 {
            client.request(Command::Read, 0, block * 4096, 4096);
        }
    }
    for client in &mut clients {
        for _ in 0..4 {
            assert_eq!(client.reply().1, Ok(()));
            client.bytes(4096);
        }
    }
    served.tell_to_stop();
    clients.iter_mut().for_each(support::Client::is_disconnected);
    assert_eq!(served.ended().cut, 0);
}
