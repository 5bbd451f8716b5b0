//! The L2 table cache: stands between every guest request and the image file.
//!
//! Role: keeps slices of tables (a slice is a few KiB of one L1 or L2 table) within a budget of bytes, hands them out
//! without a lock, and decides which ones go. Law: `spec/table-cache.md`; the numbers below are its points.
//!
//! | operation of the contract | here | what replaced what |
//! | --- | --- | --- |
//! | init | [`TableCache::new`] | a budget in bytes in the place of 50 tables (1) |
//! | allocate | [`Slice::new`] | memory comes with the slice, bounded by the slice size |
//! | find | [`TableCache::find`], [`TableCache::pin`] | an array by index, read through atomics, in the place of a list under a mutex (2) |
//! | (miss) | [`TableCache::begin_load`] | one loads, the others wait, in the place of two reads of the same table (4) |
//! | commit | [`Load::commit`], [`TableCache::commit`] | first commit wins (6); makes room by CLOCK behind a probation queue in the place of first in, first out (7) |
//! | release | drop of [`Pinned`] | a count that eviction must find at 0 (3) |
//! | free | drop | |
//! | trace | `tracing` events at TRACE, [`Stats`] | (8) |
//!
//! Invariants: a resident slice is in the directory and in exactly one queue of the policy; an evicted slice is in
//! neither and can no longer be pinned; a slice is being loaded by at most one [`Load`]; bytes exceed the budget only
//! while every slice is pinned. [`TableCache::validate`] holds the structure against them.
//!
//! "No table here" is not kept in the directory: the L1 slice says so, costs no slice of its own for it, and is
//! updated in place when a table is linked, so it is never out of date.
//!
//! Absent on purpose: I/O (the caller's), any lock on a hit, and dirty slices: what is here is in the file (5).

mod directory;
mod evict;
mod slot;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::{Event, EventListener};
use tracing::trace;

use directory::Directory;
use evict::Clock;
pub use slot::{EntryRun, Pinned, Slice, SliceKey, TableLevel};

use stats::Counters;
pub use stats::Stats;

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
    l1: Directory,
    l2: Directory,
    structure: Mutex<Structure>,
    counters: Counters,
    budget: usize,
}

/// Everything that changes when a slice comes or goes. Hits never come here, and no I/O runs under its lock.
struct Structure {
    loading: HashMap<SliceKey, Event>,
    clock: Clock,
    bytes: usize,
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
        let (l1, l2) = (Directory::new(capacity.l1_slices), Directory::new(capacity.l2_slices));
        let bytes = l1.bytes() + l2.bytes();
        let structure = Structure { loading: HashMap::new(), clock: Clock::default(), bytes };
        let counters = Counters::default();
        TableCache { l1, l2, structure: Mutex::new(structure), counters, budget: capacity.budget }
    }

    /// Shows a resident slice to `look`. Costs no lock, no allocation, no shared counter.
    pub fn find<R>(&self, key: SliceKey, look: impl FnOnce(&Slice) -> R) -> Option<R> {
        let found = self.directory(key.level).find(key.index, |slice| {
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
        self.directory(key.level).find(key.index, Pinned::try_new).flatten()
    }

    /// Answers a miss: the first to come loads, the others wait for it.
    pub fn begin_load(&self, key: SliceKey) -> Begin<'_> {
        let mut structure = self.lock();
        if let Some(pinned) = self.pin(key) {
            return Begin::Resident(pinned);
        }
        if let Some(done) = structure.loading.get(&key) {
            self.counters.load_shared();
            trace!(?key, "table cache load shared");
            return Begin::Wait(done.listen());
        }
        self.counters.miss();
        trace!(?key, "table cache miss");
        structure.loading.insert(key, Event::new());
        Begin::Load(Load { cache: self, key })
    }

    /// Makes a slice resident that did not come through a [`Load`]: one of a freshly linked table. When another one is
    /// there already, that one is returned, and `slice` is dropped.
    pub fn commit(&self, slice: Slice) -> Pinned {
        let mut structure = self.lock();
        let key = slice.key();
        if let Some(first) = self.pin(key) {
            return first;
        }
        let pinned = Pinned::fresh(Arc::new(slice));
        trace!(?key, "table cache commit");
        structure.bytes +=
            pinned.bytes() + self.directory(key.level).insert(key.index, Arc::clone(pinned.shared()));
        structure.clock.admit(Arc::clone(pinned.shared()));
        let evicted = self.make_room(&mut structure);
        drop(structure);
        // Memory is given back outside the lock.
        drop(evicted);
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

    /// Holds the whole structure against the invariants of this module.
    ///
    /// # Panics
    /// When one is broken.
    pub fn validate(&self) {
        let structure = self.lock();
        let mut bytes = self.l1.bytes() + self.l2.bytes();
        let mut resident = 0;
        for slice in structure.clock.slices() {
            let key = slice.key();
            assert!(!slice.is_evicted(), "{key:?} is queued and evicted");
            let same = self.directory(key.level).find(key.index, |found| Arc::ptr_eq(found, slice));
            assert_eq!(same, Some(true), "{key:?} is queued, and the directory has another or none");
            bytes += slice.bytes();
            resident += 1;
        }
        assert_eq!(resident, self.l1.len() + self.l2.len(), "slices in the directory and in the queues");
        assert_eq!(bytes, structure.bytes, "bytes held and bytes counted");
        let pinned = structure.clock.pinned();
        assert!(
            bytes <= self.budget || pinned == resident || resident == 0,
            "over budget with unpinned slices"
        );
    }

    fn directory(&self, level: TableLevel) -> &Directory {
        match level {
            TableLevel::L1 => &self.l1,
            TableLevel::L2 => &self.l2,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Structure> {
        // A panic under the lock is a broken invariant; going on would spread it.
        self.structure.lock().expect("no panic under the table cache's lock")
    }

    /// Evicts until the budget holds or every slice is pinned. Returns what went, to be dropped outside the lock.
    fn make_room(&self, structure: &mut Structure) -> Vec<Arc<Slice>> {
        let mut evicted = Vec::new();
        while structure.bytes > self.budget {
            let Some(slice) = structure.clock.evict() else { break };
            let key = slice.key();
            trace!(?key, "table cache evict");
            structure.bytes -= slice.bytes() + self.directory(key.level).remove(key.index);
            self.counters.evict();
            evicted.push(slice);
        }
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
        // Resident first; the load ends when `self` drops. A newcomer in between finds it resident.
        self.cache.commit(slice)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        // Also on the way out of a panic: whoever waits must not wait for ever.
        let mut structure = self.cache.structure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = structure.loading.remove(&self.key) {
            done.notify(usize::MAX);
        }
    }
}
