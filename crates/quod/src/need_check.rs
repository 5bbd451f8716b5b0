//! The life of the dirty bit, and every other change of the header of an open image.
//!
//! Role: NEED_CHECK is durable before the first unordered step (D4, D9), and is cleared behind a gate that holds back
//! metadata updates across the flush, the header write, and the flush after it.
//!
//! Invariants: while `set` is true the bit is durable in the file. Whoever updates metadata holds a [`Permit`].
//! Crash states: the bit may be set with nothing to repair; it is never clear with something to repair.
//!
//! Absent on purpose: a clock. "Idle" is what has not moved between two calls of `maintain`.

use std::sync::{Arc, PoisonError};

use quod_storage::{Buffer, Buffers, Held, Storage};

use crate::error::{Error, ErrorKind, Result};
use crate::flush::Flusher;
use crate::gate::{Closed, Gate, Inside};
use crate::header::{HEADER_BYTES, Header};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Event, Mutex, MutexGuard};
use crate::turn::Turn;

/// The header of an image that is open for writing.
pub(crate) struct NeedCheck {
    /// Whether this image's updates are unordered, so that it needs the bit at all. Over a backing file they are not.
    unordered: bool,
    set: AtomicBool,
    touched: AtomicBool,
    gate: Gate,
    /// The first bytes of the file, of which the header is the beginning.
    start: Mutex<(Header, Vec<u8>)>,
    turn: Turn,
    /// Permits given so far, and how many of them the last `maintain` saw.
    updates: AtomicU64,
    seen: AtomicU64,
    /// One more was given.
    moved: Event,
}

/// The right to update metadata.
pub(crate) type Permit = Inside;

impl NeedCheck {
    /// Takes the header of an image whose bit is clear, and the first bytes of its file.
    pub(crate) fn new(header: Header, start: Vec<u8>, unordered: bool) -> Self {
        NeedCheck {
            unordered,
            set: AtomicBool::new(false),
            touched: AtomicBool::new(false),
            gate: Gate::default(),
            start: Mutex::new((header, start)),
            turn: Turn::default(),
            updates: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            moved: Event::default(),
        }
    }

    /// Waits for the right to update metadata; sets the bit and makes it durable first where that is needed.
    ///
    /// # Errors
    /// The header cannot be written or flushed; `Closed`.
    pub(crate) async fn permit<S: Storage>(&self, storage: &S, flusher: &Flusher) -> Result<Arc<Permit>> {
        let permit = Arc::new(self.enter().await?);
        self.updates.fetch_add(1, Ordering::Relaxed);
        self.moved.notify(usize::MAX);
        if self.unordered && !self.set.load(Ordering::Acquire) {
            let turn = self.turn.take().await;
            if !self.set.load(Ordering::Acquire) {
                let held = Held::new(Arc::new((permit.clone(), turn.clone())));
                self.touched.store(true, Ordering::Release);
                self.write(storage, flusher, &held, |header| header.set_needs_check(true)).await?;
                flusher.wrote();
                flusher.flush(storage, &held).await?;
                self.set.store(true, Ordering::Release);
            }
        }
        Ok(permit)
    }

    async fn enter(&self) -> Result<Permit> {
        let closed = || Error::new(ErrorKind::Closed, "the image was closed meanwhile");
        self.gate.enter().await.ok_or_else(closed)
    }

    /// Holds metadata updates back for good: those that have no permit yet will get none.
    pub(crate) fn shut_gate(&self) {
        self.gate.shut();
    }

    /// Holds metadata updates back until the guard is dropped.
    pub(crate) async fn close_gate(&self) -> Arc<Closed> {
        Arc::new(self.gate.close().await)
    }

    /// Whether nobody has a permit.
    pub(crate) fn is_free(&self) -> bool {
        self.gate.is_free()
    }

    /// Holds what is known of the bit against the file.
    ///
    /// # Panics
    /// When they differ.
    pub(crate) fn validate(&self, in_file: bool) {
        let (set, touched) = (self.set.load(Ordering::Acquire), self.touched.load(Ordering::Acquire));
        assert!(in_file || !set, "NEED_CHECK is taken for set, and the file has it clear");
        assert!(touched || !in_file, "NEED_CHECK was never set, and the file has it set");
    }

    /// Whether no metadata was updated since the last call.
    pub(crate) fn is_idle(&self) -> bool {
        let updates = self.updates.load(Ordering::Relaxed);
        self.seen.swap(updates, Ordering::Relaxed) == updates
    }

    /// Waits until metadata was updated since the last [`is_idle`](NeedCheck::is_idle), or `other` holds, which can come to
    /// hold only by such an update. Cancel-safe.
    pub(crate) async fn moved_or(&self, other: impl Fn() -> bool) {
        loop {
            let moved = self.moved.listen();
            if self.updates.load(Ordering::Relaxed) != self.seen.load(Ordering::Relaxed) || other() {
                return;
            }
            moved.await;
        }
    }

    /// Whether the bit may be set in the file.
    pub(crate) fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Acquire)
    }

    /// Clears the bit, behind the closed gate: flush, header, flush.
    ///
    /// # Errors
    /// One of the three failed. The bit may be set or clear in the file, in which everything that a clear one vouches for
    /// is durable; the next permit sets it again first. The image is latched unless it was for want of room.
    pub(crate) async fn clear<S: Storage>(&self, storage: &S, flusher: &Flusher, gate: &Held) -> Result<()> {
        let turn = self.turn.take().await;
        if !self.touched.load(Ordering::Acquire) {
            return Ok(());
        }
        if !self.set.load(Ordering::Acquire) {
            // A dropped request set it, and nobody noted what came of that.
            flusher.wrote();
        }
        let held = Held::new(Arc::new((gate.clone(), turn.clone())));
        flusher.flush(storage, &held).await?;
        // From here on the file may say "clear", also when this future is dropped.
        self.set.store(false, Ordering::Release);
        self.write(storage, flusher, &held, |header| header.set_needs_check(false)).await?;
        self.touched.store(false, Ordering::Release);
        flusher.wrote();
        flusher.flush(storage, &held).await
    }

    /// Writes a new virtual size into the header. Crash states: the old size or the new one.
    ///
    /// # Errors
    /// The header cannot be written; `Closed`.
    pub(crate) async fn set_image_size<S: Storage>(
        &self,
        storage: &S,
        flusher: &Flusher,
        bytes: u64,
        held: &Held,
    ) -> Result<()> {
        let permit = Arc::new(self.enter().await?);
        let turn = self.turn.take().await;
        let held = Held::new(Arc::new((held.clone(), permit, turn.clone())));
        self.write(storage, flusher, &held, |header| header.set_image_size(bytes)).await
    }

    /// Writes a changed header over the old one; the bytes behind it stay what they were. Under the turn.
    async fn write<S: Storage>(
        &self,
        storage: &S,
        flusher: &Flusher,
        held: &Held,
        change: impl FnOnce(&mut Header),
    ) -> Result<()> {
        let (header, start) = {
            let mut start = self.start();
            let mut header = start.0.clone();
            change(&mut header);
            start.1[..HEADER_BYTES].copy_from_slice(header.encode());
            (header, Buffer::copy_of(&start.1))
        };
        let written = storage.write_at(0, Buffers::from(start).holding(held.clone())).await;
        written
            .map_err(|source| flusher.metadata_failed(Error::io("the header cannot be written", source)))?;
        self.start().0 = header;
        Ok(())
    }

    fn start(&self) -> MutexGuard<'_, (Header, Vec<u8>)> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
