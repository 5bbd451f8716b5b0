//! Requests for whole blocks, and what is made of them.
//!
//! Role: what a server is asked, one question at a time; a part of a block is changed by reading it, changing it and
//! writing it back.
//!
//! Invariant: while a part of a block is changed, nothing else is written, also when the future is dropped.
//!
//! Absent on purpose: checks of ranges (`storage.rs`).

use std::io::{self, ErrorKind};
use std::sync::Arc;

use quod_nbd::{CMD_FLAG_REQ_ONE, Command, ContextId, TX_SEND_WRITE_ZEROES};
use quod_storage::{Buffer, Buffers, Extent, Held};

use crate::link::Question;
use crate::reply::{Answer, Wanted};
use crate::storage::NbdStorage;

/// The most bytes that one request without a payload is about.
const LONGEST: u64 = 1 << 30;

impl NbdStorage {
    /// The bytes that whole blocks make up.
    pub(crate) fn size(&self) -> u64 {
        self.client.agreed.size - self.client.agreed.size % self.block()
    }

    pub(crate) fn block(&self) -> u64 {
        self.client.agreed.minimum_block.into()
    }

    pub(crate) fn most(&self) -> u64 {
        self.client.agreed.maximum_payload.into()
    }

    pub(crate) fn is_whole(&self, at: u64, len: u64) -> bool {
        at.is_multiple_of(self.block()) && len.is_multiple_of(self.block())
    }

    pub(crate) async fn ask(&self, question: Question<'_>) -> io::Result<Answer> {
        self.client.link.ask(question).await
    }

    pub(crate) async fn read_blocks(&self, at: u64, into: Buffers) -> io::Result<Buffers> {
        let question = Question {
            command: Command::Read,
            flags: 0,
            at,
            len: into.len() as u64,
            payload: &[],
            wanted: Wanted::Bytes(into),
            held: Held::NOTHING,
        };
        match self.ask(question).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::Extent(_) | Answer::Done => Err(odd()),
        }
    }

    /// The first extent of the range.
    pub(crate) async fn ask_extent(&self, at: u64, len: u64, context: ContextId) -> io::Result<Extent> {
        let question = Question {
            command: Command::BlockStatus,
            flags: CMD_FLAG_REQ_ONE,
            at,
            len: len.min(LONGEST),
            payload: &[],
            wanted: Wanted::Extent(context),
            held: Held::NOTHING,
        };
        match self.ask(question).await? {
            Answer::Extent(extent) => Ok(extent),
            Answer::Bytes(_) | Answer::Done => Err(odd()),
        }
    }

    pub(crate) async fn write_blocks(&self, at: u64, payload: &[&[u8]], held: &Held) -> io::Result<()> {
        let len = payload.iter().map(|part| part.len() as u64).sum();
        self.change(Command::Write, 0, (at, len), payload, held).await
    }

    pub(crate) async fn change(
        &self,
        command: Command,
        flags: u16,
        (at, len): (u64, u64),
        payload: &[&[u8]],
        held: &Held,
    ) -> io::Result<()> {
        let (wanted, held) = (Wanted::Nothing, held.clone());
        match self.ask(Question { command, flags, at, len, payload, wanted, held }).await? {
            Answer::Done => Ok(()),
            Answer::Bytes(_) | Answer::Extent(_) => Err(odd()),
        }
    }

    /// Waits until a change of that range may go to the server. What is returned holds that and `held`.
    pub(crate) async fn admit(&self, at: u64, len: u64, held: Held) -> io::Result<Held> {
        if self.is_read_only() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "the server exports the disk read-only"));
        }
        if self.block() == 1 {
            return Ok(held);
        }
        Ok(if self.is_whole(at, len) {
            Held::new(Arc::new((held, self.blocks.read_arc().await)))
        } else {
            Held::new(Arc::new((held, self.blocks.write_arc().await)))
        })
    }

    /// Writes a part of one block: reads it, changes it, writes it back.
    pub(crate) async fn patch(
        &self,
        at: u64,
        len: u64,
        held: &Held,
        fill: impl FnOnce(&mut [u8]),
    ) -> io::Result<()> {
        let start = at - at % self.block();
        let bounce = Buffers::from(Buffer::zeroed(self.block() as usize)).holding(held.clone());
        let mut block = self.read_blocks(start, bounce).await?.into_single();
        let from = (at - start) as usize;
        fill(&mut block[from..from + len as usize]);
        self.write_blocks(start, &[&block], held).await
    }

    /// The next piece of a change: how long it is, and whether it is whole blocks.
    pub(crate) fn piece(&self, at: u64, end: u64, most: u64) -> (u64, bool) {
        let into_block = at % self.block();
        let whole = (end - at).min(most);
        let whole = whole - whole % self.block();
        if into_block == 0 && whole > 0 {
            (whole, true)
        } else {
            ((self.block() - into_block).min(end - at), false)
        }
    }

    pub(crate) async fn zero(&self, mut at: u64, len: u64, flags: u16, held: Held) -> io::Result<()> {
        let end = self.size().min(at.saturating_add(len));
        if at >= end {
            return Ok(());
        }
        let held = self.admit(at, end - at, held).await?;
        let has_zeroes = self.has(TX_SEND_WRITE_ZEROES);
        while at < end {
            let (len, is_whole) = self.piece(at, end, if has_zeroes { LONGEST } else { self.most() });
            if !is_whole {
                self.patch(at, len, &held, |bytes| bytes.fill(0)).await?;
            } else if has_zeroes {
                self.change(Command::WriteZeroes, flags, (at, len), &[], &held).await?;
            } else {
                self.write_blocks(at, &[&Buffer::zeroed(len as usize)], &held).await?;
            }
            at += len;
        }
        Ok(())
    }
}

/// Replies are matched to their requests before; this is for the compiler.
fn odd() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "an answer to another question")
}
