//! Heads of replies: simple ones, and the chunks of structured and extended ones.
//!
//! Invariant: a head says how many bytes follow; who reads them bounds that number before taking them in. What
//! chunks hold is the matter of `chunk.rs`.

use super::fields::Fields;
use super::{Cookie, DecodeError, Errno, Mode};

/// Begins every simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Begins every chunk of a structured reply.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// Begins every chunk of an extended reply.
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Bytes of a simple reply without its payload, and of the beginning that all replies have in common.
pub const SIMPLE_REPLY_LEN: usize = 16;
/// Bytes of a structured chunk without its payload.
pub const STRUCTURED_REPLY_LEN: usize = 20;
/// Bytes of an extended chunk without its payload.
pub const EXTENDED_REPLY_LEN: usize = 32;

/// Flag of a chunk: the last of its reply.
pub const REPLY_FLAG_DONE: u16 = 1 << 0;

/// Chunk without content: success.
pub const REPLY_NONE: u16 = 0;
/// Chunk with an offset and the bytes that lie there.
pub const REPLY_OFFSET_DATA: u16 = 1;
/// Chunk with an offset and a length of zeroes.
pub const REPLY_OFFSET_HOLE: u16 = 2;
/// Chunk with what a range is made of, in 32-bit numbers.
pub const REPLY_BLOCK_STATUS: u16 = 5;
/// Chunk with what a range is made of, in 64-bit numbers.
pub const REPLY_BLOCK_STATUS_EXT: u16 = 6;
/// Set in every chunk that is an error.
pub const REPLY_ERROR_BIT: u16 = 1 << 15;
/// Chunk with an error and a sentence.
pub const REPLY_ERROR: u16 = REPLY_ERROR_BIT | 1;
/// Chunk with an error, a sentence, and where it happened.
pub const REPLY_ERROR_OFFSET: u16 = REPLY_ERROR_BIT | 2;

/// The head of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyHead {
    /// Answers all of a request. After a successful READ the bytes follow, as many as were asked for.
    Simple {
        /// Of the request that is answered.
        cookie: Cookie,
        /// How it went.
        result: Result<(), Errno>,
    },
    /// Answers a part of a request.
    Chunk(ChunkHead),
}

/// The head of a chunk; `length` bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    /// `REPLY_FLAG_*` bits.
    pub flags: u16,
    /// `REPLY_*`: what follows.
    pub kind: u16,
    /// Of the request that is answered.
    pub cookie: Cookie,
    /// Of the request that is answered; only extended chunks carry it, structured ones decode to 0.
    pub offset: u64,
    /// Bytes that follow.
    pub length: u64,
}

impl ReplyHead {
    /// How long the head is that begins with these [`SIMPLE_REPLY_LEN`] bytes: what is missing is to be read before it
    /// can be decoded.
    ///
    /// # Errors
    /// [`DecodeError::WrongMagic`]: no reply that `mode` allows begins so.
    pub fn len_of(mode: Mode, beginning: &[u8; SIMPLE_REPLY_LEN]) -> Result<usize, DecodeError> {
        match (Fields::of(beginning).u32()?, mode) {
            (SIMPLE_REPLY_MAGIC, Mode::Simple | Mode::Structured) => Ok(SIMPLE_REPLY_LEN),
            (STRUCTURED_REPLY_MAGIC, Mode::Structured) => Ok(STRUCTURED_REPLY_LEN),
            (EXTENDED_REPLY_MAGIC, Mode::Extended) => Ok(EXTENDED_REPLY_LEN),
            (found, _) => Err(DecodeError::WrongMagic { found: found.into() }),
        }
    }

    /// Decodes a whole head.
    ///
    /// # Errors
    /// A wrong magic number or length.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(message);
        let head = match fields.u32()? {
            SIMPLE_REPLY_MAGIC => {
                let result = match fields.u32()? {
                    0 => Ok(()),
                    number => Err(Errno::from_wire(number)),
                };
                ReplyHead::Simple { cookie: Cookie(fields.u64()?), result }
            }
            magic @ (STRUCTURED_REPLY_MAGIC | EXTENDED_REPLY_MAGIC) => {
                let (flags, kind, cookie) = (fields.u16()?, fields.u16()?, Cookie(fields.u64()?));
                let (offset, length) = match magic {
                    STRUCTURED_REPLY_MAGIC => (0, fields.u32()?.into()),
                    _ => (fields.u64()?, fields.u64()?),
                };
                ReplyHead::Chunk(ChunkHead { flags, kind, cookie, offset, length })
            }
            found => return Err(DecodeError::WrongMagic { found: found.into() }),
        };
        fields.end()?;
        Ok(head)
    }
}

/// Appends a simple reply to `out`.
pub fn encode_simple_reply(cookie: Cookie, result: Result<(), Errno>, out: &mut impl Extend<u8>) {
    let error = match result {
        Ok(()) => 0,
        Err(errno) => errno as u32,
    };
    out.extend(SIMPLE_REPLY_MAGIC.to_be_bytes());
    out.extend(error.to_be_bytes());
    out.extend(cookie.0.to_be_bytes());
}

impl ChunkHead {
    /// Whether it is the last of its reply.
    pub fn is_last(&self) -> bool {
        self.flags & REPLY_FLAG_DONE != 0
    }

    /// Appends the head to `out`.
    ///
    /// # Panics
    /// When the mode knows no chunks, or the length is 4 GiB or more and the mode is not extended.
    pub fn encode(&self, mode: Mode, out: &mut impl Extend<u8>) {
        assert!(mode != Mode::Simple, "simple replies have no chunks");
        let extended = mode == Mode::Extended;
        let magic = if extended { EXTENDED_REPLY_MAGIC } else { STRUCTURED_REPLY_MAGIC };
        out.extend(magic.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        out.extend(self.kind.to_be_bytes());
        out.extend(self.cookie.0.to_be_bytes());
        if extended {
            out.extend(self.offset.to_be_bytes());
            out.extend(self.length.to_be_bytes());
        } else {
            let length = u32::try_from(self.length).expect("chunks of structured replies are short");
            out.extend(length.to_be_bytes());
        }
    }
}
