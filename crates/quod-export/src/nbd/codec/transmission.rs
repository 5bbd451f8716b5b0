//! The transmission phase: requests, simple replies, error numbers.
//!
//! Invariant: a request header is [`REQUEST_LEN`] bytes and a reply header [`SIMPLE_REPLY_LEN`]; payloads follow
//! them and never pass through here. An unknown command decodes, since its sender is owed an answer.

use super::DecodeError;
use super::fields::Fields;

/// Begins every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Begins every simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Bytes of a request without its payload.
pub const REQUEST_LEN: usize = 28;
/// Bytes of a simple reply without its payload.
pub const SIMPLE_REPLY_LEN: usize = 16;

/// The write is durable when it is answered.
pub const CMD_FLAG_FUA: u16 = 1 << 0;
/// WRITE_ZEROES keeps the room of the range.
pub const CMD_FLAG_NO_HOLE: u16 = 1 << 1;
/// READ is answered in one chunk (structured replies only).
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

/// A request header. A WRITE is followed by `length` bytes.
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
    /// Bytes of the range.
    pub length: u32,
}

impl Request {
    /// Decodes a request header.
    ///
    /// # Errors
    /// [`DecodeError::WrongMagic`]: the stream is out of step and cannot be used any more.
    pub fn decode(message: &[u8; REQUEST_LEN]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(message);
        fields.magic32(REQUEST_MAGIC)?;
        let request = Request {
            flags: fields.u16()?,
            command: Command::from_wire(fields.u16()?),
            cookie: Cookie(fields.u64()?),
            offset: fields.u64()?,
            length: fields.u32()?,
        };
        fields.end()?;
        Ok(request)
    }

    /// Encodes the header.
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut message = [0; REQUEST_LEN];
        message[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        message[4..6].copy_from_slice(&self.flags.to_be_bytes());
        message[6..8].copy_from_slice(&self.command.to_wire().to_be_bytes());
        message[8..16].copy_from_slice(&self.cookie.0.to_be_bytes());
        message[16..24].copy_from_slice(&self.offset.to_be_bytes());
        message[24..].copy_from_slice(&self.length.to_be_bytes());
        message
    }
}

/// The error numbers that the protocol allows in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// Not permitted: writing to a read-only export.
    Perm = 1,
    /// Input/output error.
    Io = 5,
    /// Out of memory.
    NoMem = 12,
    /// Invalid argument.
    Inval = 22,
    /// No space left, or a write past the end.
    NoSpc = 28,
    /// Value too large.
    Overflow = 75,
    /// Not supported.
    NotSup = 95,
    /// The server is shutting down.
    Shutdown = 108,
}

impl Errno {
    fn from_wire(number: u32) -> Option<Self> {
        use Errno::{Inval, Io, NoMem, NoSpc, NotSup, Overflow, Perm, Shutdown};
        [Perm, Io, NoMem, Inval, NoSpc, Overflow, NotSup, Shutdown]
            .into_iter()
            .find(|&errno| errno as u32 == number)
    }
}

/// A simple reply header. After a successful READ the bytes follow, as many as were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimpleReply {
    /// Of the request that is answered.
    pub cookie: Cookie,
    /// How it went.
    pub result: Result<(), Errno>,
}

impl SimpleReply {
    /// Decodes a simple reply header.
    ///
    /// # Errors
    /// A wrong magic number, or an error number that the protocol does not have.
    pub fn decode(message: &[u8; SIMPLE_REPLY_LEN]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(message);
        fields.magic32(SIMPLE_REPLY_MAGIC)?;
        let result = match fields.u32()? {
            0 => Ok(()),
            number => Err(Errno::from_wire(number)
                .ok_or(DecodeError::Undefined { field: "the error number", value: number.into() })?),
        };
        let reply = SimpleReply { cookie: Cookie(fields.u64()?), result };
        fields.end()?;
        Ok(reply)
    }

    /// Encodes the header.
    pub fn encode(&self) -> [u8; SIMPLE_REPLY_LEN] {
        let error = match self.result {
            Ok(()) => 0,
            Err(errno) => errno as u32,
        };
        let mut message = [0; SIMPLE_REPLY_LEN];
        message[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        message[4..8].copy_from_slice(&error.to_be_bytes());
        message[8..].copy_from_slice(&self.cookie.0.to_be_bytes());
        message
    }
}
