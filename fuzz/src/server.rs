//! What an NBD server says, out of a fuzzer's bytes.
//!
//! Role: a handshake that is raw, or sound with mistakes in it; then a reply to each request: honest, an error, or
//! nonsense, after which nothing more is said.
//!
//! Invariant: what is said depends on the bytes and on what was asked, not on time.
//!
//! Absent on purpose: a disk. [`byte_at`] says what every byte of it is, whatever is written.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use arbitrary::{Result, Unstructured};
use quod_nbd::*;

const CONTEXT: ContextId = ContextId(3);
/// Runs of bytes of one kind.
const RUN: u64 = 256;

/// Every byte of the disk; some runs are zeroes.
pub(crate) fn byte_at(at: u64) -> u8 {
    (at / RUN % 5) as u8
}

/// What a server says until transmission begins, or until it gives up.
pub(crate) fn handshake(bytes: &mut Unstructured<'_>) -> Vec<u8> {
    let how = bytes.int_in_range(0..=7u8).unwrap_or(0);
    if how == 0 {
        let count = bytes.arbitrary::<u16>().map_or(0, usize::from).min(bytes.len());
        return bytes.bytes(count).map_or_else(|_| Vec::new(), <[u8]>::to_vec);
    }
    let mut said = Vec::new();
    // Where the bytes end, the server falls silent.
    let _whole: bool = options(bytes, &mut said).and_then(|()| mistakes(bytes, how, &mut said)).is_ok();
    said
}

/// The replies of a handshake.
fn options(bytes: &mut Unstructured<'_>, said: &mut Vec<u8>) -> Result<()> {
    let flags = if bytes.ratio(1, 8)? { bytes.arbitrary()? } else { FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES };
    said.extend(encode_greeting(flags));
    if flags & FLAG_FIXED_NEWSTYLE == 0 {
        return by_name(bytes, flags, said);
    }
    let mode = bytes.int_in_range(0..=2u8)?;
    encode_option_reply(said, OPT_EXTENDED_HEADERS, if mode == 2 { REP_ACK } else { REP_ERR_UNSUP }, &[]);
    if mode != 2 {
        encode_option_reply(said, OPT_STRUCTURED_REPLY, if mode == 1 { REP_ACK } else { REP_ERR_UNSUP }, &[]);
    }
    if mode != 0 {
        for _ in 0..bytes.int_in_range(0..=2u8)? {
            let name = *bytes.choose(&[BASE_ALLOCATION, BASE_ALLOCATION, "x:y", ""])?;
            encode_option_reply(said, OPT_SET_META_CONTEXT, REP_META_CONTEXT, &encode_context(CONTEXT, name));
        }
        let end = if bytes.ratio(1, 8)? { REP_ERR_UNKNOWN } else { REP_ACK };
        encode_option_reply(said, OPT_SET_META_CONTEXT, end, &[]);
    }
    if bytes.ratio(1, 8)? {
        encode_option_reply(said, OPT_GO, REP_ERR_UNSUP, b"what?");
        return by_name(bytes, flags, said);
    }
    let flags = tx_flags(bytes)?;
    let export = Info::Export { size: size(bytes)?, flags };
    encode_option_reply(said, OPT_GO, REP_INFO, &export.encode());
    for _ in 0..bytes.int_in_range(0..=2u8)? {
        let info = match bytes.int_in_range(0..=3u8)? {
            0 => Info::Name("name"),
            1 => Info::Unknown(bytes.arbitrary()?),
            _ => block_sizes(bytes)?,
        };
        encode_option_reply(said, OPT_GO, REP_INFO, &info.encode());
    }
    encode_option_reply(said, OPT_GO, REP_ACK, &[]);
    Ok(())
}

fn by_name(bytes: &mut Unstructured<'_>, flags: u16, said: &mut Vec<u8>) -> Result<()> {
    said.extend(encode_export_name_reply(size(bytes)?, tx_flags(bytes)?));
    if flags & FLAG_NO_ZEROES == 0 {
        said.extend([0; EXPORT_NAME_ZEROES]);
    }
    Ok(())
}

fn tx_flags(bytes: &mut Unstructured<'_>) -> Result<u16> {
    let usual = TX_HAS_FLAGS | TX_SEND_FLUSH | TX_SEND_FUA;
    Ok(if bytes.ratio(1, 2)? { usual | TX_SEND_WRITE_ZEROES } else { bytes.arbitrary()? })
}

fn size(bytes: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match bytes.int_in_range(0..=7u8)? {
        0 => bytes.arbitrary()?,
        1 => u64::from(bytes.arbitrary::<u16>()?),
        2 => i64::MAX as u64 - u64::from(bytes.arbitrary::<u16>()?),
        _ => 1 << 20,
    })
}

