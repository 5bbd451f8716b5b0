//! An export as [`Storage`].
//!
//! Role: checks ranges, cuts requests to what the server takes, and asks.
//!
//! Invariant: a server that takes only whole blocks gets only whole blocks; where that means to read a block and write
//! it back, nothing else is written meanwhile, also when the future is dropped.
//!
//! Absent on purpose: growing and cutting, which NBD does not have; caching.

use std::cmp::Ordering;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use async_lock::RwLock;
use quod_nbd::{
    CMD_FLAG_NO_HOLE, CMD_FLAG_REQ_ONE, Command, TX_READ_ONLY, TX_SEND_FLUSH, TX_SEND_WRITE_ZEROES,
};
use quod_storage::{Alignment, Buffer, Buffers, Extent, ExtentKind, Held, Storage};

use crate::connect::Client;
use crate::link::Question;
use crate::parts;
use crate::reply::{Answer, Wanted};
use crate::uri::NbdUri;

/// The most bytes that one request without a payload is about.
const LONGEST: u64 = 1 << 30;

/// A disk that a server exports. Cheap to clone; the connection goes with the last clone.
///
/// Futures block their thread while the server does not take a request in, and may run on any thread.
#[derive(Clone)]
pub struct NbdStorage {
    client: Arc<Client>,
    /// Taken alone by who reads blocks to write them back, shared by other writers.
    blocks: Arc<RwLock<()>>,
}

impl NbdStorage {
    /// Connects to the export of that name; blocks until transmission begins, for ten seconds at most.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or makes no sense.
    pub fn connect(uri: &NbdUri) -> io::Result<Self> {
        Ok(NbdStorage { client: Arc::new(Client::connect(uri)?), blocks: Arc::default() })
    }

    /// Whether writes fail.
    pub fn is_read_only(&self) -> bool {
        self.has(TX_READ_ONLY)
    }

    fn has(&self, flag: u16) -> bool {
        self.client.agreed.flags & flag != 0
    }

    /// The bytes that whole blocks make up.
    fn size(&self) -> u64 {
        self.client.agreed.size - self.client.agreed.size % self.block()
    }

    fn block(&self) -> u64 {
        self.client.agreed.minimum_block.into()
    }

    fn most(&self) -> u64 {
        self.client.agreed.maximum_payload.into()
    }

    fn is_whole(&self, at: u64, len: u64) -> bool {
        at.is_multiple_of(self.block()) && len.is_multiple_of(self.block())
    }

    async fn ask(&self, question: Question<'_>) -> io::Result<Answer> {
        self.client.link.ask(question).await
    }

