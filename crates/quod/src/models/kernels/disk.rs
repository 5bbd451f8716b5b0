//! Storage that knows which writes have completed and which of them a flush has made durable.
//!
//! Role: what the kernels of flushes and of room at the end ask of a file: flushes and changes of the length.
//!
//! Invariant: a flush covers what had completed when it began, and nothing when it fails.
//!
//! Absent on purpose: bytes, and order between threads: the disk knows what came first, and does not tell.

use std::io;

use quod_storage::{Alignment, Buffers, Extent, Held, Storage};

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A file without bytes.
#[derive(Default)]
pub(super) struct Disk {
    /// A bit for each write.
    completed: AtomicUsize,
    durable: AtomicUsize,
    length: AtomicU64,
    pub(super) flushes: AtomicUsize,
    /// How many of the next flushes and changes of the length fail.
    pub(super) failing: AtomicUsize,
    /// How many of the next flushes wait for [`let_end`](Disk::let_end).
    pub(super) holding: AtomicUsize,
    held_back: Mutex<Vec<(usize, Held)>>,
}

impl Disk {
    pub(super) fn of_length(length: u64) -> Self {
        Disk { length: AtomicU64::new(length), ..Disk::default() }
    }

    /// A write completes.
    pub(super) fn write(&self, number: usize) {
        self.completed.fetch_or(1 << number, Ordering::Relaxed);
    }

    pub(super) fn is_durable(&self, number: usize) -> bool {
        self.durable.fetch_or(0, Ordering::Relaxed) & 1 << number != 0
    }

    pub(super) fn now(&self) -> u64 {
        self.length.fetch_or(0, Ordering::AcqRel)
    }

    /// Ends the flushes that were held back: they succeed.
    pub(super) fn let_end(&self) {
        let held_back = std::mem::take(&mut *self.held_back.lock().expect("no panic under it"));
        for (covered, held) in held_back {
            self.durable.fetch_or(covered, Ordering::Relaxed);
            drop(held);
        }
    }

    fn takes(&self, count: &AtomicUsize) -> bool {
        let less = |left: usize| left.checked_sub(1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }
}

impl Storage for Disk {
    async fn read_at(&self, _at: u64, _into: Buffers) -> io::Result<Buffers> {
        unreachable!("a file without bytes is not read")
    }

    async fn write_at(&self, _at: u64, _from: Buffers) -> io::Result<Buffers> {
        unreachable!("a file without bytes is not written")
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::AcqRel);
        let covered = self.completed.fetch_or(0, Ordering::Relaxed);
        if self.takes(&self.holding) {
            self.held_back.lock().expect("no panic under it").push((covered, held));
            return std::future::pending().await;
        }
        if self.takes(&self.failing) {
            return Err(io::ErrorKind::Other.into());
        }
        self.durable.fetch_or(covered, Ordering::Relaxed);
        Ok(())
    }

    async fn set_len(&self, len: u64, _held: Held) -> io::Result<()> {
        if self.takes(&self.failing) {
            return Err(io::ErrorKind::Other.into());
        }
        self.length.swap(len, Ordering::AcqRel);
        Ok(())
    }

    async fn punch(&self, _at: u64, _len: u64, _held: Held) -> io::Result<()> {
        Ok(())
    }

    async fn write_zeroes(&self, _at: u64, _len: u64, _held: Held) -> io::Result<()> {
        Ok(())
    }

    async fn extent(&self, _at: u64, _len: u64) -> io::Result<Extent> {
        unreachable!("a file without bytes has no holes")
    }

    async fn length(&self) -> io::Result<u64> {
        Ok(self.now())
    }

    fn alignment(&self) -> Alignment {
        Alignment::ANY
    }
}
