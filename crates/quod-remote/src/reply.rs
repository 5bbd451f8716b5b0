//! Putting a reply together.
//!
//! Role: [`Reply`] is what a request waits for; it takes the reply in, in one or in many pieces and in any order.
//!
//! Invariant: bytes land only inside the range that was asked for, each once, and a reply counts only when nothing is
//! missing. What a server sends is bounded before it is taken in.
//!
//! Absent on purpose: which request a reply belongs to (`link.rs`).

use std::io;

use quod_nbd::{
    Chunk, ChunkHead, ContextId, Errno, Mode, OFFSET_DATA_LEN, REPLY_BLOCK_STATUS, REPLY_BLOCK_STATUS_EXT,
    REPLY_ERROR_BIT, REPLY_NONE, REPLY_OFFSET_DATA, REPLY_OFFSET_HOLE, STATE_ZERO,
};
use quod_storage::{Buffers, Extent, ExtentKind};

use crate::covered::Covered;
use crate::error::{Nonsense, from_server};
use crate::receiver::Receiver;
use crate::wire::Wire;

/// The most bytes of a chunk that is not data: an error with its sentence, or extents.
const MOST_WORDS: u64 = 64 << 10;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server sent {0}")]
    Nonsense(#[from] Nonsense),
}

/// What a request was answered with.
pub(crate) enum Answer {
    Bytes(Buffers),
    Extent(Extent),
    Done,
}

/// What a request asks for.
pub(crate) enum Wanted {
    /// Bytes of the disk.
    Bytes(Buffers),
    /// What the disk is made of, by that context.
    Extent(ContextId),
    /// That it was done.
    Nothing,
}

/// A reply on its way.
pub(crate) struct Reply {
    /// The range of the request.
    at: u64,
    len: u64,
    wanted: Wanted,
    covered: Covered,
    extent: Option<Extent>,
    failure: Option<io::Error>,
}

impl Reply {
    pub(crate) fn to(at: u64, len: u64, wanted: Wanted) -> Self {
        Reply { at, len, wanted, covered: Covered::default(), extent: None, failure: None }
    }

    /// Takes a simple reply in; it is all there is.
    pub(crate) fn simple(
        &mut self,
        result: Result<(), Errno>,
        mode: Mode,
        (wire, receiver): (&Wire, &mut Receiver),
    ) -> Result<(), Broken> {
        match (result, &mut self.wanted) {
            (Err(errno), _) => self.failure = Some(from_server(errno, "")),
            (Ok(()), Wanted::Nothing) => {}
            (Ok(()), Wanted::Bytes(into)) if mode == Mode::Simple => {
                for part in &mut into.parts {
                    receiver.read_exact(wire, part)?;
                }
                self.covered.add(0..self.len)?;
            }
            (Ok(()), Wanted::Bytes(_) | Wanted::Extent(_)) => return Err(Nonsense::WrongKind.into()),
        }
        Ok(())
    }

    /// Takes a chunk in.
    pub(crate) fn chunk(
        &mut self,
        head: &ChunkHead,
        mode: Mode,
        (wire, receiver): (&Wire, &mut Receiver),
    ) -> Result<(), Broken> {
        if mode == Mode::Extended && head.offset != self.at {
            return Err(Nonsense::OutOfRange.into());
        }
        if let (REPLY_OFFSET_DATA, Wanted::Bytes(_)) = (head.kind, &self.wanted) {
            return self.data(head.length, (wire, receiver));
        }
        if head.length > MOST_WORDS {
            return Err(Nonsense::TooLong(head.length).into());
        }
        let mut payload = vec![0; head.length as usize];
        receiver.read_exact(wire, &mut payload)?;
        let status = if mode == Mode::Extended { REPLY_BLOCK_STATUS_EXT } else { REPLY_BLOCK_STATUS };
        let is_known = head.kind & REPLY_ERROR_BIT != 0
            || head.kind == status
            || [REPLY_NONE, REPLY_OFFSET_HOLE].contains(&head.kind);
        if !is_known {
            return Err(Nonsense::WrongKind.into());
        }
        match (Chunk::decode(head.kind, &payload).map_err(Nonsense::from)?, &mut self.wanted) {
            (Chunk::None, _) if head.is_last() => {}
            (Chunk::OffsetHole { offset, length }, Wanted::Bytes(into)) => {
                let start = place(self.at, self.len, offset, length.into())?;
                self.covered.add(start..start + u64::from(length))?;
                into.slices_mut(start as usize, length as usize).for_each(|slice| slice.fill(0));
            }
            (Chunk::BlockStatus { context, extents }, Wanted::Extent(wanted)) if context == *wanted => {
                let first = extents.first().ok_or(Nonsense::Unfinished)?;
                let kind = if first.flags & STATE_ZERO != 0 { ExtentKind::Hole } else { ExtentKind::Data };
                if self.extent.replace(Extent { len: first.length, kind }).is_some() {
                    return Err(Nonsense::Overlap.into());
                }
            }
            (Chunk::Error { errno, message, .. }, _) => {
                // The first tells most.
                self.failure.get_or_insert_with(|| from_server(errno, message));
            }
            _ => return Err(Nonsense::WrongKind.into()),
        }
        Ok(())
    }

    /// Takes the bytes of a data chunk to their place.
    fn data(&mut self, payload: u64, (wire, receiver): (&Wire, &mut Receiver)) -> Result<(), Broken> {
        let length =
            payload.checked_sub(OFFSET_DATA_LEN as u64).filter(|&length| length > 0 && length <= self.len);
        let length = length.ok_or(Nonsense::TooLong(payload))?;
        let mut offset = [0; OFFSET_DATA_LEN];
        receiver.read_exact(wire, &mut offset)?;
        let start = place(self.at, self.len, u64::from_be_bytes(offset), length)?;
        self.covered.add(start..start + length)?;
        if let Wanted::Bytes(into) = &mut self.wanted {
            for slice in into.slices_mut(start as usize, length as usize) {
                receiver.read_exact(wire, slice)?;
            }
        }
        Ok(())
    }

    /// The outcome, once the last piece is in.
    pub(crate) fn finish(self) -> Result<io::Result<Answer>, Nonsense> {
        if let Some(failure) = self.failure {
            return Ok(Err(failure));
        }
        Ok(Ok(match self.wanted {
            Wanted::Bytes(into) if self.covered.is_exactly(self.len) => Answer::Bytes(into),
            Wanted::Bytes(_) => return Err(Nonsense::Unfinished),
            Wanted::Extent(_) => Answer::Extent(self.extent.ok_or(Nonsense::Unfinished)?),
            Wanted::Nothing => Answer::Done,
        }))
    }
}

/// Where a piece lies inside the range that was asked for.
fn place(at: u64, len: u64, offset: u64, length: u64) -> Result<u64, Nonsense> {
    let start = offset.checked_sub(at).ok_or(Nonsense::OutOfRange)?;
    match start.checked_add(length) {
        Some(end) if length > 0 && end <= len => Ok(start),
        _ => Err(Nonsense::OutOfRange),
    }
}
