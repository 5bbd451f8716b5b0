//! Any range and any memory, of storage that takes whole blocks.
//!
//! Role: [`AnyRange`] turns requests into whole blocks; a part of a block is changed by reading it, changing it and writing
//! it back.
//!
//! Invariants: while a part of a block is changed, nothing else is, also when the future is dropped. The file ends where
//! it did, or where the bytes end that were written.
//!
//! Absent on purpose: keeping blocks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_lock::RwLock;

use crate::{Alignment, Buffer, Buffers, Extent, ExtentKind, Held, Storage};

/// The most bytes that are copied at a time.
const PIECE: u64 = 1 << 20;

/// A storage that takes any range. Where `S` does, too, this costs nothing.
///
/// The end of the file may lie in a block, which `S` reads as zeroes behind it.
#[derive(Clone, Debug)]
pub struct AnyRange<S> {
    inner: S,
    alignment: Alignment,
    /// Taken alone by who reads blocks to write them back, and by who moves the end; shared by other changes.
    changes: Arc<RwLock<()>>,
    /// Where the file's end has been seen. It is not before that unless others cut the file.
    seen_end: Arc<AtomicU64>,
}

impl<S: Storage> AnyRange<S> {
    /// Turns what is asked into what `inner` takes.
    pub fn of(inner: S) -> Self {
        AnyRange { alignment: inner.alignment(), inner, changes: Arc::default(), seen_end: Arc::default() }
    }

