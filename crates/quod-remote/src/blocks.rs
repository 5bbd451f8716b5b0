//! Requests for whole blocks.
//!
//! Role: what a server is asked, one question at a time.
//!
//! Invariant: a server is asked for whole blocks only, and for changes only where it allows them.
//!
//! Absent on purpose: checks against the disk's end (`storage.rs`).

use std::io::{self, ErrorKind};

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

    /// The most bytes of one request with a payload: whole blocks.
    pub(crate) fn most(&self) -> u64 {
        let most = u64::from(self.client.agreed.maximum_payload);
        (most - most % self.block()).max(self.block())
    }

    /// # Errors
    /// `InvalidInput` for parts of blocks.
    pub(crate) fn check_whole(&self, at: u64, len: u64) -> io::Result<()> {
        if at.is_multiple_of(self.block()) && len.is_multiple_of(self.block()) {
            return Ok(());
        }
        let sentence = format!("{len} bytes from {at} are not whole blocks of {}", self.block());
        Err(io::Error::new(ErrorKind::InvalidInput, sentence))
    }

    /// # Errors
    /// `PermissionDenied` when the server allows no change, `InvalidInput` for parts of blocks.
    pub(crate) fn check_change(&self, at: u64, len: u64) -> io::Result<()> {
        if self.is_read_only() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "the server exports the disk read-only"));
        }
        self.check_whole(at, len)
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

    pub(crate) async fn zero(&self, mut at: u64, len: u64, flags: u16, held: Held) -> io::Result<()> {
        let end = self.size().min(at.saturating_add(len));
        if at >= end {
            return Ok(());
        }
        self.check_change(at, end - at)?;
        while at < end {
            let len = if self.has(TX_SEND_WRITE_ZEROES) {
                let len = LONGEST.min(end - at);
                self.change(Command::WriteZeroes, flags, (at, len), &[], &held).await?;
                len
            } else {
                let len = self.most().min(end - at);
                self.write_blocks(at, &[&Buffer::zeroed(len as usize)], &held).await?;
                len
            };
            at += len;
        }
        Ok(())
    }
}

/// Replies are matched to their requests before; this is for the compiler.
fn odd() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "an answer to another question")
}
