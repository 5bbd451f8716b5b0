//! Requests: compact headers of 28 bytes with 32-bit lengths, extended ones of 32 bytes with 64-bit lengths.
//!
//! Invariant: payloads follow headers and never pass through here. An unknown command decodes, since its sender is owed
//! an answer.

use super::fields::Fields;
use super::{DecodeError, Mode};

/// Begins every compact request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Begins every extended request.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;

/// Bytes of a compact request without its payload.
pub const COMPACT_REQUEST_LEN: usize = 28;
/// Bytes of an extended request without its payload.
pub const EXTENDED_REQUEST_LEN: usize = 32;

/// The write is durable when it is answered.
pub const CMD_FLAG_FUA: u16 = 1 << 0;
/// WRITE_ZEROES keeps the room of the range.
pub const CMD_FLAG_NO_HOLE: u16 = 1 << 1;
/// READ is answered in one chunk, or not at all.
pub const CMD_FLAG_DF: u16 = 1 << 2;
/// BLOCK_STATUS tells one extent only.
pub const CMD_FLAG_REQ_ONE: u16 = 1 << 3;
/// WRITE_ZEROES fails rather than take as long as a write.
pub const CMD_FLAG_FAST_ZERO: u16 = 1 << 4;
/// The length field is that of a payload (extended headers only).
pub const CMD_FLAG_PAYLOAD_LEN: u16 = 1 << 5;

/// The sender's name for a request, handed back in the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(pub u64);

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send bytes of the disk.
    Read,
    /// Write the payload.
    Write,
    /// End the session; not answered.
    Disconnect,
    /// Make what was answered durable.
    Flush,
    /// The contents are no longer wanted.
    Trim,
    /// Bring the range near.
    Cache,
    /// Make the range read as zeroes.
    WriteZeroes,
    /// Tell what the range is made of.
    BlockStatus,
    /// A number with no meaning here.
    Unknown(u16),
}

impl Command {
    fn from_wire(number: u16) -> Self {
        match number {
            0 => Command::Read,
            1 => Command::Write,
            2 => Command::Disconnect,
            3 => Command::Flush,
            4 => Command::Trim,
            5 => Command::Cache,
            6 => Command::WriteZeroes,
            7 => Command::BlockStatus,
            unknown => Command::Unknown(unknown),
        }
    }

    fn to_wire(self) -> u16 {
        match self {
            Command::Read => 0,
            Command::Write => 1,
            Command::Disconnect => 2,
            Command::Flush => 3,
            Command::Trim => 4,
            Command::Cache => 5,
            Command::WriteZeroes => 6,
            Command::BlockStatus => 7,
            Command::Unknown(number) => number,
        }
    }
}

/// A request header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// `CMD_FLAG_*` bits.
    pub flags: u16,
    /// What is asked for.
    pub command: Command,
    /// Comes back in the reply.
    pub cookie: Cookie,
    /// First byte of the range on the disk.
    pub offset: u64,
    /// Bytes of the range, or of the payload: see [`payload_len`](Request::payload_len).
    pub length: u64,
}

impl Request {
    /// How many bytes follow the header: all of `length` for a WRITE, and in extended mode for anything with
    /// [`CMD_FLAG_PAYLOAD_LEN`]. The protocol wants that flag on a WRITE too, but QEMU's client leaves it out.
    pub fn payload_len(&self, mode: Mode) -> u64 {
        let flagged = mode == Mode::Extended && self.flags & CMD_FLAG_PAYLOAD_LEN != 0;
        if flagged || self.command == Command::Write { self.length } else { 0 }
    }

    /// Decodes a header of [`Mode::request_len`] bytes.
    ///
    /// # Errors
    /// [`DecodeError::WrongMagic`]: the stream is out of step and cannot be used any more. A wrong length.
    pub fn decode(mode: Mode, message: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(message);
        fields.magic32(if mode == Mode::Extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC })?;
        let request = Request {
            flags: fields.u16()?,
            command: Command::from_wire(fields.u16()?),
            cookie: Cookie(fields.u64()?),
            offset: fields.u64()?,
            length: if mode == Mode::Extended { fields.u64()? } else { fields.u32()?.into() },
        };
        fields.end()?;
        Ok(request)
    }

    /// Appends the header to `out`.
    ///
    /// # Panics
    /// When the length is 4 GiB or more and the mode is not extended.
    pub fn encode(&self, mode: Mode, out: &mut Vec<u8>) {
        let magic = if mode == Mode::Extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
        out.extend(magic.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        out.extend(self.command.to_wire().to_be_bytes());
        out.extend(self.cookie.0.to_be_bytes());
        out.extend(self.offset.to_be_bytes());
        if mode == Mode::Extended {
            out.extend(self.length.to_be_bytes());
        } else {
            let length = u32::try_from(self.length).expect("compact lengths have 32 bits");
            out.extend(length.to_be_bytes());
        }
    }
}
