//! Servers that say what a test has them say.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use quod_nbd::*;

/// Of the disk, in bytes.
const SIZE: u64 = 1 << 20;

/// Serves one client on a socket of its own, and runs `client` with the name of it.
pub(crate) fn serve<T>(server: impl FnOnce(UnixStream) + Send, client: impl FnOnce(&str) -> T) -> T {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    thread::scope(|scope| {
        scope.spawn(move || server(listener.accept().expect("a client").0));
        client(&format!("nbd+unix:///?socket={}", socket.display()))
    })
}

/// What a server says in a whole handshake, up to transmission.
pub(crate) fn handshake(mode: Mode) -> Vec<u8> {
    let mut out = encode_greeting(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_vec();
    let mut say = |option, reply, data: &[u8]| encode_option_reply(&mut out, option, reply, data);
    let yes = |wanted| if mode == wanted { REP_ACK } else { REP_ERR_UNSUP };
    say(OPT_EXTENDED_HEADERS, yes(Mode::Extended), b"");
    if mode != Mode::Extended {
        say(OPT_STRUCTURED_REPLY, yes(Mode::Structured), b"");
    }
    if mode != Mode::Simple {
        say(OPT_SET_META_CONTEXT, REP_META_CONTEXT, &encode_context(ContextId(3), BASE_ALLOCATION));
        say(OPT_SET_META_CONTEXT, REP_ACK, b"");
    }
    let flags = TX_HAS_FLAGS | TX_SEND_FLUSH | TX_SEND_WRITE_ZEROES;
    say(OPT_GO, REP_INFO, &Info::Export { size: SIZE, flags }.encode());
    say(OPT_GO, REP_ACK, b"");
    out
}

/// Takes in what a client says in its handshake.
pub(crate) fn hear_options(client: &mut UnixStream, mode: Mode) {
    let options = match mode {
        Mode::Extended | Mode::Simple => 3,
        Mode::Structured => 4,
    };
    client.read_exact(&mut [0; CLIENT_FLAGS_LEN]).expect("flags");
    for _ in 0..options {
        let mut head = [0; OPTION_LEN];
        client.read_exact(&mut head).expect("an option");
        let length = OptionHeader::decode(&head).expect("an option").length;
        client.read_exact(&mut vec![0; length as usize]).expect("its data");
    }
}

/// Takes a request without a payload in.
pub(crate) fn hear_request(client: &mut UnixStream, mode: Mode) -> Request {
    let mut head = vec![0; mode.request_len()];
    client.read_exact(&mut head).expect("a request");
    Request::decode(mode, &head).expect("a request")
}

/// A chunk of a reply.
pub(crate) fn chunk(mode: Mode, request: &Request, flags: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    let head = ChunkHead {
        flags,
        kind,
        cookie: request.cookie,
        offset: request.offset,
        length: payload.len() as u64,
    };
    let mut out = Vec::new();
    head.encode(mode, &mut out);
    out.extend(payload);
    out
}

/// The payload of a chunk of zeroes.
pub(crate) fn hole(offset: u64, length: u32) -> Vec<u8> {
    Chunk::OffsetHole { offset, length }.encode(false)
}
