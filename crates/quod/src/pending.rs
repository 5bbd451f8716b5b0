//! How much readers see that the file is owed, and who brings it there.
//!
//! Role: under commit policy `grouped`, [`Pending`] counts promised entries against their bounds, numbers the batches that
//! bring them to the file, and has the turn to do so. One batch is under way at a time; what is promised meanwhile
//! gathers for the next, which all share who wait for it. Under either policy it counts what went to the file.
//!
//! Invariant: what is counted is what waits in the slices that the cache keeps, but for moments in which a request goes
//! from the one to the other.
//!
//! Absent on purpose: what a batch does (`grouped.rs`). And a clock: pending entries grow old between two calls of
//! [`maintain`](crate::Image::maintain).

use std::sync::PoisonError;

use crate::cache::{Amount, KeptShare};
use crate::options::PendingBounds;
use crate::sync::{Event, Mutex, MutexGuard};
use crate::turn::Turn;

/// Promised entries of one image.
pub(crate) struct Pending {
    bounds: PendingBounds,
    /// Slices of the cache that may be kept for them.
    share: Option<KeptShare>,
    /// For one batch at a time.
    pub(crate) turn: Turn,
    state: Mutex<State>,
    due: Event,
}

/// Batches of an open image, numbered in the order they begin.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchNumber(u64);

impl BatchNumber {
    fn next(self) -> Self {
        BatchNumber(self.0 + 1)
    }
}

/// What went to the file so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Written {
    /// Writes of a slice, or of a part of one.
    pub(crate) slices: u64,
    /// Entries that they brought.
    pub(crate) entries: u64,
}

#[derive(Default)]
struct State {
    amount: Amount,
    written: Written,
    begun: BatchNumber,
    /// The last one that came to a good end; all before it are covered by it.
    done: BatchNumber,
}

impl Pending {
    /// Nothing yet.
    pub(crate) fn new(bounds: PendingBounds, share: Option<KeptShare>) -> Self {
        let (turn, state, due) = (Turn::default(), Mutex::default(), Event::default());
        Pending { bounds, share, turn, state, due }
    }

    /// Notes what is about to be promised.
    pub(crate) fn add(&self, amount: Amount) {
        let mut state = self.lock();
        state.amount.entries += amount.entries;
        state.amount.bytes += amount.bytes;
    }

    /// Wakes who waits for half the bounds, when so much is promised.
    pub(crate) fn tell_if_due(&self, kept: usize) {
        if self.has_reached(2, kept) {
            self.due.notify(usize::MAX);
        }
    }

    /// Notes what the file has: a slice was written with so many entries, of which `promised` had been promised.
    pub(crate) fn take(&self, entries: u64, promised: Amount) {
        let mut state = self.lock();
        state.amount.entries -= promised.entries;
        state.amount.bytes -= promised.bytes;
        state.written.slices += 1;
        state.written.entries += entries;
    }

    /// What is promised now, and what went to the file so far.
    pub(crate) fn amounts(&self) -> (Amount, Written) {
        let state = self.lock();
        (state.amount, state.written)
    }

    /// Whether no more is to be promised before some of it is in the file.
    pub(crate) fn is_full(&self, kept: usize) -> bool {
        self.has_reached(1, kept)
    }

    /// Waits until half the bounds are used. Cancel-safe.
    pub(crate) async fn half_full(&self, kept: impl Fn() -> usize) {
        loop {
            let due = self.due.listen();
            if self.has_reached(2, kept()) {
                return;
            }
            due.await;
        }
    }

    /// Whether one of the bounds, divided by `part`, is reached.
    fn has_reached(&self, part: u64, kept: usize) -> bool {
        let Amount { entries, bytes } = self.lock().amount;
        entries > 0
            && (entries >= self.bounds.entries.div_ceil(part)
                || bytes >= self.bounds.bytes.div_ceil(part)
                || self.share.as_ref().is_some_and(|share| kept >= share.slices().div_ceil(part as usize)))
    }

    /// Number of the batch that must come to a good end for what is promised now; `None` when nothing is.
    pub(crate) fn wanted(&self) -> Option<BatchNumber> {
        let state = self.lock();
        (state.amount.entries > 0).then(|| state.begun.next())
    }

    /// A batch begins, under the turn; its number.
    pub(crate) fn begin(&self) -> BatchNumber {
        let mut state = self.lock();
        state.begun = state.begun.next();
        state.begun
    }

    /// A batch has come to a good end.
    pub(crate) fn end(&self, number: BatchNumber) {
        self.lock().done = number;
    }

    /// Whether that batch, or one after it, has come to a good end.
    pub(crate) fn is_done(&self, number: BatchNumber) -> bool {
        self.lock().done >= number
    }

    /// Holds what is counted against what waits.
    ///
    /// # Panics
    /// When they differ.
    pub(crate) fn validate(&self, promised: impl Iterator<Item = Amount>) {
        let (counted, waiting): (_, Amount) = (self.lock().amount, promised.sum());
        assert_eq!(counted, waiting, "what is counted as pending, and what is");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
