//! The L2 table cache: stands between every guest request and the image file.
//!
//! Role: keeps slices of tables (a slice is a few KiB of one L1 or L2 table) within a budget of bytes, hands them out
//! without a lock, and decides which ones go. Law: `docs/spec/table-cache.md`; the numbers below are its points.
//!
//! | operation of the contract | here | what replaced what |
//! | --- | --- | --- |
//! | init | [`TableCache::new`] | a budget in bytes in the place of 50 tables (1) |
//! | allocate | [`Slice::new`] | memory comes with the slice, bounded by the slice size |
//! | find | [`TableCache::find`], [`TableCache::pin`] | an array of slots, read through atomics, in the place of a list under a mutex (2) |
//! | (miss) | [`TableCache::begin_load`] | one loads, the others wait, in the place of two reads of the same table (4) |
//! | commit | [`Load::commit`], [`TableCache::commit`] | first commit wins (6); makes room by a clock behind a trial in the place of first in, first out (7) |
//! | release | drop of [`Pinned`] | a count that eviction must find at 0 (3) |
//! | free | drop | |
//! | trace | `tracing` events at TRACE, [`Stats`] | (8) |
//!
//! Invariants: a resident slice is in the directory and in exactly one queue of the policy; an evicted slice is in
//! neither and can no longer be pinned; a slice is being loaded by at most one [`Load`], and cannot go while one of the
//! same key is under way; bytes exceed the budget only while the slices that eviction meets are pinned.
//! [`TableCache::validate`] holds the structure against them.
//!
//! "No table here" is not kept in the directory: the L1 slice says so, costs no slice of its own for it, and is
//! updated in place when a table is linked, so it is never out of date.
//!
//! Absent on purpose: I/O (the caller's), any lock on a hit, and other people's code under the lock: who listens to events
//! and whoever is woken may ask the cache again. What is here is in the file (5), but for promised entries (`updates.rs`),
//! whose slices are kept.

mod directory;
mod evict;
mod kept;
#[cfg(test)]
#[cfg(any(quod_loom, quod_shuttle))]
mod models;
mod slot;
mod stats;
#[cfg(test)]
#[cfg(not(any(quod_loom, quod_shuttle)))]
mod tests;
mod updates;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::sync::{Arc, PoisonError};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tracing::trace;

use directory::Directory;
use evict::Clock;
pub(crate) use kept::Kept;
pub use slot::{Pinned, Slice, SliceKey, TableLevel};

use stats::Counters;
pub use stats::Stats;
pub use updates::EntryRun;
pub(crate) use updates::{Amount, Promise};

use crate::geometry::SLICE_BYTES;
use crate::sync::{Event, EventListener, Mutex, MutexGuard};

/// What the cache may hold of each level of tables.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Slices of L1, as many as the largest image of the geometry has.
    pub l1_slices: u64,
    /// Slices of L2, as many as the largest image of the geometry has.
    pub l2_slices: u64,
    /// Bytes that slices and the directory may take together.
    pub budget: usize,
}

/// Slices of tables, shared by all requests of an image.
pub struct TableCache {
    directory: Directory,
    structure: Mutex<Structure>,
    counters: Counters,
    budget: usize,
    /// Slices that the budget says nothing about, since the file is owed entries of theirs.
    pub(crate) kept: Kept,
}

/// Everything that changes when a slice comes or goes. Hits never come here, and no I/O runs under its lock.
struct Structure {
    loading: HashMap<SliceKey, Loading, RandomState>,
    clock: Clock,
    bytes: usize,
    /// The last commit left the budget exceeded, since what it met was pinned.
    all_pinned: bool,
}

/// A slice that is being read.
#[derive(Default)]
struct Loading {
    ended: Event,
    /// What came in by another road meanwhile. It stays until the load has ended, since it may be newer than what the
    /// load has read.
    first: Option<Pinned>,
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
    /// Makes an empty cache.
    pub fn new(capacity: Capacity) -> Self {
        let affordable = (capacity.budget / SLICE_BYTES as usize) as u64;
        let directory = Directory::new(affordable.min(capacity.l1_slices.saturating_add(capacity.l2_slices)));
        let bytes = size_of::<TableCache>() + directory.bytes();
        let (loading, clock) = (HashMap::default(), Clock::default());
        let structure = Mutex::new(Structure { loading, clock, bytes, all_pinned: false });
        let (counters, kept) = (Counters::default(), Kept::default());
        TableCache { directory, structure, counters, budget: capacity.budget, kept }
    }

    /// Shows a resident slice to `look`. Costs no lock, no allocation, no shared counter.
    #[inline]
    pub fn find<R>(&self, key: SliceKey, look: impl FnOnce(&Slice) -> R) -> Option<R> {
        let found = self.directory.find(key, |slice| {
            slice.visit();
            look(slice)
        });
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
        self.directory.find(key, visit_and_pin).flatten()
    }

