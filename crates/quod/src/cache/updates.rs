//! Entries of a slice that are on their way to the file.
//!
//! Role: [`Updates`] queues them until they are in the file, so that what falls into one slice is written together. Some
//! are shown to readers only then; others, which are *promised*, at once.
//!
//! Invariants: an entry that a write was begun with stays until a write that carries it succeeds: until then the file may
//! have it or not. A promised entry stays as long. While one waits, `in_file` is the slice as the file is known to have
//! it; otherwise the visible entries are.
//!
//! Absent on purpose: the order of writes and flushes (`commit.rs`), and the visible entries (`pinned.rs`).

use std::iter::Sum;
use std::ops::Range;
use std::sync::PoisonError;

use super::Pinned;
use crate::sync::{Mutex, MutexGuard};
use crate::turn::{BareTurn, TurnGuard};
use crate::units::FlushNumber;

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

    fn overlaps(&self, places: &Range<usize>) -> bool {
        self.start < places.end && places.start < self.start + self.count
    }
}

/// What goes with entries that readers see before the file has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    /// Number of the flush that must have succeeded before the file may have them.
    pub(crate) after: FlushNumber,
    /// Bytes of data that were written for them.
    pub(crate) bytes: u64,
}

/// Entries of one slice that are on their way to the file, in the order they came.
#[derive(Default)]
pub(crate) struct Updates {
    /// Whoever holds it may write the slice to the file.
    turn: BareTurn,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    /// In a box: slices are many, and most are not being written.
    content: Option<Box<Content>>,
}

/// What is in a queue that is not empty.
#[derive(Default)]
struct Content {
    waiting: Vec<Waiting>,
    /// The slice as the file has it, while visible entries differ from that.
    in_file: Option<Box<[u64]>>,
}

impl Queue {
    fn waiting(&self) -> &[Waiting] {
        self.content.as_ref().map_or(&[], |content| &content.waiting)
    }

    fn waiting_mut(&mut self) -> &mut [Waiting] {
        self.content.as_mut().map_or(&mut [], |content| &mut content.waiting)
    }

    /// Forgets what no longer has to be known.
    fn give_back(&mut self) {
        let Some(content) = &mut self.content else { return };
        if content.waiting.is_empty() {
            self.content = None;
        } else if content.waiting.iter().all(|waiting| waiting.promise.is_none()) {
            content.in_file = None;
        }
    }
}

struct Waiting {
    number: u64,
    run: EntryRun,
    /// Readers see the entries already.
    promise: Option<Promise>,
    /// A write that carried it was begun: the file may have it, so it stays until a write that carries it succeeds.
    attempted: bool,
}

impl Waiting {
    /// The file may have it, and no reader sees it.
    fn is_unsettled(&self) -> bool {
        self.attempted && self.promise.is_none()
    }

    fn may_go_out(&self, flushed: FlushNumber) -> bool {
        self.promise.is_none_or(|promise| promise.after <= flushed)
    }
}

/// A place in the queue of a slice. Dropped before anybody tried to write it, it takes its entries back.
pub(crate) struct Enqueued<'a> {
    slice: &'a Pinned,
    number: u64,
}

/// What one write of a slice carries.
pub(crate) struct Attempt {
    numbers: Vec<u64>,
    /// The entries, in the order in which they came.
    pub(crate) runs: Vec<EntryRun>,
}

/// Promised entries and the bytes of their data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Updates {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether entries wait that no reader sees, and that a failed or cancelled write may have brought to the file.
    pub(crate) fn unsettled(&self) -> bool {
        self.lock().waiting().iter().any(Waiting::is_unsettled)
    }

    /// Whether such entries wait for any of these places.
    pub(crate) fn unsettled_in(&self, places: &Range<usize>) -> bool {
        self.lock().waiting().iter().any(|waiting| waiting.is_unsettled() && waiting.run.overlaps(places))
    }

    /// Whether entries wait that outlive the request they came with.
    pub(crate) fn owes(&self) -> bool {
        self.lock().waiting().iter().any(|waiting| waiting.attempted || waiting.promise.is_some())
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting().is_empty()
    }

    /// Whether a failed or cancelled write may have brought that value to that place of the file.
    pub(crate) fn may_have_brought(&self, place: usize, value: u64) -> bool {
        let queue = self.lock();
        let attempted = queue.waiting().iter().filter(|waiting| waiting.attempted);
        attempted.flat_map(|waiting| waiting.run.entries()).any(|entry| entry == (place, value))
    }

    /// What is promised.
    pub(crate) fn promised(&self) -> Amount {
        let queue = self.lock();
        let promises =
            queue.waiting().iter().filter_map(|waiting| Some((waiting.run.count, waiting.promise?)));
        promises.map(|(count, promise)| Amount::of(count, promise)).sum()
    }

    /// The last flush that anything here waits for.
    pub(crate) fn waits_for(&self) -> FlushNumber {
        let queue = self.lock();
        queue
            .waiting()
            .iter()
            .filter_map(|waiting| waiting.promise)
            .map(|promise| promise.after)
            .max()
            .unwrap_or_default()
    }

    /// Promised entries that no write was begun with, one by one.
    pub(crate) fn unattempted(&self) -> Vec<(usize, u64)> {
        let queue = self.lock();
        let unattempted =
            queue.waiting().iter().filter(|waiting| !waiting.attempted && waiting.promise.is_some());
        unattempted.flat_map(|waiting| waiting.run.entries()).collect()
    }

    /// Makes promised entries for a place wait for that flush, whatever they waited for.
    pub(crate) fn wait_for(&self, place: usize, after: FlushNumber) {
        let mut queue = self.lock();
        let there =
            queue.waiting_mut().iter_mut().filter(|waiting| waiting.run.overlaps(&(place..place + 1)));
        there.filter_map(|waiting| waiting.promise.as_mut()).for_each(|promise| promise.after = after);
    }

    /// All that waits and needs no flush later than that one, to be written together. Until [`Pinned::settle`] the file may
    /// have it or not.
    pub(crate) fn attempt(&self, flushed: FlushNumber) -> Attempt {
        let mut queue = self.lock();
        let mut attempt = Attempt { numbers: Vec::new(), runs: Vec::new() };
        for waiting in queue.waiting_mut().iter_mut().filter(|waiting| waiting.may_go_out(flushed)) {
            waiting.attempted = true;
            attempt.numbers.push(waiting.number);
            attempt.runs.push(waiting.run);
        }
        attempt
    }
}