    /// What takes whole blocks.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn takes_any(&self) -> bool {
        self.alignment == Alignment::ANY
    }

    fn is_whole(&self, at: u64, len: u64) -> bool {
        at.is_multiple_of(self.alignment.offset) && len.is_multiple_of(self.alignment.offset)
    }

    fn fits(&self, at: u64, buffers: &Buffers) -> bool {
        let Alignment { offset, memory } = self.alignment;
        let part_fits = |part: &Buffer| {
            (part.as_ptr().addr()).is_multiple_of(memory) && (part.len() as u64).is_multiple_of(offset)
        };
        at.is_multiple_of(offset) && buffers.parts.iter().all(part_fits)
    }

    /// Waits until a change of that range may begin. What is returned holds that and `held`.
    async fn admit(&self, at: u64, len: u64, held: Held) -> Held {
        match self.is_whole(at, len) {
            true => Held::new(Arc::new((held, self.changes.read_arc().await))),
            false => self.admit_alone(held).await,
        }
    }

    async fn admit_alone(&self, held: Held) -> Held {
        Held::new(Arc::new((held, self.changes.write_arc().await)))
    }

    /// The next piece of a change that goes on to `end`: how long it is, and whether it is whole blocks.
    fn piece(&self, at: u64, end: u64, most: u64) -> (u64, bool) {
        let block = self.alignment.offset;
        let whole = (end - at).min(most.next_multiple_of(block));
        let whole = whole - whole % block;
        match at % block {
            0 if whole > 0 => (whole, true),
            inside => ((block - inside).min(end - at), false),
        }
    }

    /// Where a range ends that must lie inside the file. The file is not asked for what is known.
    async fn end_inside(&self, at: u64, len: u64) -> io::Result<u64> {
        let end = at.checked_add(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.seen_end.load(Ordering::Relaxed) {
            // While the end moves, what is learnt of it is not kept.
            let unmoved = self.changes.try_read();
            let length = self.inner.length().await?;
            if unmoved.is_some() {
                self.seen_end.store(length, Ordering::Relaxed);
            }
            if end > length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(end)
    }

    /// Changes a part of one block of a file of so many bytes.
    async fn patch(
        &self,
        at: u64,
        len: u64,
        length: u64,
        held: &Held,
        fill: impl FnOnce(&mut [u8]),
    ) -> io::Result<()> {
        let block = self.alignment.offset;
        let start = at - at % block;
        let mut bytes = Buffers::from(Buffer::zeroed(block as usize)).holding(held.clone());
        if start < length {
            bytes = self.inner.read_at(start, bytes).await?;
        }
        let from = (at - start) as usize;
        fill(&mut bytes.parts[0][from..from + len as usize]);
        self.inner.write_at(start, bytes).await?;
        let end = length.max(at + len);
        if start + block > end {
            self.inner.set_len(end, held.clone()).await?;
        }
        Ok(())
    }

    async fn write_pieces(&self, at: u64, from: &Buffers, held: &Held) -> io::Result<()> {
        let end = at + from.len() as u64;
        let mut next = at;
        while next < end {
            let (len, is_whole) = self.piece(next, end, PIECE);
            let mut bytes = Buffer::zeroed(len as usize);
            from.copy_out((next - at) as usize, &mut bytes);
            if is_whole {
                self.inner.write_at(next, Buffers::from(bytes).holding(held.clone())).await?;
            } else {
                let length = self.inner.length().await?;
                self.patch(next, len, length, held, |block| block.copy_from_slice(&bytes)).await?;
            }
            next += len;
        }
        Ok(())
    }

    /// Clears the range up to the end of the file; whole blocks as `clear` says.
    async fn clear<F: Future<Output = io::Result<()>>>(
        &self,
        at: u64,
        len: u64,
        held: Held,
        clear: impl Fn(u64, u64, Held) -> F,
    ) -> io::Result<()> {
        if self.takes_any() {
            return clear(at, len, held).await;
        }
        let held = self.admit(at, len, held).await;
        let length = self.inner.length().await?;
        let end = length.min(at.saturating_add(len));
        let mut next = at;
        while next < end {
            let (len, is_whole) = self.piece(next, end, u64::MAX / 2);
            match is_whole {
                true => clear(next, len, held.clone()).await?,
                false => self.patch(next, len, length, &held, |bytes| bytes.fill(0)).await?,
            }
            next += len;
        }
        Ok(())
    }
}

impl<S: Storage> Storage for AnyRange<S> {
    async fn read_at(&self, at: u64, mut into: Buffers) -> io::Result<Buffers> {
        if self.takes_any() {
            return self.inner.read_at(at, into).await;
        }
        let len = into.len() as u64;
        if len == 0 {
            return Ok(into);
        }
        let end = self.end_inside(at, len).await?;
        if self.fits(at, &into) {
            return self.inner.read_at(at, into).await;
        }
        let block = self.alignment.offset;
        let mut start = at - at % block;
        while start < end {
            let piece = (end - start).min(PIECE).next_multiple_of(block);
            let bounce = Buffers::from(Buffer::zeroed(piece as usize)).holding(into.held.clone());
            let bytes = self.inner.read_at(start, bounce).await?.into_single();
            let wanted = at.max(start)..end.min(start + piece);
            let bytes = &bytes[(wanted.start - start) as usize..(wanted.end - start) as usize];
            into.copy_in((wanted.start - at) as usize, bytes);
            start += piece;
        }
        Ok(into)
    }

    fn read_now(&self, at: u64, into: &mut [u8]) -> Option<io::Result<()>> {
        if self.takes_any() { self.inner.read_now(at, into) } else { None }
    }

    async fn write_at(&self, at: u64, mut from: Buffers) -> io::Result<Buffers> {
        if self.takes_any() || from.is_empty() {
            return self.inner.write_at(at, from).await;
        }
        let asked = from.held.clone();
        let held = self.admit(at, from.len() as u64, asked.clone()).await;
        if self.fits(at, &from) {
            from.held = held;
            let written = self.inner.write_at(at, from).await?;
            return Ok(written.holding(asked));
        }
        self.write_pieces(at, &from, &held).await?;
        Ok(from)
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        self.inner.flush(held).await
    }

    async fn set_len(&self, len: u64, held: Held) -> io::Result<()> {
        if self.takes_any() {
            return self.inner.set_len(len, held).await;
        }
        let held = self.admit_alone(held).await;
        self.seen_end.fetch_min(len, Ordering::Relaxed);
        self.inner.set_len(len, held).await
    }

    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.clear(at, len, held, |at, len, held| self.inner.punch(at, len, held)).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.clear(at, len, held, |at, len, held| self.inner.write_zeroes(at, len, held)).await
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        if self.takes_any() {
            return self.inner.extent(at, len).await;
        }
        let block = self.alignment.offset;
        let inside = at % block;
        let told = self.inner.extent(at - inside, len.saturating_add(inside).next_multiple_of(block)).await?;
        Ok(match told.len.checked_sub(inside) {
            // What ends before the byte that was asked for says nothing about it.
            None | Some(0) => Extent { len: len.min(block - inside), kind: ExtentKind::Data },
            Some(rest) => Extent { len: len.min(rest), kind: told.kind },
        })
    }

    async fn length(&self) -> io::Result<u64> {
        self.inner.length().await
    }

    fn alignment(&self) -> Alignment {
        Alignment::ANY
    }
}
