//! The L2 table cache: stands between every guest request and the image file.
//!
//! Role: keeps slices of tables (a slice is a few KiB of one L1 or L2 table) within a budget of bytes, hands them out
//! without a lock, and decides which ones go. Law: `docs/spec/table-cache.md`; the numbers below are its points.
//!
//! | operation of the contract | here | what replaced what |
//! | --- | --- | --- |
//! | init | [`SlicePool::new`], [`TableCache::new`] | a budget in bytes, of one image or of many, in the place of 50 tables each (1) |
//! | allocate | [`Slice::new`] | memory comes with the slice, bounded by the slice size; a load takes that of one that went, and reads into it where it need not wait |
//! | find | [`TableCache::find`], [`TableCache::pin`] | an array of slots, read through atomics, in the place of a list under a mutex (2) |
//! | (miss) | [`TableCache::begin_load`] | one loads, the others wait, in the place of two reads of the same table (4) |
//! | commit | [`Load::commit`], `Load::commit_read`, [`TableCache::commit`] | first commit wins (6); makes room by a clock behind a trial in the place of first in, first out (7) |
//! | (update) | [`TableCache::unpack`], [`Slice::publish`] | a slice is kept as runs, when it is a few, until it is updated (1, 5) |
//! | release | drop of [`Pinned`] | a count that eviction must find at 0 (3) |
//! | free | drop | |
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

mod directory;
mod entries;
mod evict;
mod kept;
#[cfg(test)]
#[cfg(any(quod_loom, quod_shuttle))]
mod models;
mod pool;
mod slot;
mod stats;
#[cfg(test)]
#[cfg(not(any(quod_loom, quod_shuttle)))]
mod tests;
mod updates;

use std::collections::hash_map::Entry;
use std::mem;
use std::sync::{Arc, PoisonError};

use tracing::trace;

use entries::Entries;
pub(crate) use kept::Kept;
pub(crate) use pool::KeptShare;
pub use pool::SlicePool;
use pool::{Evicted, Loading, Structure};
use slot::OwnedKey;
pub use slot::{Pinned, Slice, SliceKey, TableLevel};
use stats::Counters;
pub use stats::Stats;
pub use updates::EntryRun;
pub(crate) use updates::{Amount, Promise};

use crate::sync::{EventListener, MutexGuard};
use crate::units::FileOffset;

/// Slices of the tables of one image, shared by all its requests. The memory for them is a [`SlicePool`]'s, of this image
/// alone or of many.
pub struct TableCache {
    pool: Arc<SlicePool>,
    /// The number of the image in the pool.
    image: usize,
    counters: Counters,
    /// Slices that the budget says nothing about, since the file is owed entries of theirs.
    pub(crate) kept: Kept,
}

