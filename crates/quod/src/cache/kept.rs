//! Slices that stay, whatever the budget says: the file is owed entries of theirs.
//!
//! Role: [`Kept`] pins each slice in which entries wait that outlive the request they came with, and finds them in the
//! order of the disk, so that one seed replays to one run. [`KeptShare`] says how many those may be.
//!
//! Invariant: a slice is kept while its updates owe something to the file, and from before readers see what is promised; but
//! for the moment in which a write that failed or was dropped is noted, or one that ended well.
//!
//! Absent on purpose: writing them (`commit.rs`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};

use super::updates::Updates;
use super::{EntryRun, Pinned, Promise, SliceKey, SlicePool};
use crate::geometry::SLICE_BYTES;
use crate::sync::atomic::Ordering;
use crate::sync::{Mutex, MutexGuard};

/// What may be kept for entries that the file is owed is one part in so many of the budget.
const KEPT_SHARE: usize = 4;

/// Slices with entries that the file is owed.
#[derive(Default)]
pub(crate) struct Kept(Mutex<BTreeMap<SliceKey, Pinned>>);

impl Kept {
    /// Shows readers a run of entries, queues it for the file, and keeps the slice: who sees the entries finds it here.
    pub(crate) fn promise(&self, slice: &Pinned, run: EntryRun, promise: Promise) {
        let mut kept = self.lock();
        slice.promise(run, promise);
        kept.entry(slice.key()).or_insert_with(|| slice.clone());
    }

    /// Keeps a slice that owes something.
    pub(crate) fn keep(&self, slice: &Pinned) {
        // Looked at under the lock, as in `let_go`: the later of the two has the last word.
        let mut kept = self.lock();
        if slice.waiting(Updates::owes) {
            kept.entry(slice.key()).or_insert_with(|| slice.clone());
        }
    }

    /// Lets a slice go once nothing is owed.
    pub(crate) fn let_go(&self, slice: &Pinned) {
        let mut kept = self.lock();
        let gone = if slice.waiting(Updates::owes) { None } else { kept.remove(&slice.key()) };
        drop(kept);
        // Who listens to its release may ask again.
        drop(gone);
    }

    /// The first of them.
    pub(crate) fn first(&self) -> Option<Pinned> {
        self.lock().first_key_value().map(|(_, slice)| slice.clone())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Pinned> {
        self.lock().values().cloned().collect()
    }

    /// Those of a range of keys.
    pub(crate) fn among(&self, keys: RangeInclusive<SliceKey>) -> Vec<Pinned> {
        self.lock().range(keys).map(|(_, slice)| slice.clone()).collect()
    }

    /// The first of a range of keys.
    pub(crate) fn first_among(&self, keys: RangeInclusive<SliceKey>) -> Option<Pinned> {
        self.lock().range(keys).next().map(|(_, slice)| slice.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SliceKey, Pinned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right of one image to have slices kept for entries that the file is owed. All that have it share a quarter of the
/// budget in equal parts, and each may keep one slice at least: what the file has of them takes as much again, beside the
/// budget.
#[derive(Debug)]
pub(crate) struct KeptShare(Arc<SlicePool>);

impl KeptShare {
    pub(crate) fn of(pool: &Arc<SlicePool>) -> Self {
        pool.keepers.fetch_add(1, Ordering::Relaxed);
        KeptShare(Arc::clone(pool))
    }

    /// How many slices that is now.
    pub(crate) fn slices(&self) -> usize {
        let keepers = self.0.keepers.load(Ordering::Relaxed);
        (self.0.budget / KEPT_SHARE / SLICE_BYTES as usize / keepers).max(1)
    }
}

impl Drop for KeptShare {
    fn drop(&mut self) {
        self.0.keepers.fetch_sub(1, Ordering::Relaxed);
    }
}