impl Amount {
    fn of(count: usize, promise: Promise) -> Self {
        Amount { entries: count as u64, bytes: promise.bytes }
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Self {
        amounts.fold(Amount::default(), |sum, one| Amount {
            entries: sum.entries + one.entries,
            bytes: sum.bytes + one.bytes,
        })
    }
}

impl AsRef<BareTurn> for Updates {
    fn as_ref(&self) -> &BareTurn {
        &self.turn
    }
}

impl Pinned {
    /// Waits for the turn to write the slice to the file.
    pub(crate) async fn take_turn(&self) -> TurnGuard {
        BareTurn::take(self.updates()).await
    }

    /// Queues a run of entries for the file.
    ///
    /// # Panics
    /// When the slice is packed.
    pub(crate) fn enqueue(&self, run: EntryRun) -> Enqueued<'_> {
        let number = self.push(run, None);
        Enqueued { slice: self, number }
    }

    /// Shows readers a run of entries, and queues it for the file.
    ///
    /// # Panics
    /// When the slice is packed.
    pub(crate) fn promise(&self, run: EntryRun, promise: Promise) {
        self.push(run, Some(promise));
    }

    fn push(&self, run: EntryRun, promise: Option<Promise>) -> u64 {
        assert!(!self.is_packed(), "{self:?} is to be updated, and is packed");
        let mut queue = self.updates().lock();
        let number = queue.next;
        queue.next += 1;
        // No entry goes out before an earlier one for the same place.
        let places = run.start..run.start + run.count;
        let earlier = queue.waiting().iter().filter(|waiting| waiting.run.overlaps(&places));
        let after = earlier
            .filter_map(|waiting| waiting.promise)
            .map(|earlier| earlier.after)
            .max()
            .unwrap_or_default();
        let promise = promise.map(|promise| Promise { after: promise.after.max(after), ..promise });
        let content = queue.content.get_or_insert_default();
        content.waiting.push(Waiting { number, run, promise, attempted: false });
        if promise.is_some() {
            // Under the lock, so that whoever asks for what the file has sees both or none.
            content.in_file.get_or_insert_with(|| self.copy(0..self.len()).into());
            self.publish(&run);
        }
        number
    }

    /// Entries as the file is known to have them.
    pub(crate) fn in_file(&self, places: Range<usize>) -> Vec<u64> {
        self.waiting(|updates| {
            let queue = updates.lock();
            match queue.content.as_ref().and_then(|content| content.in_file.as_ref()) {
                Some(entries) => entries[places].to_vec(),
                None => self.copy(places),
            }
        })
    }

    /// The file has what was attempted: readers see all of it now. Tells how much of it was promised.
    pub(crate) fn settle(&self, attempt: &Attempt) -> Amount {
        let mut queue = self.updates().lock();
        let Some(content) = &mut queue.content else { return Amount::default() };
        let mut promised = Vec::new();
        let mut left = Vec::with_capacity(content.waiting.len().saturating_sub(attempt.numbers.len()));
        for waiting in std::mem::take(&mut content.waiting) {
            if attempt.numbers.binary_search(&waiting.number).is_err() {
                left.push(waiting);
                continue;
            }
            match waiting.promise {
                Some(promise) => promised.push(Amount::of(waiting.run.count, promise)),
                None => self.publish(&waiting.run),
            }
            if let Some(in_file) = &mut content.in_file {
                waiting.run.entries().for_each(|(index, value)| in_file[index] = value);
            }
        }
        content.waiting = left;
        queue.give_back();
        promised.into_iter().sum()
    }
}

impl Enqueued<'_> {
    /// Whether the file has the entries.
    pub(crate) fn is_settled(&self) -> bool {
        !self.slice.updates().lock().waiting().iter().any(|waiting| waiting.number == self.number)
    }
}

impl Drop for Enqueued<'_> {
    fn drop(&mut self) {
        let mut queue = self.slice.updates().lock();
        let Some(content) = &mut queue.content else { return };
        content.waiting.retain(|waiting| waiting.attempted || waiting.number != self.number);
        queue.give_back();
    }
}
