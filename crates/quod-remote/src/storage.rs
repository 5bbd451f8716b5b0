//! An export as [`Storage`].
//!
//! Role: checks ranges, cuts requests to what the server takes, and asks.
//!
//! Absent on purpose: parts of blocks, which `AnyRange` of quod-storage makes whole; growing and cutting, which NBD does not
//! have; caching.

use std::cmp::Ordering;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use quod_nbd::{CMD_FLAG_NO_HOLE, Command, TX_READ_ONLY, TX_SEND_FLUSH};
use quod_storage::{Alignment, Buffer, Buffers, Extent, ExtentKind, Held, Storage};

use crate::connect::Client;
use crate::uri::NbdUri;

/// A disk that a server exports. Cheap to clone; the connection goes with the last clone.
///
/// Takes what the server does: for some that is whole blocks, and then `AnyRange` goes between.
///
/// Futures block their thread while the server does not take a request in, and may run on any thread.
#[derive(Clone)]
pub struct NbdStorage {
    pub(crate) client: Arc<Client>,
}

impl NbdStorage {
    /// Connects to the export of that name; blocks until transmission begins, for ten seconds at most.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or makes no sense.
    pub fn connect(uri: &NbdUri) -> io::Result<Self> {
        Ok(NbdStorage { client: Arc::new(Client::connect(uri)?) })
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
        at.checked_add(len).filter(|&end| end <= self.size()).ok_or(ErrorKind::UnexpectedEof)?;
        self.check_whole(at, len)?;
        if len <= self.most() {
            return if len == 0 { Ok(into) } else { self.read_blocks(at, into).await };
        }
        for start in (0..len).step_by(self.most() as usize) {
            let piece = Buffer::zeroed(self.most().min(len - start) as usize);
            let piece = Buffers::from(piece).holding(into.held.clone());
            into.copy_in(start as usize, &self.read_blocks(at + start, piece).await?.into_single());
        }
        Ok(into)
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        let len = from.len() as u64;
        at.checked_add(len).filter(|&end| len == 0 || end <= self.size()).ok_or_else(|| {
            let sentence = format!("the export ends at {} bytes, and NBD cannot grow it", self.size());
            io::Error::new(ErrorKind::StorageFull, sentence)
        })?;
        self.check_change(at, len)?;
        for start in (0..len).step_by(self.most() as usize) {
            let piece: Vec<_> = from.slices(start as usize, self.most() as usize).collect();
            self.write_blocks(at + start, &piece, &from.held).await?;
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
        self.check_whole(at, 0)?;
        let len = len.min(self.size() - at);
        match self.client.agreed.base_allocation {
            Some(context) => {
                let told = self.ask_extent(at, len.next_multiple_of(self.block()), context).await?;
                Ok(Extent { len: told.len.min(len), ..told })
            }
            None => Ok(Extent { len, kind: ExtentKind::Data }),
        }
    }

    async fn length(&self) -> io::Result<u64> {
        Ok(self.size())
    }

    fn alignment(&self) -> Alignment {
        Alignment { offset: self.block(), ..Alignment::ANY }
    }
}

const _: () = {
    const fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<NbdStorage>();
};
