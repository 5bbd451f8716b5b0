//! A slice of a table in memory: entries, pins, and the updates on their way to the file.
//!
//! Role: [`Slice`] holds the committed entries as atomics, [`Pinned`] keeps one from being evicted, and [`Updates`]
//! queues entries until `commit.rs` has them in the file.
//!
//! Invariants: an entry changes only after the file has it, by whoever holds the slice's turn, under a pin. The
//! state is a count of pins, or [`EVICTED`], from which there is no way back. A slice with updates is pinned.
//!
//! Absent on purpose: the order of writes and flushes (`commit.rs`), and entries that are visible but not in the file.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::turn::Turn;
use crate::units::FileOffset;

/// State of a slice that has left the cache.
const EVICTED: u32 = u32::MAX;

/// Bytes that the allocator and the reference counts add to a slice, about.
const OVERHEAD: usize = 64;

/// Which tables a slice is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableLevel {
    /// The one L1 table.
    L1,
    /// An L2 table.
    L2,
}

/// Which slice: the `index`th of all slices of its level, in the order of the guest offsets they cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SliceKey {
    /// Level of the table.
    pub level: TableLevel,
    /// Guest offset divided by what a slice covers.
    pub index: u64,
}

/// New values for a run of entries of one slice: `first`, `first + stride`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRun {
    /// Place in the slice, counted in entries.
    pub start: usize,
    /// Entries; at least one.
    pub count: usize,
    /// The first entry's value.
    pub first: u64,
    /// What each next value is larger by.
    pub stride: u64,
}

impl EntryRun {
    /// Places and values, one after another.
    pub fn entries(&self) -> impl Iterator<Item = (usize, u64)> + use<> {
        let run = *self;
        (0..run.count).map(move |i| (run.start + i, run.first + i as u64 * run.stride))
    }
}

/// A slice of a table.
pub struct Slice {
    key: SliceKey,
    at: FileOffset,
    entries: Box<[AtomicU64]>,
    state: AtomicU32,
    visited: AtomicBool,
    pub(crate) updates: Updates,
}

impl Slice {
    /// Takes the entries that lie in the file at `at`.
    pub fn new(key: SliceKey, at: FileOffset, entries: impl Iterator<Item = u64>) -> Self {
        Slice {
            key,
            at,
            entries: entries.map(AtomicU64::new).collect(),
            state: AtomicU32::new(0),
            visited: AtomicBool::new(false),
            updates: Updates::default(),
        }
    }

    /// Which slice it is.
    pub fn key(&self) -> SliceKey {
        self.key
    }

    /// Where its first entry lies in the file.
    pub fn at(&self) -> FileOffset {
        self.at
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entries; none that came from a table.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The committed value of an entry.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn entry(&self, index: usize) -> u64 {
        self.entries[index].load(Ordering::Acquire)
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<u64>() + size_of::<Slice>() + OVERHEAD
    }

    /// Makes a run visible that is in the file.
    pub fn publish(&self, run: &EntryRun) {
        for (index, value) in run.entries() {
            self.entries[index].store(value, Ordering::Release);
        }
    }

    pub(super) fn visit(&self) {
        // Looked at first, so that a hot slice's line stays shared between cores.
        if !self.visited.load(Ordering::Relaxed) {
            self.visited.store(true, Ordering::Relaxed);
        }
    }

    /// Tells whether it was visited since the last time.
    pub(super) fn forget_visit(&self) -> bool {
        self.visited.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_pinned(&self) -> bool {
        !matches!(self.state.load(Ordering::Acquire), 0 | EVICTED)
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.state.load(Ordering::Acquire) == EVICTED
    }

    /// Takes it out of use, unless it is pinned.
    pub(super) fn try_evict(&self) -> bool {
        self.state.compare_exchange(0, EVICTED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn try_pin(&self) -> bool {
        let more = |pins| (pins != EVICTED).then(|| pins + 1);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({:?} at {})", self.key, self.at)
    }
}

/// A slice that cannot be evicted for as long as this lives.
#[derive(Debug)]
pub struct Pinned(Arc<Slice>);

impl Pinned {
    /// Pins a slice that nobody else has yet.
    pub(super) fn fresh(slice: Arc<Slice>) -> Self {
        Pinned::try_new(&slice).expect("a slice that is not in the cache yet cannot be evicted")
    }

    /// Pins, unless it is evicted already.
    pub(super) fn try_new(slice: &Arc<Slice>) -> Option<Self> {
        slice.try_pin().then(|| Pinned(Arc::clone(slice)))
    }

    pub(super) fn shared(&self) -> &Arc<Slice> {
        &self.0
    }
}

impl Clone for Pinned {
    fn clone(&self) -> Self {
        Pinned::try_new(&self.0).expect("a pinned slice cannot be evicted")
    }
}

impl Deref for Pinned {
    type Target = Slice;

    fn deref(&self) -> &Slice {
        &self.0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Entries of one slice that are on their way to the file, in the order they came.
#[derive(Default)]
pub(crate) struct Updates {
    /// Whoever holds it may write the slice to the file and publish entries.
    pub(crate) turn: Turn,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: Vec<Waiting>,
}

struct Waiting {
    number: u64,
    run: EntryRun,
    /// A write that carried it was begun: the file may have it, so it stays until a write that carries it succeeds.
    attempted: bool,
}

/// A place in the queue of a slice. Dropped before anybody tried to write it, it takes its entries back.
pub(crate) struct Enqueued<'a> {
    slice: &'a Slice,
    number: u64,
}

impl Updates {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether entries wait that a failed or cancelled write may have brought to the file.
    pub(crate) fn unsettled(&self) -> bool {
        self.lock().waiting.iter().any(|waiting| waiting.attempted)
    }

    /// Whether such entries wait for any of these places.
    pub(crate) fn attempted_in(&self, places: &Range<usize>) -> bool {
        let overlaps = |run: &EntryRun| run.start < places.end && places.start < run.start + run.count;
        self.lock().waiting.iter().any(|waiting| waiting.attempted && overlaps(&waiting.run))
    }

    /// All that waits, to be written together. Until [`settle`](Updates::settle) they may be in the file or not.
    pub(crate) fn attempt(&self) -> Vec<EntryRun> {
        let mut queue = self.lock();
        queue.waiting.iter_mut().for_each(|waiting| waiting.attempted = true);
        queue.waiting.iter().map(|waiting| waiting.run).collect()
    }

    /// Forgets the first `count`: the file has them.
    pub(crate) fn settle(&self, count: usize) {
        self.lock().waiting.drain(..count);
    }
}

impl Slice {
    /// Queues a run of entries for the file.
    pub(crate) fn enqueue(&self, run: EntryRun) -> Enqueued<'_> {
        let mut queue = self.updates.lock();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push(Waiting { number, run, attempted: false });
        Enqueued { slice: self, number }
    }
}

impl Enqueued<'_> {
    /// Whether the file has the entries.
    pub(crate) fn is_settled(&self) -> bool {
        !self.slice.updates.lock().waiting.iter().any(|waiting| waiting.number == self.number)
    }
}

impl Drop for Enqueued<'_> {
    fn drop(&mut self) {
        self.slice
            .updates
            .lock()
            .waiting
            .retain(|waiting| waiting.attempted || waiting.number != self.number);
    }
}