    async fn read_blocks(&self, at: u64, into: Buffers) -> io::Result<Buffers> {
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

    async fn write_blocks(&self, at: u64, payload: &[&[u8]], held: &Held) -> io::Result<()> {
        let len = payload.iter().map(|part| part.len() as u64).sum();
        self.change(Command::Write, 0, (at, len), payload, held).await
    }

    async fn change(
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
    async fn admit(&self, at: u64, len: u64, held: Held) -> io::Result<Held> {
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
    async fn patch(&self, at: u64, len: u64, held: &Held, fill: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let start = at - at % self.block();
        let bounce = Buffers::from(Buffer::zeroed(self.block() as usize)).holding(held.clone());
        let mut block = self.read_blocks(start, bounce).await?.into_single();
        let from = (at - start) as usize;
        fill(&mut block[from..from + len as usize]);
        self.write_blocks(start, &[&block], held).await
    }

    /// The next piece of a change: how long it is, and whether it is whole blocks.
    fn piece(&self, at: u64, end: u64, most: u64) -> (u64, bool) {
        let into_block = at % self.block();
        let whole = (end - at).min(most);
        let whole = whole - whole % self.block();
        if into_block == 0 && whole > 0 {
            (whole, true)
        } else {
            ((self.block() - into_block).min(end - at), false)
        }
    }

    async fn zero(&self, mut at: u64, len: u64, flags: u16, held: Held) -> io::Result<()> {
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

impl Storage for NbdStorage {
    async fn read_at(&self, at: u64, mut into: Buffers) -> io::Result<Buffers> {
        let len = into.len() as u64;
        let end = at.checked_add(len).filter(|&end| end <= self.size());
        let end = end.ok_or(ErrorKind::UnexpectedEof)?;
        if len == 0 {
            return Ok(into);
        }
        if self.is_whole(at, len) && len <= self.most() {
            return self.read_blocks(at, into).await;
        }
        let mut start = at - at % self.block();
        while start < end {
            let piece = self.most().min((end - start).next_multiple_of(self.block()));
            let bounce = Buffers::from(Buffer::zeroed(piece as usize)).holding(into.held.clone());
            let bytes = self.read_blocks(start, bounce).await?.into_single();
            let wanted = at.max(start)..end.min(start + piece);
            let bytes = &bytes[(wanted.start - start) as usize..(wanted.end - start) as usize];
            parts::put(&mut into.parts, (wanted.start - at) as usize, bytes);
            start += piece;
        }
        Ok(into)
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        let len = from.len() as u64;
        if len == 0 {
            return Ok(from);
        }
        let end = at.checked_add(len).filter(|&end| end <= self.size()).ok_or_else(|| {
            let sentence = format!("the export ends at {} bytes, and NBD cannot grow it", self.size());
            io::Error::new(ErrorKind::StorageFull, sentence)
        })?;
        let held = self.admit(at, len, from.held.clone()).await?;
        let mut next = at;
        while next < end {
            let (len, is_whole) = self.piece(next, end, self.most());
            let bytes = parts::slices(&from.parts, (next - at) as usize, len as usize);
            if is_whole {
                self.write_blocks(next, &bytes, &held).await?;
            } else {
                self.patch(next, len, &held, |block| block.copy_from_slice(&bytes.concat())).await?;
            }
            next += len;
        }
        Ok(from)
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        if let Some(error) = self.client.link.take_owed() {
            return Err(error);
        }
        if !self.has(TX_SEND_FLUSH) {
            return Ok(());
        }
        self.change(Command::Flush, 0, (0, 0), &[], &held).await
    }

    async fn set_len(&self, len: u64, _held: Held) -> io::Result<()> {
        match len.cmp(&self.size()) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(io::Error::new(ErrorKind::StorageFull, "Cannot grow NBD nodes")),
            Ordering::Less => Err(io::Error::new(ErrorKind::Unsupported, "Cannot shrink NBD nodes")),
        }
    }

    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.zero(at, len, 0, held).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.zero(at, len, CMD_FLAG_NO_HOLE, held).await
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        if at >= self.size() || len == 0 {
            return Ok(Extent { len, kind: ExtentKind::Hole });
        }
        let len = len.min(self.size() - at);
        let Some(context) = self.client.agreed.base_allocation else {
            return Ok(Extent { len, kind: ExtentKind::Data });
        };
        let start = at - at % self.block();
        let question = Question {
            command: Command::BlockStatus,
            flags: CMD_FLAG_REQ_ONE,
            at: start,
            len: (at + len - start).next_multiple_of(self.block()).min(LONGEST),
            payload: &[],
            wanted: Wanted::Extent(context),
            held: Held::NOTHING,
        };
        match self.ask(question).await? {
            // What ends before the byte that was asked for says nothing about it.
            Answer::Extent(Extent { len: told, .. }) if told <= at - start => {
                Ok(Extent { len: len.min(self.block() - (at - start)), kind: ExtentKind::Data })
            }
            Answer::Extent(Extent { len: told, kind }) => {
                Ok(Extent { len: len.min(told - (at - start)), kind })
            }
            Answer::Bytes(_) | Answer::Done => Err(odd()),
        }
    }

    async fn length(&self) -> io::Result<u64> {
        Ok(self.size())
    }

    fn alignment(&self) -> Alignment {
        Alignment { offset: 1, memory: 1 }
    }
}

/// Replies are matched to their requests before; this is for the compiler.
fn odd() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "an answer to another question")
}

const _: () = {
    const fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<NbdStorage>();
};