/// What to do about a slice that was not found.
pub enum Begin<'a> {
    /// It is there by now.
    Resident(Pinned),
    /// Another request is loading it: wait, then look again.
    Wait(EventListener),
    /// Read it and commit it.
    Load(Load<'a>),
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

    /// Shows a resident slice to `look`. Costs no lock, no allocation, no shared counter.
    #[inline]
    pub fn find<R>(&self, key: SliceKey, look: impl FnOnce(&Slice) -> R) -> Option<R> {
        let found = self.peek(key, look);
        if found.is_some() {
            self.counters.hit();
            trace!(?key, "table cache hit");
        }
        found
    }

    /// Pins a resident slice, so that it may be updated. `None` when it is not here, or is just going.
    pub fn pin(&self, key: SliceKey) -> Option<Pinned> {
        let pinned = self.pin_silently(key);
        if pinned.is_some() {
            self.counters.hit();
            trace!(?key, "table cache pin");
        }
        pinned
    }

    /// As [`pin`](TableCache::pin), for use under the lock.
    fn pin_silently(&self, key: SliceKey) -> Option<Pinned> {
        let visit_and_pin = |slice: &Arc<Slice>| {
            slice.visit();
            Pinned::try_new(slice)
        };
        self.pool.directory.find(self.owned(key), visit_and_pin).flatten()
    }

    /// As [`find`](TableCache::find), without counting it.
    #[inline]
    pub(crate) fn peek<R>(&self, key: SliceKey, look: impl FnOnce(&Slice) -> R) -> Option<R> {
        self.pool.directory.find(self.owned(key), |slice| {
            slice.visit();
            look(slice)
        })
    }

    /// Answers a miss: the first to come loads, the others wait for it.
    pub fn begin_load(&self, key: SliceKey) -> Begin<'_> {
        self.begin(key, |loading| Some(loading.ended.get_or_insert_default().listen()))
            .expect("a wait has been told")
    }

    /// As [`begin_load`](TableCache::begin_load), for who does not wait; `None` when another loads it.
    pub(crate) fn begin_load_now(&self, key: SliceKey) -> Option<Begin<'_>> {
        self.begin(key, |_| None)
    }

    fn begin(
        &self,
        key: SliceKey,
        wait: impl FnOnce(&mut Loading) -> Option<EventListener>,
    ) -> Option<Begin<'_>> {
        let mut structure = self.pool.lock();
        let Structure { loading, spare, .. } = &mut *structure;
        let begin = match self.pin_silently(key) {
            Some(pinned) => Begin::Resident(pinned),
            None => match loading.entry(self.owned(key)) {
                Entry::Occupied(mut loading) => Begin::Wait(wait(loading.get_mut())?),
                Entry::Vacant(vacant) => {
                    vacant.insert(Loading::default());
                    Begin::Load(Load { cache: self, key, memory: spare.pop() })
                }
            },
        };
        drop(structure);
        match &begin {
            Begin::Resident(_) => {
                self.counters.hit();
                trace!(?key, "table cache pin");
            }
            Begin::Wait(_) => {
                self.counters.load_shared();
                trace!(?key, "table cache load shared");
            }
            Begin::Load(_) => trace!(?key, "table cache miss"),
        }
        Some(begin)
    }

    /// Makes a slice resident, by whatever road it came. When another one is
    /// there already, that one is returned, and `slice` is dropped.
    pub fn commit(&self, slice: Slice) -> Pinned {
        // Allocated outside the lock.
        let slice = Arc::new(slice.of_image(self.image));
        let mut structure = self.pool.lock();
        let first = self.pin_silently(slice.key());
        if first.is_none()
            && let Some(loading) = structure.loading.get_mut(&slice.owned_key())
        {
            loading.first = Pinned::try_new(&slice);
        }
        self.commit_under(structure, first, slice)
    }

    /// A slice of this image, in memory of one that went when there is some.
    fn make(&self, memory: Option<Arc<Slice>>, key: SliceKey, at: FileOffset, bytes: &[u8]) -> Arc<Slice> {
        let Some(mut slice) = memory else {
            return Arc::new(Slice::new(key, at, bytes).of_image(self.image));
        };
        unseen(&mut slice).renew(self.owned(key), at, |entries| entries.renew(bytes));
        slice
    }

    fn commit_under(
        &self,
        mut structure: MutexGuard<'_, Structure>,
        first: Option<Pinned>,
        slice: Arc<Slice>,
    ) -> Pinned {
        let key = slice.key();
        if let Some(first) = first {
            drop(structure);
            trace!(?key, "table cache commit came second");
            return first;
        }
        let pinned = Pinned::fresh(slice);
        let evicted = self.pool.admit(&mut structure, pinned.shared());
        drop(structure);
        trace!(?key, "table cache commit");
        self.note_evictions(evicted);
        pinned
    }

    /// Makes a slice one that can be updated, at the cost of what is missed least: it is packed no more. Any number of threads
    /// may do so at once.
    ///
    /// # Panics
    /// When the slice is another cache's.
    pub fn unpack(&self, slice: &Pinned) {
        assert_eq!(slice.owned_key().image, self.image, "{slice:?} is another image's");
        // Filled outside the lock.
        let Some(each) = slice.unpacked() else { return };
        let mut structure = self.pool.lock();
        let Some(more) = slice.unpack(each) else { return };
        let evicted = self.pool.grow(&mut structure, slice, more);
        drop(structure);
        trace!(key = ?slice.key(), "table cache unpack");
        self.note_evictions(evicted);
    }

    /// Counts and tells of slices that went to make room for this image. Memory is given back outside the lock, too.
    fn note_evictions(&self, evicted: Evicted) {
        for (OwnedKey { image, key }, memory) in evicted {
            drop(memory);
            self.counters.evict();
            trace!(?key, of_another = image != self.image, "table cache evict");
        }
    }

    /// What happened so far, and what is held now.
    pub fn stats(&self) -> Stats {
        let bytes = self.pool.lock().bytes_of(self.image) as u64;
        Stats { bytes, kept: self.kept.len() as u64, ..self.counters.sum() }
    }

    /// All slices of this image that are resident now.
    pub(crate) fn resident(&self) -> Vec<Arc<Slice>> {
        let structure = self.pool.lock();
        structure.clock.slices().filter(|slice| slice.owned_key().image == self.image).cloned().collect()
    }

    /// Loads for this image that are under way.
    pub(crate) fn loads(&self) -> usize {
        self.pool.lock().loading.keys().filter(|key| key.image == self.image).count()
    }

    /// Holds the whole pool against its invariants.
    ///
    /// # Panics
    /// When one is broken.
    pub fn validate(&self) {
        self.pool.validate();
    }
}

