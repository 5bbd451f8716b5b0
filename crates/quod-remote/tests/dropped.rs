//! Requests and handles that nobody waits for any more.

mod common;

use std::io::{Read, Write};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::scripted::{chunk, handshake, hear_options, hear_request, hole, serve};
use common::{block_on, connect, flush, read};
use quod_nbd::*;
use quod_storage::{Held, Storage};

#[test]
fn a_flush_that_failed_for_nobody_fails_the_next() {
    let mode = Mode::Structured;
    serve(
        move |mut client| {
            client.write_all(&handshake(mode)).expect("said");
            hear_options(&mut client, mode);
            for result in [Err(Errno::Io), Ok(()), Ok(()), Ok(())] {
                let request = hear_request(&mut client, mode);
                // By now nobody waits for the first.
                thread::sleep(Duration::from_millis(200));
                let mut out = Vec::new();
                match request.command {
                    Command::Read => {
                        let hole = hole(request.offset, request.length as u32);
                        out = chunk(mode, &request, REPLY_FLAG_DONE, REPLY_OFFSET_HOLE, &hole);
                    }
                    _ => encode_simple_reply(request.cookie, result, &mut out),
                }
                client.write_all(&out).expect("said");
            }
        },
        |name| {
            let storage = connect(name).expect("a handshake");
            let mut dropped = Box::pin(storage.flush(Held::NOTHING));
            assert!(block_on(futures_lite::future::poll_once(&mut dropped)).is_none());
            drop(dropped);
            // Its reply comes after that of the flush.
            read(&storage, 0, 512).expect("read");
            assert_eq!(flush(&storage).expect_err("what was dropped").kind(), error_kind(Errno::Io));
            flush(&storage).expect("told once");
        },
    );
}

#[test]
fn a_flush_that_fails_for_nobody_fails_the_one_that_is_on_its_way() {
    let mode = Mode::Structured;
    serve(
        move |mut client| {
            client.write_all(&handshake(mode)).expect("said");
            hear_options(&mut client, mode);
            let both = [hear_request(&mut client, mode), hear_request(&mut client, mode)];
            for (request, result) in both.iter().zip([Err(Errno::Io), Ok(())]) {
                let mut out = Vec::new();
                encode_simple_reply(request.cookie, result, &mut out);
                client.write_all(&out).expect("said");
            }
        },
        |name| {
            let storage = connect(name).expect("a handshake");
            let mut dropped = Box::pin(storage.flush(Held::NOTHING));
            assert!(block_on(futures_lite::future::poll_once(&mut dropped)).is_none());
            drop(dropped);
            assert_eq!(flush(&storage).expect_err("what was dropped").kind(), error_kind(Errno::Io));
        },
    );
}

/// Owns a handle, and tells whether it could be dropped.
struct LastHandle {
    storage: Option<common::Remote>,
    dropped: mpsc::Sender<bool>,
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        let storage = self.storage.take();
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(storage)));
        self.dropped.send(dropped.is_ok()).expect("somebody listens");
    }
}

#[test]
fn the_last_handle_may_be_what_a_request_holds() {
    let mode = Mode::Structured;
    let (dropped, outcome) = mpsc::channel();
    let (leaves, answers) = mpsc::channel();
    serve(
        move |mut client| {
            client.write_all(&handshake(mode)).expect("said");
            hear_options(&mut client, mode);
            let request = hear_request(&mut client, mode);
            answers.recv().expect("nothing but the request has the handle");
            let mut out = Vec::new();
            encode_simple_reply(request.cookie, Ok(()), &mut out);
            client.write_all(&out).expect("said");
            client.read_to_end(&mut Vec::new()).expect("the end");
        },
        |name| {
            let storage = connect(name).expect("a handshake");
            let last = LastHandle { storage: Some(storage.clone()), dropped };
            let mut flush = Box::pin(storage.flush(Held::new(Arc::new(last))));
            assert!(block_on(futures_lite::future::poll_once(&mut flush)).is_none());
            drop(flush);
            drop(storage);
            leaves.send(()).expect("the server is there");
            assert_eq!(outcome.recv_timeout(Duration::from_secs(20)), Ok(true));
        },
    );
}

fn error_kind(errno: Errno) -> std::io::ErrorKind {
    std::io::Error::from_raw_os_error(errno as i32).kind()
}
