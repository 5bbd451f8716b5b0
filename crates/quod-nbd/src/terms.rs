//! What a client and a server agree on, and why they do not.
//!
//! Role: [`Agreed`] is all that transmission needs to know; [`Refusal`] is a sentence for people.
//!
//! Invariant: block sizes are powers of two as the protocol has them, and the size of a disk fits 63 bits.
//!
//! Absent on purpose: how one gets there (`negotiation.rs`).

use super::{
    ContextId, DecodeError, MAX_PAYLOAD, Mode, REP_ERR_INVALID, REP_ERR_POLICY, REP_ERR_SHUTDOWN,
    REP_ERR_UNKNOWN,
};

/// The largest minimum of block sizes that the protocol allows, in bytes.
const LARGEST_MINIMUM: u32 = 64 << 10;

/// What requests must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockSizes {
    minimum: u32,
    maximum: u32,
}

impl BlockSizes {
    /// # Errors
    /// The sizes are not what the protocol allows.
    pub(super) fn checked(minimum: u32, preferred: u32, maximum: u32) -> Result<Self, Refusal> {
        let sensible = minimum.is_power_of_two()
            && minimum <= LARGEST_MINIMUM
            && preferred >= minimum
            && maximum >= minimum;
        if sensible {
            Ok(BlockSizes { minimum, maximum })
        } else {
            Err(Refusal::BlockSizes { minimum, preferred, maximum })
        }
    }
}

/// What is known so far.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) mode: Mode,
    pub(super) base_allocation: Option<ContextId>,
    /// Size in bytes and `TX_*` bits.
    pub(super) export: Option<(u64, u16)>,
    pub(super) blocks: BlockSizes,
}

impl Default for Terms {
    fn default() -> Self {
        // What the protocol lets a client assume that was told nothing.
        let blocks = BlockSizes { minimum: 1, maximum: MAX_PAYLOAD };
        Terms { mode: Mode::Simple, base_allocation: None, export: None, blocks }
    }
}

impl Terms {
    pub(super) fn settle(&self) -> Result<Agreed, Refusal> {
        let (size, flags) = self.export.ok_or(Refusal::NoSize)?;
        if i64::try_from(size).is_err() {
            return Err(Refusal::TooLarge { size });
        }
        let BlockSizes { minimum, maximum } = self.blocks;
        let most = maximum.min(MAX_PAYLOAD);
        Ok(Agreed {
            size,
            flags,
            minimum_block: minimum,
            maximum_payload: most - most % minimum,
            mode: self.mode,
            base_allocation: self.base_allocation,
        })
    }
}

/// The outcome of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Of the disk, in bytes; fits 63 bits.
    pub size: u64,
    /// `TX_*` bits.
    pub flags: u16,
    /// Offsets and lengths of requests are multiples of this, in bytes; a power of two.
    pub minimum_block: u32,
    /// The most bytes that a READ or WRITE may carry; a multiple of the minimum.
    pub maximum_payload: u32,
    /// How requests and replies look.
    pub mode: Mode,
    /// The number of the context [`BASE_ALLOCATION`](super::BASE_ALLOCATION), when the server has it.
    pub base_allocation: Option<ContextId>,
}

/// Why a handshake came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// What arrived has no meaning.
    #[error("not an NBD server, or one of another kind: {0}")]
    Nonsense(#[from] DecodeError),
    /// The server knows the old handshake only.
    #[error("the server knows only the old NBD handshake, which is not spoken here")]
    OldHandshake,
    /// The name of the export is longer than the protocol allows.
    #[error("the name of the export has {len} bytes, more than the protocol allows")]
    NameTooLong {
        /// In bytes.
        len: usize,
    },
    /// TLS was wanted, and the server does not do it.
    #[error("the server does not offer TLS{}", reported(message))]
    NoTls {
        /// The server's sentence; may be empty.
        message: String,
    },
    /// The server wants TLS.
    #[error("the server requires TLS{}", reported(message))]
    TlsRequired {
        /// The server's sentence; may be empty.
        message: String,
    },
    /// The server has no such export.
    #[error("Requested export not available{}", reported(message))]
    UnknownExport {
        /// The server's sentence; may be empty.
        message: String,
    },
    /// The server says no.
    #[error("{why}{}", reported(message))]
    Denied {
        /// What its reply means.
        why: &'static str,
        /// The server's sentence; may be empty.
        message: String,
    },
    /// A reply to an option that was not the last one asked.
    #[error("the server answers option {answered} where it was asked option {asked}")]
    OtherOption {
        /// `OPT_*`.
        asked: u32,
        /// `OPT_*`.
        answered: u32,
    },
    /// A reply that does not belong to its option.
    #[error("the server answers option {option} by {reply:#x}, which is no answer to that")]
    OddReply {
        /// `OPT_*`.
        option: u32,
        /// `REP_*`.
        reply: u32,
    },
    /// More data, or more replies, than any server needs.
    #[error("the server sends more in its handshake than makes sense")]
    TooMuch,
    /// Block sizes against the protocol.
    #[error("the server names block sizes that make no sense: {minimum}, {preferred} and {maximum} bytes")]
    BlockSizes {
        /// In bytes.
        minimum: u32,
        /// In bytes.
        preferred: u32,
        /// In bytes.
        maximum: u32,
    },
    /// The server let the client go on without a size.
    #[error("the server does not tell the size of the export")]
    NoSize,
    /// No disk is that large.
    #[error("the server tells a size of {size} bytes, more than any disk has")]
    TooLarge {
        /// In bytes.
        size: u64,
    },
    /// A mistake of the caller: bytes where none were asked for.
    #[error("bytes were fed to a handshake that asked for none")]
    OutOfTurn,
}

impl Refusal {
    /// The meaning of an error reply to GO.
    pub(super) fn refused(reply: u32, message: String) -> Self {
        let why = match reply {
            REP_ERR_UNKNOWN => return Refusal::UnknownExport { message },
            REP_ERR_POLICY => "Requested export is not allowed",
            REP_ERR_SHUTDOWN => "Server shutting down",
            REP_ERR_INVALID => "the server finds the request invalid",
            _ => "the server refuses",
        };
        Refusal::Denied { why, message }
    }
}

fn reported(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" (server reported: {message})") }
}
