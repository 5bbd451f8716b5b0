//! How the outcome of a request looks on the wire.
//!
//! Invariant: a READ is never answered by a simple reply where chunks were agreed on, and every reply ends with one
//! chunk that says so.
//!
//! Absent on purpose: queues and sockets (`outbox.rs`).

use quod_nbd::{
    Chunk, ChunkHead, Command, Cookie, Errno, Mode, OFFSET_DATA_LEN, REPLY_FLAG_DONE, REPLY_OFFSET_DATA,
    Request, encode_offset_data, encode_simple_reply,
};
use quod_storage::Buffer;
use smallvec::SmallVec;

use crate::nbd::export::answer::{Answer, Outcome, Piece, Refusal};

/// Bytes of a message before its data that need no memory of their own: all but extents and sentences.
const SHORT_HEAD: usize = 64;

/// A message: what goes before the data, and the data.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) head: SmallVec<[u8; SHORT_HEAD]>,
    pub(crate) data: Option<Buffer>,
}

/// Which request is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    mode: Mode,
    cookie: Cookie,
    offset: u64,
    is_read: bool,
}

impl Asked {
    pub(crate) fn by(request: &Request, mode: Mode) -> Self {
        let Request { cookie, offset, command, .. } = *request;
        Asked { mode, cookie, offset, is_read: command == Command::Read }
    }

    /// The messages that tell `outcome`, each given to `send`.
    pub(crate) fn tell(self, outcome: Outcome, mut send: impl FnMut(Message)) {
        let simple = self.mode == Mode::Simple || (self.mode == Mode::Structured && !self.is_read);
        match outcome {
            Ok(Answer::Done) if simple => send(self.simple(Ok(()), None)),
            Ok(Answer::Done) => send(self.chunk(&Chunk::None, true)),
            Ok(Answer::Bytes(bytes)) if self.mode == Mode::Simple => send(self.simple(Ok(()), Some(bytes))),
            Ok(Answer::Bytes(bytes)) => send(self.data(self.offset, bytes, true)),
            Ok(Answer::Pieces(pieces)) => {
                let mut pieces = pieces.into_iter().peekable();
                while let Some(piece) = pieces.next() {
                    let last = pieces.peek().is_none();
                    send(match piece {
                        Piece::Data { offset, bytes } => self.data(offset, bytes, last),
                        Piece::Hole { offset, length } => {
                            self.chunk(&Chunk::OffsetHole { offset, length }, last)
                        }
                    });
                }
            }
            Ok(Answer::Status(contexts)) => {
                let mut contexts = contexts.into_iter().peekable();
                while let Some((context, extents)) = contexts.next() {
                    let last = contexts.peek().is_none();
                    send(self.chunk(&Chunk::BlockStatus { context, extents }, last));
                }
            }
            Err(refusal) if self.mode == Mode::Simple => send(self.simple(Err(refusal.errno), None)),
            Err(Refusal { errno, message }) => {
                send(self.chunk(&Chunk::Error { errno, message: &message, offset: None }, true));
            }
        }
    }

    fn simple(self, result: Result<(), Errno>, data: Option<Buffer>) -> Message {
        let mut head = SmallVec::new();
        encode_simple_reply(self.cookie, result, &mut head);
        Message { head, data }
    }

    fn chunk(self, chunk: &Chunk<'_>, last: bool) -> Message {
        let wide = self.mode == Mode::Extended;
        let payload = chunk.encode(wide);
        let mut head = self.head(chunk.kind(wide), payload.len(), last);
        head.extend_from_slice(&payload);
        Message { head, data: None }
    }

    fn data(self, offset: u64, bytes: Buffer, last: bool) -> Message {
        let mut head = self.head(REPLY_OFFSET_DATA, OFFSET_DATA_LEN + bytes.len(), last);
        head.extend_from_slice(&encode_offset_data(offset));
        Message { head, data: Some(bytes) }
    }

    fn head(self, kind: u16, length: usize, last: bool) -> SmallVec<[u8; SHORT_HEAD]> {
        let Asked { mode, cookie, offset, .. } = self;
        let flags = if last { REPLY_FLAG_DONE } else { 0 };
        let mut head = SmallVec::new();
        ChunkHead { flags, kind, cookie, offset, length: length as u64 }.encode(mode, &mut head);
        head
    }
}
