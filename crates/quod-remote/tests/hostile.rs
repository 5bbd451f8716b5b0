//! Servers that are broken or mean: every request ends, with an error that names the server.

mod common;

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use common::scripted::{chunk, handshake, hear_options, hear_request, hole, serve};
use common::{block_on, connect, flush, read};
use quod_nbd::*;
use quod_storage::{Buffer, Storage};

/// What a client hears of a read of 4 KiB at 8 KiB, when `answer` is all that the server says to it.
fn answered(mode: Mode, answer: impl FnOnce(Request) -> Vec<u8> + Send) -> std::io::Result<Vec<u8>> {
    serve(
        move |mut client| {
            client.write_all(&handshake(mode)).expect("said");
            hear_options(&mut client, mode);
            let request = hear_request(&mut client, mode);
            let _heard: bool = client.write_all(&answer(request)).is_ok();
        },
        |name| {
            let storage = connect(name).expect("a handshake");
            let outcome = read(&storage, 8192, 4096);
            if outcome.is_err() {
                assert!(flush(&storage).is_err(), "the connection is over");
            }
            outcome
        },
    )
}

fn data(offset: u64, bytes: &[u8]) -> Vec<u8> {
    [&offset.to_be_bytes()[..], bytes].concat()
}

#[test]
fn a_handshake_that_breaks_off_at_any_byte_is_an_error() {
    for mode in [Mode::Structured, Mode::Extended] {
        let whole = handshake(mode);
        for end in (0..whole.len()).step_by(3) {
            let said = whole[..end].to_vec();
            let error = serve(
                move |mut client| {
                    client.write_all(&said).expect("said");
                    client.shutdown(std::net::Shutdown::Write).expect("shut");
                    let _rest = client.read_to_end(&mut Vec::new());
                },
                |name| connect(name).map(drop).expect_err("it broke off").to_string(),
            );
            assert_eq!(error, "the server ends the handshake", "after {end} bytes");
        }
    }
}

#[test]
fn what_is_no_nbd_server_is_told() {
    let said = b"SSH-2.0-OpenSSH_9.9p1 and so on\r\n";
    let error = serve(
        |mut client| client.write_all(said).expect("said"),
        |name| connect(name).map(drop).expect_err("another protocol").to_string(),
    );
    assert!(error.starts_with("not an NBD server"), "{error}");
}

#[test]
fn a_server_of_the_old_handshake_is_told_from_another_protocol() {
    let mut said = [0; 152];
    said[..8].copy_from_slice(&GREETING_MAGIC.to_be_bytes());
    said[8..16].copy_from_slice(&0x0000_4202_8186_1253_u64.to_be_bytes());
    let error = serve(
        move |mut client| client.write_all(&said).expect("said"),
        |name| connect(name).map(drop).expect_err("the old handshake").to_string(),
    );
    assert!(error.contains("old NBD handshake"), "{error}");
}

#[test]
fn a_reply_is_put_together_from_pieces_in_any_order() {
    for mode in [Mode::Structured, Mode::Extended] {
        let bytes = answered(mode, |request| {
            let mut out = chunk(mode, &request, 0, REPLY_OFFSET_DATA, &data(8192 + 3072, &[3; 1024]));
            out.extend(chunk(mode, &request, 0, REPLY_OFFSET_HOLE, &hole(8192 + 1024, 2048)));
            out.extend(chunk(mode, &request, 0, REPLY_OFFSET_DATA, &data(8192, &[1; 1024])));
            out.extend(chunk(mode, &request, REPLY_FLAG_DONE, REPLY_NONE, &[]));
            out
        });
        let bytes = bytes.expect("a whole reply");
        assert_eq!(bytes, [[1; 1024], [0; 1024], [0; 1024], [3; 1024]].concat());
    }
}

#[test]
fn replies_that_make_no_sense_end_the_connection_with_a_reason() {
    type Answer = fn(Mode, &Request) -> Vec<u8>;
    let whole: Answer =
        |mode, request| chunk(mode, request, REPLY_FLAG_DONE, REPLY_OFFSET_DATA, &data(8192, &[1; 4096]));
    assert!(answered(Mode::Structured, move |request| whole(Mode::Structured, &request)).is_ok());
    let cases: [(&str, Answer); 11] = [
        ("which nobody sent", |mode, request| {
            let other = Request { cookie: Cookie(request.cookie.0 + 77), ..*request };
            chunk(mode, &other, REPLY_FLAG_DONE, REPLY_NONE, &[])
        }),
        ("outside the range", |mode, request| {
            chunk(mode, request, REPLY_FLAG_DONE, REPLY_OFFSET_DATA, &data(8191, &[1; 4096]))
        }),
        ("outside the range", |mode, request| {
            chunk(mode, request, REPLY_FLAG_DONE, REPLY_OFFSET_HOLE, &hole(8192, 4097))
        }),
        ("outside the range", |mode, request| {
            chunk(mode, request, REPLY_FLAG_DONE, REPLY_OFFSET_HOLE, &hole(u64::MAX - 5, 4))
        }),
        ("longer than it can be", |mode, request| {
            let mut head = chunk(mode, request, 0, REPLY_OFFSET_DATA, &[]);
            let end = head.len();
            head[end - 4..].fill(0xff);
            head
        }),
        ("longer than it can be", |mode, request| {
            let mut head = chunk(mode, request, 0, REPLY_ERROR, &[]);
            let end = head.len();
            head[end - 4..].fill(0xff);
            head
        }),
        ("the same bytes twice", |mode, request| {
            let piece = chunk(mode, request, 0, REPLY_OFFSET_DATA, &data(8192, &[1; 512]));
            [piece.clone(), piece].concat()
        }),
        ("before all of it was there", |mode, request| {
            let piece = chunk(mode, request, 0, REPLY_OFFSET_DATA, &data(8192, &[1; 4095]));
            [piece, chunk(mode, request, REPLY_FLAG_DONE, REPLY_NONE, &[])].concat()
        }),
        ("of a kind that the request does not have", |mode, request| {
            chunk(mode, request, REPLY_FLAG_DONE, REPLY_BLOCK_STATUS, &[0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0])
        }),
        ("of a kind that the request does not have", |mode, request| chunk(mode, request, 0, 77, &[0; 12])),
        ("wrong magic number", |_, _| vec![0x55; 40]),
    ];
    for (reason, answer) in cases {
        for mode in [Mode::Structured, Mode::Extended] {
            let error = answered(mode, move |request| answer(mode, &request)).expect_err(reason);
            let told = error.to_string();
            assert!(told.starts_with("nbd+unix://") && told.contains(reason), "{reason}: {told}");
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        }
    }
}

