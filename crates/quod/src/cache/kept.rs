//! Slices that stay, whatever the budget says: the file is owed entries of theirs.
//!
//! Role: [`Kept`] pins each slice in which entries wait that outlive the request they came with, and finds them in the
//! order of the disk, so that one seed replays to one run.
//!
//! Invariant: a slice is kept exactly while its updates owe something to the file, but for the moment in which a request
//! goes from the one to the other.
//!
//! Absent on purpose: writing them (`commit.rs`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::PoisonError;

use super::{Pinned, Slice, SliceKey};
use crate::sync::{Mutex, MutexGuard};

/// Slices with entries that the file is owed.
#[derive(Default)]
pub(crate) struct Kept(Mutex<BTreeMap<SliceKey, Pinned>>);

impl Kept {
    /// Keeps a slice that owes something.
    pub(crate) fn keep(&self, slice: &Pinned) {
        // Looked at under the lock, as in `let_go`: the later of the two has the last word.
        let mut kept = self.lock();
        if slice.updates.owes() {
            kept.entry(slice.key()).or_insert_with(|| slice.clone());
        }
    }

    /// Lets a slice go once nothing is owed.
    pub(crate) fn let_go(&self, slice: &Slice) {
        let mut kept = self.lock();
        if !slice.updates.owes() {
            kept.remove(&slice.key());
        }
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
