//! An export as [`Storage`].
//!
//! Role: checks ranges, cuts requests to what the server takes, and asks.
//!
//! Invariant: a server that takes only whole blocks gets only whole blocks (`blocks.rs`).
//!
//! Absent on purpose: growing and cutting, which NBD does not have; caching.

use std::cmp::Ordering;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use async_lock::RwLock;
use quod_nbd::{CMD_FLAG_NO_HOLE, Command, TX_READ_ONLY, TX_SEND_FLUSH};
use quod_storage::{Alignment, Buffer, Buffers, Extent, ExtentKind, Held, Storage};

use crate::connect::Client;
use crate::parts;
use crate::uri::NbdUri;

/// A disk that a server exports. Cheap to clone; the connection goes with the last clone.
///
/// Futures block their thread while the server does not take a request in, and may run on any thread.
#[derive(Clone)]
pub struct NbdStorage {
    pub(crate) client: Arc<Client>,
    /// Taken alone by who reads blocks to write them back, shared by other writers.
    pub(crate) blocks: Arc<RwLock<()>>,
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

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.client.agreed.flags & flag != 0
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
        let flushed = if self.has(TX_SEND_FLUSH) {
            self.change(Command::Flush, 0, (0, 0), &[], &held).await
        } else {
            Ok(())
        };
        // Looked at last: one thread takes the replies in, so what failed for nobody before this reply is known by now.
        self.client.link.take_owed().map_or(flushed, Err)
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
        let told = self.ask_extent(start, (at + len - start).next_multiple_of(self.block()), context).await?;
        Ok(match told.len.checked_sub(at - start) {
            // What ends before the byte that was asked for says nothing about it.
            None | Some(0) => Extent { len: len.min(self.block() - (at - start)), kind: ExtentKind::Data },
            Some(rest) => Extent { len: len.min(rest), kind: told.kind },
        })
    }

    async fn length(&self) -> io::Result<u64> {
        Ok(self.size())
    }

    fn alignment(&self) -> Alignment {
        Alignment { offset: 1, memory: 1 }
    }
}

const _: () = {
    const fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<NbdStorage>();
};