#[test]
fn a_reply_that_breaks_off_at_any_byte_is_an_error() {
    for (mode, len) in [(Mode::Simple, 16 + 4096), (Mode::Structured, 28 + 4096), (Mode::Extended, 40 + 4096)]
    {
        for end in (0..60).chain([len - 1]) {
            let error = answered(mode, move |request| {
                let mut out = Vec::new();
                if mode == Mode::Simple {
                    encode_simple_reply(request.cookie, Ok(()), &mut out);
                    out.extend([1; 4096]);
                } else {
                    out = chunk(mode, &request, REPLY_FLAG_DONE, REPLY_OFFSET_DATA, &data(8192, &[1; 4096]));
                }
                assert_eq!(out.len(), len);
                out.truncate(end);
                out
            });
            let error = error.expect_err("it broke off").to_string();
            assert!(error.ends_with("the server closed the connection"), "{error}");
        }
    }
}

#[test]
fn an_error_with_a_sentence_fails_the_request_and_tells_the_sentence() {
    for mode in [Mode::Structured, Mode::Extended] {
        serve(
            move |mut client| {
                client.write_all(&handshake(mode)).expect("said");
                hear_options(&mut client, mode);
                let request = hear_request(&mut client, mode);
                let why = Chunk::Error { errno: Errno::NoSpc, message: "full\x1b[2J", offset: Some(8192) };
                let mut out = chunk(mode, &request, 0, REPLY_ERROR_OFFSET, &why.encode(false));
                out.extend(chunk(mode, &request, 0, REPLY_OFFSET_DATA, &data(8192, &[1; 512])));
                out.extend(chunk(mode, &request, REPLY_FLAG_DONE, REPLY_NONE, &[]));
                client.write_all(&out).expect("said");
                let flush = hear_request(&mut client, mode);
                client.write_all(&chunk(mode, &flush, REPLY_FLAG_DONE, REPLY_NONE, &[])).expect("said");
            },
            |name| {
                let storage = connect(name).expect("a handshake");
                let error = read(&storage, 8192, 4096).expect_err("the server fails it");
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                assert!(error.to_string().ends_with("the server reports: full [2J"), "{error}");
                flush(&storage).expect("the connection goes on");
            },
        );
    }
}

#[test]
fn a_server_that_goes_while_many_wait_fails_them_all() {
    serve(
        |mut client| {
            client.write_all(&handshake(Mode::Simple)).expect("said");
            hear_options(&mut client, Mode::Simple);
            for _ in 0..8 {
                hear_request(&mut client, Mode::Simple);
            }
        },
        |name| {
            let storage = connect(name).expect("a handshake");
            thread::scope(|scope| {
                for at in 0..8 {
                    let storage = &storage;
                    scope.spawn(move || {
                        let error = read(storage, at * 512, 512).expect_err("no answer").to_string();
                        assert!(error.starts_with("nbd+unix://"), "{error}");
                    });
                }
            });
        },
    );
}

#[test]
fn a_server_that_says_nothing_is_left_in_the_end() {
    let begun = Instant::now();
    let error = serve(
        |mut client| {
            // A byte now and then does not keep the client.
            for byte in encode_greeting(FLAG_FIXED_NEWSTYLE) {
                if client.write_all(&[byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(900));
            }
        },
        |name| connect(name).map(drop).expect_err("too slow"),
    );
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_server_that_does_not_hear_the_goodbye_does_not_keep_the_client() {
    let begun = serve(
        |mut client| {
            client.write_all(&handshake(Mode::Simple)).expect("said");
            thread::sleep(Duration::from_secs(5));
        },
        |name| {
            let storage = connect(name).expect("a handshake");
            let mut dropped = Box::pin(storage.read_at(0, Buffer::zeroed(512).into()));
            assert!(block_on(futures_lite::future::poll_once(&mut dropped)).is_none());
            drop(dropped);
            let begun = Instant::now();
            drop(storage);
            begun.elapsed()
        },
    );
    assert!(begun < Duration::from_secs(4), "{begun:?}");
}