fn block_sizes(bytes: &mut Unstructured<'_>) -> Result<Info<'static>> {
    if bytes.ratio(1, 8)? {
        let [minimum, preferred, maximum] = bytes.arbitrary()?;
        // More requests than this prove nothing more.
        return Ok(Info::BlockSize { minimum, preferred, maximum: maximum | 256 });
    }
    let minimum = 1 << bytes.int_in_range(0..=16u32)?;
    let preferred = minimum << bytes.int_in_range(0..=3u32)?;
    Ok(Info::BlockSize { minimum, preferred, maximum: minimum.max(256) << bytes.int_in_range(0..=10u32)? })
}

/// Spoils a handshake, more often than not in no place.
fn mistakes(bytes: &mut Unstructured<'_>, how: u8, said: &mut Vec<u8>) -> Result<()> {
    match how {
        1 => {
            let at = bytes.int_in_range(0..=said.len() - 1)?;
            said[at] = bytes.arbitrary()?;
        }
        2 => said.truncate(bytes.int_in_range(0..=said.len())?),
        3 => {
            let at = bytes.int_in_range(0..=said.len())?;
            let option = bytes.int_in_range(0..=11u32)?;
            let reply =
                if bytes.arbitrary()? { REP_FLAG_ERROR } else { 0 } | bytes.int_in_range(0..=10u32)?;
            let (count, mut odd) = (bytes.int_in_range(0..=20usize)?.min(bytes.len()), Vec::new());
            encode_option_reply(&mut odd, option, reply, bytes.bytes(count)?);
            said.splice(at..at, odd);
        }
        _ => {}
    }
    Ok(())
}

/// What becomes of a request.
enum Answer {
    /// All that was asked for, and nothing else.
    Honest(Vec<u8>),
    /// A failure, well told.
    Error(Vec<u8>),
    /// Anything; nothing follows.
    Nonsense(Vec<u8>),
}

/// A server for one client.
pub(crate) struct Server<'a> {
    handshake: &'a [u8],
    /// What was said beyond the handshake: the first reply begins with it.
    ahead: &'a [u8],
    /// Bytes that the client says in its handshake.
    hears: usize,
    agreed: Option<Agreed>,
    choices: Unstructured<'a>,
}

impl<'a> Server<'a> {
    /// `taken` bytes of `said` lead to what was `agreed` on; without that, all of it is said, and nothing more.
    pub(crate) fn new(
        said: &'a [u8],
        taken: usize,
        hears: usize,
        agreed: Option<Agreed>,
        choices: Unstructured<'a>,
    ) -> Self {
        let (handshake, ahead) = if agreed.is_some() { said.split_at(taken) } else { (said, &[][..]) };
        Server { handshake, ahead, hears, agreed, choices }
    }

    /// Serves one client, and waits until it is gone; tells whether every answer was honest.
    pub(crate) fn serve(mut self, listener: &UnixListener) -> bool {
        let (mut client, _) = listener.accept().expect("a client comes");
        // The client may go at any time, and then so does the server.
        let outcome = self.converse(&mut client);
        let _gone: bool = client.shutdown(Shutdown::Write).is_err();
        let _reset: bool = io::copy(&mut client, &mut io::sink()).is_err();
        outcome.unwrap_or(false)
    }

    fn converse(&mut self, client: &mut UnixStream) -> io::Result<bool> {
        client.write_all(self.handshake)?;
        let Some(agreed) = self.agreed else { return Ok(false) };
        client.read_exact(&mut vec![0; self.hears])?;
        let mut is_honest = true;
        loop {
            let request = hear(client, agreed.mode)?;
            if request.command == Command::Disconnect {
                return Ok(is_honest);
            }
            let answer = self.answer(&request, &agreed);
            match answer.unwrap_or_else(|_| Answer::Nonsense(Vec::new())) {
                Answer::Honest(bytes) => client.write_all(&bytes)?,
                Answer::Error(bytes) => {
                    is_honest = false;
                    client.write_all(&bytes)?;
                }
                Answer::Nonsense(bytes) => {
                    client.write_all(&bytes)?;
                    return Ok(false);
                }
            }
        }
    }

    fn answer(&mut self, request: &Request, agreed: &Agreed) -> Result<Answer> {
        if !self.ahead.is_empty() {
            return Ok(Answer::Nonsense(std::mem::take(&mut self.ahead).to_vec()));
        }
        let choices = &mut self.choices;
        let how = if choices.is_empty() { 0 } else { choices.int_in_range(0..=11u8)? };
        if how == 1 {
            return Ok(Answer::Error(failure(choices, request, agreed.mode)?));
        }
        let mut reply = honest(choices, request, agreed.mode)?;
        match how {
            2 => reply.truncate(choices.int_in_range(0..=reply.len() - 1)?),
            3 => {
                let at = choices.int_in_range(0..=reply.len() - 1)?;
                reply[at] = choices.arbitrary()?;
            }
            4 => {
                let count = choices.int_in_range(0..=40usize)?.min(choices.len());
                reply.truncate(choices.int_in_range(0..=40)?);
                reply.extend(choices.bytes(count)?);
            }
            5 => reply = odd_chunk(choices, request, agreed.mode)?,
            _ => return Ok(Answer::Honest(reply)),
        }
        Ok(Answer::Nonsense(reply))
    }
}

