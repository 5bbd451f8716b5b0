//! What comes of a request.
//!
//! Absent on purpose: how it looks on the wire (`transmission/reply.rs`).

use std::borrow::Cow;

use quod_nbd::{ContextId, Errno, StatusExtent};
use quod_storage::Buffer;

/// What a request has come to: an answer, or why there is none.
pub(crate) type Outcome = Result<Answer, Refusal>;

/// What came of a request that succeeded.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// All bytes of a READ.
    Bytes(Buffer),
    /// The bytes of a READ, and where there are none but zeroes; only where chunks were agreed on.
    Pieces(Vec<Piece>),
    /// What a range is made of, for each context.
    Status(Vec<(ContextId, Vec<StatusExtent>)>),
}

/// A part of what a READ asked for.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes of the disk from there on.
    Data { offset: u64, bytes: Buffer },
    /// Zeroes.
    Hole { offset: u64, length: u32 },
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For the client's program.
    pub(crate) errno: Errno,
    /// For the people behind it, where the session has words.
    pub(crate) message: Cow<'static, str>,
}

impl Refusal {
    pub(crate) const fn new(errno: Errno, message: &'static str) -> Self {
        Refusal { errno, message: Cow::Borrowed(message) }
    }
}
