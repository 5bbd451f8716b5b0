//! NBD by hand: a client that sends what a test says and sees what comes back, errors by their number.
//!
//! Absent on purpose: waiting for a reply before the next request is sent, unless the test asks for that.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use quod_nbd::*;

use super::PATIENCE;

/// A connection that has said nothing yet.
pub(crate) fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    stream
}

/// All that a client says to have the default export.
pub(crate) fn go() -> Vec<u8> {
    let query = ExportQuery { name: "", wanted: vec![] }.encode();
    let mut bytes = (C_FIXED_NEWSTYLE | C_NO_ZEROES).to_be_bytes().to_vec();
    bytes.extend(OptionHeader { option: OPT_GO, length: query.len() as u32 }.encode());
    bytes.extend(query);
    bytes
}

/// A connection to the default export, ready for requests, which get simple replies.
pub(crate) fn client(socket: &Path) -> UnixStream {
    let mut stream = connect(socket);
    stream.read_exact(&mut [0; GREETING_LEN]).expect("it greets");
    stream.write_all(&go()).expect("it listens");
    loop {
        let mut head = [0; OPTION_REPLY_LEN];
        stream.read_exact(&mut head).expect("it answers");
        let head = OptionReplyHeader::decode(&head).expect("it speaks NBD");
        stream.read_exact(&mut vec![0; head.length as usize]).expect("it answers");
        if head.reply == REP_ACK {
            return stream;
        }
    }
}

/// A request, but for its cookie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) command: Command,
    pub(crate) flags: u16,
    pub(crate) at: u64,
    pub(crate) len: u64,
    /// Of a WRITE.
    pub(crate) payload: &'a [u8],
}

impl<'a> Ask<'a> {
    pub(crate) fn of(command: Command, at: u64, len: u64) -> Self {
        Ask { command, flags: 0, at, len, payload: &[] }
    }

    pub(crate) fn write(at: u64, payload: &'a [u8]) -> Self {
        Ask { payload, ..Ask::of(Command::Write, at, payload.len() as u64) }
    }

    pub(crate) fn with(self, flags: u16) -> Self {
        Ask { flags, ..self }
    }
}

/// What came of a request: the bytes of a READ, none of others.
pub(crate) type Answer = Result<Vec<u8>, Errno>;

/// A connection with requests in flight.
pub(crate) struct Wire {
    stream: UnixStream,
    /// How many bytes the answer brings, by cookie.
    asked: HashMap<u64, usize>,
    next: u64,
}

impl Wire {
    pub(crate) fn connect(socket: &Path) -> Self {
        Wire { stream: client(socket), asked: HashMap::new(), next: 0 }
    }

    /// Sends a request; gives its cookie.
    pub(crate) fn send(&mut self, ask: &Ask<'_>) -> io::Result<u64> {
        self.send_together(&[*ask])?;
        Ok(self.next)
    }

    /// Sends requests in one piece.
    pub(crate) fn send_together(&mut self, asks: &[Ask<'_>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for &Ask { command, flags, at: offset, len: length, payload } in asks {
            self.next += 1;
            let request = Request { flags, command, cookie: Cookie(self.next), offset, length };
            request.encode(Mode::Simple, &mut bytes);
            bytes.extend(payload);
            self.asked.insert(self.next, if command == Command::Read { length as usize } else { 0 });
        }
        self.stream.write_all(&bytes)
    }

    /// Waits for the next reply; gives the cookie of the request that it answers.
    pub(crate) fn receive(&mut self) -> io::Result<(u64, Answer)> {
        let mut head = [0; SIMPLE_REPLY_LEN];
        self.stream.read_exact(&mut head)?;
        let head = ReplyHead::decode(&head).expect("it speaks NBD");
        let ReplyHead::Simple { cookie, result } = head else { panic!("{head:?} was not agreed on") };
        let len = self.asked.remove(&cookie.0).expect("it answers what was asked");
        let mut bytes = vec![0; if result.is_ok() { len } else { 0 }];
        self.stream.read_exact(&mut bytes)?;
        Ok((cookie.0, result.map(|()| bytes)))
    }

    /// Sends a request and waits for its answer. Nothing else may be in flight.
    #[track_caller]
    pub(crate) fn ask(&mut self, ask: &Ask<'_>) -> Answer {
        assert!(self.asked.is_empty());
        self.send(ask).expect("the server listens");
        self.receive().expect("the server answers").1
    }
}
