//! The L2 table cache: stands between every guest request and the image file.
//!
//! Role: keeps slices of tables (a slice is a few KiB of one L1 or L2 table) within a budget of bytes, hands them out
//! without a lock, and decides which ones go. Law: `docs/spec/table-cache.md`; the numbers below are its points.
//!
//! | operation of the contract | here | what replaced what |
//! | --- | --- | --- |
//! | init | [`SlicePool::new`], [`TableCache::new`] | a budget in bytes, of one image or of many, in the place of 50 tables each (1) |
//! | allocate | [`TableCache::begin_load`] | memory for a slice is taken before it is read, at the cost of another's (1) |
//! | find | [`TableCache::find`] | an array of slots and lines, read without a lock, in the place of a list under a mutex (2) |
//! | (pin) | [`TableCache::pin`] | a count, which goes up under the lock, for who updates a slice or keeps it (3) |
//! | (miss) | [`TableCache::begin_load`], [`TableCache::begin_read`] | one loads, the others wait, in the place of two reads of the same table; where slices are asked for once, readers take their entries from the file (4) |
//! | commit | [`Load::commit`], [`TableCache::commit`] | first commit wins (6); who goes says a clock behind a trial in the place of first in, first out (7) |
//! | (update) | [`TableCache::unpack`], [`Pinned::publish`] | a slice is kept as runs or narrow entries until it is updated (1, 5) |
//! | release | drop of [`Pinned`] | a count that eviction must find at 0 (3) |
//! | free | | a reader takes no reference: it looks whether what it read was the slice all the while (3) |
//! | trace | `tracing` events at TRACE, [`Stats`] | (8) |
//!
//! Invariants: a slice is being loaded by at most one [`Load`], and cannot go while one of the same key is under way. Those of
//! what is resident are `pool.rs`'s.
//!
//! "No table here" is not kept in the directory: the L1 slice says so, costs no slice of its own for it, and is
//! updated in place when a table is linked, so it is never out of date.
//!
//! Absent on purpose: I/O (the caller's), any lock on a hit, and other people's code under the lock: who listens to events
//! and whoever is woken may ask the cache again. What is here is in the file (5), but for promised entries (`updates.rs`),
//! whose slices are kept.

mod arena;
mod directory;
mod entries;
mod evict;
mod kept;
mod miss;
#[cfg(test)]
#[cfg(any(quod_loom, quod_shuttle))]
mod models;
mod pinned;
mod pool;
#[cfg(test)]
#[cfg(not(quod_shuttle))]
mod shelf;
mod slice;
mod stats;
#[cfg(test)]
#[cfg(not(any(quod_loom, quod_shuttle)))]
mod tests;
mod updates;

use std::sync::Arc;

use tracing::{Level, level_enabled, trace};

pub(crate) use kept::{Kept, KeptShare};
pub use miss::{Begin, BeginRead, Bypass, Load};
pub use pinned::Pinned;
pub use pool::SlicePool;
use pool::{Content, Evicted, Room, Structure};
use slice::OwnedKey;
pub use slice::{Slice, SliceKey, TableLevel};
use stats::Counters;
pub use stats::Stats;
pub use updates::EntryRun;
pub(crate) use updates::{Amount, Promise, Updates};

use crate::sync::MutexGuard;
use crate::units::FileOffset;

/// Slices of the tables of one image, shared by all its requests. The memory for them is a [`SlicePool`]'s, of this image
/// alone or of many.
pub struct TableCache {
    pool: Arc<SlicePool>,
    /// The number of the image in the pool.
    image: u32,
    counters: Counters,
    /// Slices that the budget says nothing about, since the file is owed entries of theirs.
    pub(crate) kept: Kept,
}

impl TableCache {
    /// Makes an empty cache for one image, which no other cache of the pool is for.
    pub fn new(pool: &Arc<SlicePool>) -> Self {
        let image = pool.enter();
        TableCache { pool: Arc::clone(pool), image, counters: Counters::default(), kept: Kept::default() }
    }

    #[inline]
    fn owned(&self, key: SliceKey) -> OwnedKey {
        OwnedKey { image: self.image, key }
    }

