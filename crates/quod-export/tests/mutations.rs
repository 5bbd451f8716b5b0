//! Every byte of a session spoiled in turn: whatever a field then says, the server answers or disconnects, and goes on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{self, Write};
use std::net::Shutdown;

use quod_export::nbd::ServerOptions;
use support::{Served, session};

/// What becomes of a byte.
const SPOILT: [fn(u8) -> u8; 6] =
    [|_| 0, |_| 0xff, |byte| byte ^ 1, |byte| byte ^ 0x80, |byte| byte.wrapping_add(1), |_| 0x7f];

#[test]
fn no_byte_of_a_session_can_be_spoilt_so_that_the_server_minds() {
    let served = Served::new(ServerOptions::default());
    for mode in session::MODES {
        let session = session::bytes(mode);
        for at in 0..session.len() {
            for spoil in SPOILT {
                let mut spoilt = session.clone();
                spoilt[at] = spoil(spoilt[at]);
                let mut client = served.raw();
                // The server may have gone before it has read all.
                let _heard: bool = client.stream.write_all(&spoilt).is_ok();
                let _gone: bool = client.stream.shutdown(Shutdown::Write).is_err();
                let _reset: bool = io::copy(&mut client.stream, &mut io::sink()).is_err();
            }
        }
    }
    served.still_serves();
    let summary = served.stop();
    assert_eq!(summary.cut, 0, "no request is left behind");
}