impl Drop for TableCache {
    fn drop(&mut self) {
        self.pool.leave(self.image);
    }
}

/// The right and duty to load one slice. Dropped without a commit, it lets another request try.
pub struct Load<'a> {
    cache: &'a TableCache,
    key: SliceKey,
    memory: Option<Arc<Slice>>,
}

impl Load<'_> {
    /// Which slice is to be loaded.
    pub fn key(&self) -> SliceKey {
        self.key
    }

    /// Takes the slice's bytes, which lie in the file at `at`, makes it resident and wakes who waits for it. First commit
    /// wins: when another one came in by another road, that one is returned.
    ///
    /// # Panics
    /// When the bytes are not whole entries.
    pub fn commit(mut self, at: FileOffset, bytes: &[u8]) -> Pinned {
        // Filled outside the lock.
        let slice = self.cache.make(self.memory.take(), self.key, at, bytes);
        self.make_resident(slice)
    }

    /// As [`commit`](Load::commit), of bytes that `read` puts straight into memory, so many; it tells whether it has. If not, the
    /// load is over, and nothing came in.
    ///
    /// # Errors
    /// The load, untried, when it has no such memory: its bytes are read elsewhere then.
    pub(crate) fn commit_read(
        mut self,
        at: FileOffset,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> bool,
    ) -> Result<Option<Pinned>, Self> {
        let Some(mut slice) = self.memory.take() else { return Err(self) };
        let memory = unseen(&mut slice);
        let Some(room) = memory.room(length) else {
            self.memory = Some(slice);
            return Err(self);
        };
        if !read(room) {
            return Ok(None);
        }
        memory.renew(self.cache.owned(self.key), at, Entries::pack);
        Ok(Some(self.make_resident(slice)))
    }

    fn make_resident(self, slice: Arc<Slice>) -> Pinned {
        let cache = self.cache;
        // Both under one lock: resident, and loading no more.
        let mut structure = cache.pool.lock();
        let ended = self.end(&mut structure);
        mem::forget(self);
        cache.counters.miss();
        // What came in since the load began is pinned by it, and stays.
        let first = ended.loading.as_ref().and_then(|loading| loading.first.clone());
        cache.commit_under(structure, first, slice)
    }

    fn end(&self, structure: &mut Structure) -> Ended {
        Ended { key: self.key, loading: structure.loading.remove(&self.cache.owned(self.key)) }
    }
}

/// A slice that serves as memory.
fn unseen(memory: &mut Arc<Slice>) -> &mut Slice {
    Arc::get_mut(memory).expect("what is kept as memory is in no list")
}

/// A load that is over. Who waits for it is woken when this is dropped, also by a panic; not under the lock, since wakers
/// are other people's code.
struct Ended {
    key: SliceKey,
    loading: Option<Loading>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let Some(loading) = &self.loading else { return };
        if let Some(ended) = &loading.ended {
            ended.notify(usize::MAX);
        }
        trace!(key = ?self.key, "table cache load ended");
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        // Also on the way out of a panic, and after one: whoever waits must not wait for ever.
        let mut structure = self.cache.pool.structure.lock().unwrap_or_else(PoisonError::into_inner);
        let _ended = self.end(&mut structure);
        drop(structure);
    }
}
