//! A slice that cannot be evicted.
//!
//! Role: [`Pinned`] keeps a slice where it is, for who updates it or looks at it for longer.
//!
//! Invariants: a slice is pinned under the lock, or by who has it pinned; so what eviction finds unpinned stays so. An entry
//! changes under a pin, by `updates.rs`: when the file has it, or when it is promised. A slice with updates is pinned.
//!
//! Absent on purpose: which of the entries the file has (`updates.rs`).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use tracing::trace;

use super::arena::Line;
use super::entries::{self, Shape};
use super::pool::SlicePool;
use super::slice::{Header, ORPHANED, OwnedKey, Slice, SliceKey};
use super::updates::{EntryRun, Updates};
use crate::sync::atomic::Ordering;
use crate::sync::{OnceLock, spin};
use crate::units::FileOffset;

/// A slice that cannot be evicted for as long as this lives.
pub struct Pinned {
    pool: Arc<SlicePool>,
    line: Line,
    owned: OwnedKey,
    at: FileOffset,
    /// Asked for by who updates it.
    updates: OnceLock<Arc<Updates>>,
}

impl Pinned {
    /// Pins a slice of the pool. Under its lock, or by who has it pinned.
    pub(super) fn new(pool: &Arc<SlicePool>, slice: Header<'_>) -> Self {
        slice.pin();
        let (line, owned, at) = (slice.line, slice.owned_key(), slice.at());
        Pinned { pool: Arc::clone(pool), line, owned, at, updates: OnceLock::new() }
    }

    pub(super) fn header(&self) -> Header<'_> {
        Header::there(&self.pool.arena, self.line)
    }

    /// Shows it to `look`, again if it is unpacked meanwhile.
    pub fn look<R>(&self, look: impl Fn(&Slice<'_>) -> R) -> R {
        loop {
            let header = self.header();
            if let Some(life) = header.life() {
                let seen = look(&Slice::shown(self.owned.key, header));
                if header.leads(life) {
                    return seen;
                }
            }
            spin();
        }
    }

    pub(super) fn owned_key(&self) -> OwnedKey {
        self.owned
    }

    /// Which slice it is.
    pub fn key(&self) -> SliceKey {
        self.owned.key
    }

    /// Where its first entry lies in the file.
    pub fn at(&self) -> FileOffset {
        self.at
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.look(|slice| slice.len())
    }

    /// Whether it has no entries; none that came from a table.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of an entry that readers see.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn entry(&self, index: usize) -> u64 {
        assert!(index < self.len(), "{self:?} has {} entries", self.len());
        self.look(|slice| slice.entry(index))
    }

    /// The values of some entries that readers see.
    ///
    /// # Panics
    /// When there are not so many.
    pub(super) fn copy(&self, places: Range<usize>) -> Vec<u64> {
        assert!(places.end <= self.len(), "{self:?} has {} entries", self.len());
        self.look(|slice| slice.copy(places.clone()))
    }

    /// Whether its entries are kept in less memory than they take, and cannot change.
    pub(super) fn is_packed(&self) -> bool {
        self.look(|slice| slice.is_packed())
    }

    /// Whether both are of one slice.
    pub(crate) fn is(&self, other: &Pinned) -> bool {
        Arc::ptr_eq(&self.pool, &other.pool) && self.line == other.line
    }

    /// Whether its image is gone, so that nobody finds it any more.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.header().is(ORPHANED)
    }

    /// Shows entries of it that are on their way to the file to `look`; when there never were any, none.
    pub(crate) fn waiting<R>(&self, look: impl FnOnce(&Updates) -> R) -> R {
        let updates = self.updates.get().cloned().or_else(|| self.pool.updates_if_any(self));
        match updates {
            Some(updates) => look(&updates),
            None => look(&Updates::default()),
        }
    }

    /// Entries of it that are on their way to the file, or will be.
    pub(super) fn updates(&self) -> &Arc<Updates> {
        self.updates.get_or_init(|| self.pool.updates_of(self))
    }

    /// Makes a run visible.
    ///
    /// # Panics
    /// When the slice is packed, or has not so many entries.
    pub fn publish(&self, run: &EntryRun) {
        let (arena, (shape, count)) = (&self.pool.arena, self.header().shape());
        let Shape::Wide(frame, more) = shape else { panic!("who updates a slice has it unpacked") };
        for (index, value) in run.entries() {
            assert!(index < count, "{self:?} has {count} entries");
            let word = entries::word_of_wide(arena, frame, more, index);
            word.expect("as many as there are").store(value, Ordering::Release);
        }
    }
}

impl Clone for Pinned {
    fn clone(&self) -> Self {
        self.header().pin();
        let updates = self.updates.get().cloned().map_or_else(OnceLock::new, OnceLock::from);
        Pinned { pool: Arc::clone(&self.pool), updates, ..*self }
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({:?} at {})", self.owned.key, self.at)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let (pins, is_last_of_orphan) = self.header().unpin();
        if is_last_of_orphan {
            self.pool.bury(self.line);
        }
        trace!(key = ?self.owned.key, pins, "table cache release");
    }
}