    /// Answers a miss: the first to come loads, the others wait for it.
    pub fn begin_load(&self, key: SliceKey) -> Begin<'_> {
        let mut structure = self.lock();
        let begin = match self.pin_silently(key) {
            Some(pinned) => Begin::Resident(pinned),
            None => match structure.loading.entry(key) {
                Entry::Occupied(loading) => Begin::Wait(loading.get().ended.listen()),
                Entry::Vacant(vacant) => {
                    vacant.insert(Loading::default());
                    Begin::Load(Load { cache: self, key })
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
            Begin::Load(_) => {
                self.counters.miss();
                trace!(?key, "table cache miss");
            }
        }
        begin
    }

    /// Makes a slice resident, by whatever road it came. When another one is
    /// there already, that one is returned, and `slice` is dropped.
    pub fn commit(&self, slice: Slice) -> Pinned {
        // Allocated outside the lock.
        let slice = Arc::new(slice);
        self.commit_under(self.lock(), slice)
    }

    fn commit_under(&self, mut structure: MutexGuard<'_, Structure>, slice: Arc<Slice>) -> Pinned {
        let key = slice.key();
        if let Some(first) = self.pin_silently(key) {
            drop(structure);
            trace!(?key, "table cache commit came second");
            return first;
        }
        let pinned = Pinned::fresh(slice);
        self.directory.insert(Arc::clone(pinned.shared()));
        structure.bytes += pinned.bytes();
        structure.clock.admit(Arc::clone(pinned.shared()));
        if let Some(loading) = structure.loading.get_mut(&key) {
            loading.first = Some(pinned.clone());
        }
        let evicted = self.make_room(&mut structure);
        drop(structure);
        trace!(?key, "table cache commit");
        // Memory is given back outside the lock, too.
        for slice in evicted {
            self.counters.evict();
            trace!(key = ?slice.key(), "table cache evict");
        }
        pinned
    }

    /// What happened so far, and what is held now.
    pub fn stats(&self) -> Stats {
        let structure = self.lock();
        Stats {
            bytes: structure.bytes as u64,
            pinned: structure.clock.pinned() as u64,
            ..self.counters.sum()
        }
    }

    /// All slices that are resident now.
    pub(crate) fn resident(&self) -> Vec<Arc<Slice>> {
        self.lock().clock.slices().cloned().collect()
    }

    /// Loads that are under way.
    pub(crate) fn loads(&self) -> usize {
        self.lock().loading.len()
    }

    /// Holds the whole structure against the invariants of this module.
    ///
    /// # Panics
    /// When one is broken.
    pub fn validate(&self) {
        let structure = self.lock();
        let mut bytes = size_of::<TableCache>() + self.directory.bytes();
        let mut resident = 0;
        for slice in structure.clock.slices() {
            let key = slice.key();
            assert!(!slice.is_evicted(), "{key:?} is queued and evicted");
            let same = self.directory.find(key, |found| Arc::ptr_eq(found, slice));
            assert_eq!(same, Some(true), "{key:?} is queued, and the directory has another or none");
            assert!(!structure.clock.remembers(key), "{key:?} is here, and remembered as gone");
            bytes += slice.bytes();
            resident += 1;
        }
        assert_eq!(resident, self.directory.len(), "slices in the directory and in the queues");
        assert_eq!(bytes, structure.bytes, "bytes held and bytes counted");
        assert!(
            bytes <= self.budget || structure.all_pinned || resident == 0,
            "the last commit left unpinned slices over the budget"
        );
        for (key, loading) in &structure.loading {
            let first = loading.first.as_ref();
            assert!(first.is_none_or(|first| first.is_pinned() && first.key() == *key), "{key:?} went early");
        }
    }

    /// A panic under the lock is a broken invariant: whoever comes after panics as well, rather than spread it.
    fn lock(&self) -> MutexGuard<'_, Structure> {
        self.structure.lock().expect("no panic under the table cache's lock")
    }

    /// Evicts until the budget holds or what it meets is pinned. Returns what went, to be dropped outside the lock.
    fn make_room(&self, structure: &mut Structure) -> SmallVec<[Arc<Slice>; 2]> {
        let mut evicted = SmallVec::new();
        while structure.bytes > self.budget {
            let Some(slice) = structure.clock.evict() else { break };
            self.directory.remove(slice.key());
            structure.bytes -= slice.bytes();
            evicted.push(slice);
        }
        structure.all_pinned = structure.bytes > self.budget;
        evicted
    }
}

/// The right and duty to load one slice. Dropped without a commit, it lets another request try.
pub struct Load<'a> {
    cache: &'a TableCache,
    key: SliceKey,
}

impl Load<'_> {
    /// Makes the slice resident and wakes who waits for it. First commit wins: when another one came in by another
    /// road, that one is returned.
    ///
    /// # Panics
    /// When the slice is not the one that was to be loaded.
    pub fn commit(self, slice: Slice) -> Pinned {
        assert_eq!(slice.key(), self.key, "the slice that was asked for");
        let (cache, slice) = (self.cache, Arc::new(slice));
        // Both under one lock: resident, and loading no more.
        let mut structure = cache.lock();
        let _ended = self.end(&mut structure);
        mem::forget(self);
        // What came first is pinned by the load, and stays.
        cache.commit_under(structure, slice)
    }

    fn end(&self, structure: &mut Structure) -> Ended {
        Ended { key: self.key, loading: structure.loading.remove(&self.key) }
    }
}

/// A load that is over. Who waits for it is woken when this is dropped, also by a panic; not under the lock, since wakers
/// are other people's code.
struct Ended {
    key: SliceKey,
    loading: Option<Loading>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(loading) = &self.loading {
            loading.ended.notify(usize::MAX);
            trace!(key = ?self.key, "table cache load ended");
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        // Also on the way out of a panic, and after one: whoever waits must not wait for ever.
        let mut structure = self.cache.structure.lock().unwrap_or_else(PoisonError::into_inner);
        let _ended = self.end(&mut structure);
        drop(structure);
    }
}