    /// Shows a resident slice to `look`. Costs no lock, no allocation, no shared counter. `None` when it is not here, or comes or
    /// goes just now: then the entries that `look` saw may have been another's.
    #[inline]
    pub fn find<R>(&self, key: SliceKey, look: impl FnOnce(&Slice<'_>) -> R) -> Option<R> {
        let found = self.peek(key, look);
        if found.is_some() {
            self.counters.hit();
            if level_enabled!(Level::TRACE) {
                tell_hit(key);
            }
        }
        found
    }

    /// Pins a resident slice, so that it may be updated. `None` when it is not here.
    pub fn pin(&self, key: SliceKey) -> Option<Pinned> {
        let structure = self.pool.lock();
        let pinned = self.pin_under(&structure, key);
        drop(structure);
        if pinned.is_some() {
            self.counters.hit();
            trace!(?key, "table cache pin");
        }
        pinned
    }

    /// As [`pin`](TableCache::pin), without counting it.
    fn pin_under(&self, _: &Structure, key: SliceKey) -> Option<Pinned> {
        let slice = self.pool.directory.look_up(&self.pool.arena, self.owned(key))?;
        slice.visit();
        Some(Pinned::new(&self.pool, slice))
    }

    /// As [`find`](TableCache::find), without counting it.
    #[inline]
    pub(crate) fn peek<R>(&self, key: SliceKey, look: impl FnOnce(&Slice<'_>) -> R) -> Option<R> {
        self.pool.directory.find(&self.pool.arena, self.owned(key), look)
    }

    /// Makes a slice resident, by whatever road its bytes came, which lie in the file at `at`. When another one is there already,
    /// that one is returned. Where another may have come, been updated and gone since the bytes were read, there is
    /// [`begin_load`](TableCache::begin_load) instead.
    ///
    /// # Panics
    /// When the bytes are not whole entries, or more than a slice has.
    pub fn commit(&self, key: SliceKey, at: FileOffset, bytes: &[u8]) -> Pinned {
        let mut structure = self.pool.lock();
        if let Some(first) = self.pin_under(&structure, key) {
            return self.came_second(structure, None, first);
        }
        let coming = structure.clock.coming(&self.pool.arena, self.owned(key));
        let (mut room, evicted) = self.pool.reserve(&mut structure, coming);
        drop(structure);
        self.note_evictions(evicted);
        let content = self.fill(&mut room, key, at, bytes);
        let mut structure = self.pool.lock();
        if let Some(first) = self.pin_under(&structure, key) {
            return self.came_second(structure, Some(room), first);
        }
        let (slice, evicted) = self.pool.admit(&mut structure, room, content);
        let pinned = Pinned::new(&self.pool, slice);
        if let Some(loading) = structure.loading.get_mut(&self.owned(key)) {
            loading.first = Some(pinned.clone());
        }
        drop(structure);
        trace!(?key, "table cache commit");
        self.note_evictions(evicted);
        pinned
    }

    /// Puts the entries of a slice where they are to be.
    fn fill(&self, room: &mut Room, key: SliceKey, at: FileOffset, bytes: &[u8]) -> Content {
        trace!(?key, %at, "table cache allocate");
        let (content, evicted) = self.pool.fill(room, self.owned(key), at, bytes);
        self.note_evictions(evicted);
        content
    }

    fn came_second(
        &self,
        mut structure: MutexGuard<'_, Structure>,
        room: Option<Room>,
        first: Pinned,
    ) -> Pinned {
        if let Some(room) = room {
            self.pool.vacate(&mut structure, room);
        }
        drop(structure);
        trace!(key = ?first.key(), "table cache commit came second");
        first
    }

    /// Makes a slice one that can be updated, at the cost of what is missed least: it is packed no more. Any number of threads
    /// may do so at once.
    ///
    /// # Panics
    /// When the slice is another cache's.
    pub fn unpack(&self, slice: &Pinned) {
        assert_eq!(slice.owned_key().image, self.image, "{slice:?} is another image's");
        if !slice.is_packed() {
            return;
        }
        let mut structure = self.pool.lock();
        // Another may have done so meanwhile.
        if !slice.is_packed() {
            return;
        }
        let evicted = self.pool.unpack(&mut structure, slice.header());
        drop(structure);
        trace!(key = ?slice.key(), "table cache unpack");
        self.note_evictions(evicted);
    }

    /// Counts and tells of slices that went to make room for this image.
    fn note_evictions(&self, evicted: Evicted) {
        for OwnedKey { image, key } in evicted {
            self.counters.evict();
            trace!(?key, of_another = image != self.image, "table cache evict");
        }
    }

    /// What happened so far, and what is held now.
    pub fn stats(&self) -> Stats {
        let bytes = self.pool.lock().bytes_of(self.image) as u64;
        Stats { bytes, kept: self.kept.len() as u64, ..self.counters.sum() }
    }

    /// All slices of this image that are resident now, and whether anybody else has them pinned.
    pub(crate) fn resident(&self) -> Vec<(Pinned, bool)> {
        let structure = self.pool.lock();
        let all = structure.clock.slices().map(|line| slice::Header::there(&self.pool.arena, line));
        all.filter(|slice| slice.owned_key().image == self.image)
            .map(|slice| {
                let is_pinned = slice.pins() > 0;
                (Pinned::new(&self.pool, slice), is_pinned)
            })
            .collect()
    }

    /// Loads for this image that are under way.
    pub(crate) fn loads(&self) -> usize {
        self.pool.lock().loading.keys().filter(|key| key.image == self.image).count()
    }

    /// From now on, where there is no room, slices that are only read do not come in.
    #[cfg(test)]
    pub(crate) fn bypass_from_now(&self) {
        self.pool.lock().clock.bypass_from_now();
    }

    /// Holds the whole pool against its invariants.
    ///
    /// # Panics
    /// When one is broken.
    pub fn validate(&self) {
        self.pool.validate();
    }
}

/// Apart from what finds it, which is smaller so.
#[cold]
fn tell_hit(key: SliceKey) {
    trace!(?key, "table cache hit");
}

impl Drop for TableCache {
    fn drop(&mut self) {
        self.pool.leave(self.image);
    }
}
