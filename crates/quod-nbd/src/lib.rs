//! The NBD protocol, sans-I/O: bytes to meaning and back, for either side of a connection.
//!
//! Role: pure functions and plain types after the public protocol page (`doc/proto.md` of NetworkBlockDevice/nbd):
//! the fixed newstyle handshake with all its options, requests with compact and extended headers, simple, structured
//! and extended replies, metadata contexts; and a client's handshake as a state machine ([`Negotiation`]).
//!
//! Invariant: decoding any bytes gives a value or a [`DecodeError`], never a panic and never an allocation beyond the
//! bytes that are there; what is encoded decodes to itself. All integers are big-endian.
//!
//! Absent on purpose: I/O, and the policy of a server (which option is supported, which request is in range).

mod chunk;
mod context;
mod errno;
mod export;
mod fields;
mod handshake;
mod negotiation;
mod reply;
mod request;
mod terms;

pub use chunk::*;
pub use context::*;
pub use errno::*;
pub use export::*;
pub use handshake::*;
pub use negotiation::*;
pub use reply::*;
pub use request::*;

/// How requests and replies look, as agreed on in the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Compact requests, simple replies.
    #[default]
    Simple,
    /// Compact requests, structured replies; simple ones still where there are no bytes to send.
    Structured,
    /// Extended requests and replies, with 64-bit lengths.
    Extended,
}

impl Mode {
    /// Bytes of a request header.
    pub const fn request_len(self) -> usize {
        match self {
            Mode::Simple | Mode::Structured => COMPACT_REQUEST_LEN,
            Mode::Extended => EXTENDED_REQUEST_LEN,
        }
    }
}

/// The most bytes that one request may carry or ask for: what clients may assume when nothing else is said.
pub const MAX_PAYLOAD: u32 = 32 << 20;

/// The longest string of the protocol (export names, descriptions), in bytes.
pub const MAX_STRING: usize = 4096;

/// Why bytes have no meaning in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message does not begin with the number that marks its kind.
    #[error("wrong magic number {found:#x}")]
    WrongMagic {
        /// What stood there instead.
        found: u64,
    },
    /// The message is shorter than its fields.
    #[error("the message ends inside its fields")]
    Truncated,
    /// The message is longer than its fields.
    #[error("{extra} bytes follow the last field")]
    TooLong {
        /// How many bytes are left over.
        extra: usize,
    },
    /// A string is longer than [`MAX_STRING`].
    #[error("a string of {len} bytes, over the limit of {MAX_STRING}")]
    StringTooLong {
        /// Length of the string, in bytes.
        len: usize,
    },
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A field holds a value that the protocol does not define.
    #[error("{field} has the undefined value {value:#x}")]
    Undefined {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
}
