//! Entries of a slice that are on their way to the file.
//!
//! Role: [`Updates`] queues them until `commit.rs` has them in the file, so that what falls into one slice is written
//! together.
//!
//! Invariant: an entry that a write was begun with stays until a write that carries it succeeds: until then the file may
//! have it or not.
//!
//! Absent on purpose: the order of writes and flushes (`commit.rs`), and the visible entries (`slot.rs`).

use std::ops::Range;
use std::sync::PoisonError;

use super::Slice;
use crate::sync::{Mutex, MutexGuard};
use crate::turn::Turn;

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

impl Queue {
    /// Slices are many, and most are not being written: an empty queue keeps no memory.
    fn give_back(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }
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

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Whether a failed or cancelled write may have brought that value to that place of the file.
    pub(crate) fn may_have_brought(&self, place: usize, value: u64) -> bool {
        let queue = self.lock();
        let attempted = queue.waiting.iter().filter(|waiting| waiting.attempted);
        attempted.flat_map(|waiting| waiting.run.entries()).any(|entry| entry == (place, value))
    }

    /// All that waits, to be written together. Until [`settle`](Updates::settle) they may be in the file or not.
    pub(crate) fn attempt(&self) -> Vec<EntryRun> {
        let mut queue = self.lock();
        queue.waiting.iter_mut().for_each(|waiting| waiting.attempted = true);
        queue.waiting.iter().map(|waiting| waiting.run).collect()
    }

    /// Forgets the first `count`: the file has them.
    pub(crate) fn settle(&self, count: usize) {
        let mut queue = self.lock();
        queue.waiting.drain(..count);
        queue.give_back();
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
        let mut queue = self.slice.updates.lock();
        queue.waiting.retain(|waiting| waiting.attempted || waiting.number != self.number);
        queue.give_back();
    }
}