/// Takes in a request and its payload. Our client is the one that keeps to the rules here.
fn hear(client: &mut UnixStream, mode: Mode) -> io::Result<Request> {
    let mut head = vec![0; mode.request_len()];
    client.read_exact(&mut head)?;
    let request = Request::decode(mode, &head).expect("our client speaks the protocol");
    io::copy(&mut client.take(request.payload_len(mode)), &mut io::sink())?;
    Ok(request)
}

fn honest(choices: &mut Unstructured<'_>, request: &Request, mode: Mode) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match request.command {
        Command::Read if mode == Mode::Simple => {
            encode_simple_reply(request.cookie, Ok(()), &mut out);
            out.extend((request.offset..request.offset + request.length).map(byte_at));
        }
        Command::Read => pieces(choices, request, mode, &mut out)?,
        Command::BlockStatus => {
            let all = request.length.min(u32::MAX.into());
            let length = if choices.ratio(1, 2)? { all } else { choices.int_in_range(1..=all)? };
            let extents = vec![StatusExtent { length, flags: choices.int_in_range(0..=3)? }];
            say(&Chunk::BlockStatus { context: CONTEXT, extents }, request, mode, false, &mut out);
            say(&Chunk::None, request, mode, true, &mut out);
        }
        _ if mode == Mode::Extended => say(&Chunk::None, request, mode, true, &mut out),
        _ => encode_simple_reply(request.cookie, Ok(()), &mut out),
    }
    Ok(out)
}

/// The bytes of a read, in pieces, and perhaps from the end to the beginning.
fn pieces(choices: &mut Unstructured<'_>, request: &Request, mode: Mode, out: &mut Vec<u8>) -> Result<()> {
    let end = request.offset + request.length;
    let mut cuts = vec![request.offset, end];
    for _ in 0..choices.int_in_range(0..=3u8)? {
        cuts.push(request.offset + choices.int_in_range(0..=request.length)?);
    }
    cuts.sort_unstable();
    cuts.dedup();
    let mut ranges: Vec<_> = cuts.windows(2).map(|cut| (cut[0], cut[1])).collect();
    if choices.arbitrary()? {
        ranges.reverse();
    }
    for (offset, end) in ranges {
        if (offset..end).all(|at| byte_at(at) == 0) {
            let length = (end - offset) as u32;
            say(&Chunk::OffsetHole { offset, length }, request, mode, false, out);
        } else {
            let mut payload = encode_offset_data(offset).to_vec();
            payload.extend((offset..end).map(byte_at));
            say_bytes(REPLY_OFFSET_DATA, &payload, request, mode, false, out);
        }
    }
    say(&Chunk::None, request, mode, true, out);
    Ok(())
}

fn failure(choices: &mut Unstructured<'_>, request: &Request, mode: Mode) -> Result<Vec<u8>> {
    let (errno, mut out) = (*choices.choose(&Errno::ALL)?, Vec::new());
    if mode == Mode::Simple {
        encode_simple_reply(request.cookie, Err(errno), &mut out);
    } else {
        let offset = choices.arbitrary::<bool>()?.then_some(request.offset);
        say(&Chunk::Error { errno, message: "no\u{7}\u{e9}", offset }, request, mode, true, &mut out);
    }
    Ok(out)
}

/// A chunk that may be of any kind, with any payload, for any request.
fn odd_chunk(choices: &mut Unstructured<'_>, request: &Request, mode: Mode) -> Result<Vec<u8>> {
    let kinds = [
        REPLY_NONE,
        REPLY_OFFSET_DATA,
        REPLY_OFFSET_HOLE,
        REPLY_BLOCK_STATUS,
        REPLY_BLOCK_STATUS_EXT,
        REPLY_ERROR,
        REPLY_ERROR_OFFSET,
    ];
    let kind = if choices.ratio(1, 8)? { choices.arbitrary()? } else { *choices.choose(&kinds)? };
    let mut payload = match choices.int_in_range(0..=3u8)? {
        0 => choices.arbitrary::<u64>()?.to_be_bytes().to_vec(),
        1 => (request.offset + choices.int_in_range(0..=request.length)?).to_be_bytes().to_vec(),
        2 => CONTEXT.0.to_be_bytes().to_vec(),
        _ => Vec::new(),
    };
    let count = choices.int_in_range(0..=80usize)?.min(choices.len());
    payload.extend(choices.bytes(count)?);
    let (mut out, is_last) = (Vec::new(), choices.arbitrary()?);
    let mode = if mode == Mode::Simple { Mode::Structured } else { mode };
    say_bytes(kind, &payload, request, mode, is_last, &mut out);
    Ok(out)
}

fn say(chunk: &Chunk<'_>, request: &Request, mode: Mode, is_last: bool, out: &mut Vec<u8>) {
    let is_wide = mode == Mode::Extended;
    say_bytes(chunk.kind(is_wide), &chunk.encode(is_wide), request, mode, is_last, out);
}

fn say_bytes(kind: u16, payload: &[u8], request: &Request, mode: Mode, is_last: bool, out: &mut Vec<u8>) {
    let (flags, length) = (if is_last { REPLY_FLAG_DONE } else { 0 }, payload.len() as u64);
    ChunkHead { flags, kind, cookie: request.cookie, offset: request.offset, length }.encode(mode, out);
    out.extend(payload);
}
