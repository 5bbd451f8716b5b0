//! Answers a miss: one loads the slice, and the others wait; or nobody does.
//!
//! Role: what is under way about a slice that is not here, and who may read it from the file. A slice that comes in takes the
//! place of another. Where slices are asked for once and not again, and those that are here were asked for twice, who reads one
//! takes what it needs from the file.
//!
//! Invariant: about one slice no two [`Load`]s or [`Bypass`]es are under way. So nobody updates it meanwhile, unless it came in by
//! another road, which the end of either tells; and what is read of it is what the file has of it, whole.
//!
//! Absent on purpose: I/O, and the choice (`evict.rs`).

use std::mem;
use std::sync::PoisonError;

use tracing::trace;

use super::evict::Coming;
use super::pool::{Room, Structure};
use super::slice::Header;
use super::{Pinned, SliceKey, TableCache};
use crate::sync::{Event, EventListener, MutexGuard};
use crate::units::FileOffset;

/// A slice that is being read.
pub(super) struct Loading {
    /// None where it does not come in.
    pub(super) room: Option<Room>,
    /// Made by the first who waits: few loads are waited for.
    pub(super) ended: Option<Event>,
    /// What came in by another road meanwhile. It stays until the load has ended, since it may be newer than what the
    /// load has read.
    pub(super) first: Option<Pinned>,
}

impl Loading {
    pub(super) fn of(room: Option<Room>) -> Self {
        Loading { room, ended: None, first: None }
    }
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

/// What one who reads, and does not wait, is to do about a slice that was not found.
pub enum BeginRead<'a> {
    /// It is there by now.
    Resident(Pinned),
    /// Another request is loading it.
    Busy,
    /// Read it and commit it.
    Load(Load<'a>),
    /// Read what is needed of it: those that are here are needed more.
    Bypass(Bypass<'a>),
}

impl TableCache {
    /// Answers a miss: the first to come loads, the others wait for it.
    pub fn begin_load(&self, key: SliceKey) -> Begin<'_> {
        let mut structure = self.pool.lock();
        if let Some(pinned) = self.pin_under(&structure, key) {
            return Begin::Resident(self.came_first(structure, pinned));
        }
        if let Some(loading) = structure.loading.get_mut(&self.owned(key)) {
            let listener = loading.ended.get_or_insert_default().listen();
            drop(structure);
            self.counters.load_shared();
            trace!(?key, "table cache load shared");
            return Begin::Wait(listener);
        }
        let coming = structure.clock.coming(&self.pool.arena, self.owned(key));
        Begin::Load(self.load(structure, key, coming))
    }

    /// As [`begin_load`](TableCache::begin_load), for one who only reads, and does not wait. Where hardly any slice that comes in
    /// is asked for again, and those that are here were, it is not to be loaded: that would cost one of them its place.
    pub fn begin_read(&self, key: SliceKey) -> BeginRead<'_> {
        let mut structure = self.pool.lock();
        let owned = self.owned(key);
        if let Some(pinned) = self.pin_under(&structure, key) {
            return BeginRead::Resident(self.came_first(structure, pinned));
        }
        if structure.loading.contains_key(&owned) {
            return BeginRead::Busy;
        }
        let coming = structure.clock.coming(&self.pool.arena, owned);
        if !self.pool.bypasses(&structure, coming) {
            return BeginRead::Load(self.load(structure, key, coming));
        }
        structure.loading.insert(owned, Loading::of(None));
        drop(structure);
        trace!(?key, "table cache bypass");
        BeginRead::Bypass(Bypass { cache: self, key })
    }

    /// What came in between the look-up and the question.
    fn came_first(&self, structure: MutexGuard<'_, Structure>, pinned: Pinned) -> Pinned {
        drop(structure);
        self.counters.hit();
        trace!(key = ?pinned.key(), "table cache pin");
        pinned
    }

    fn load(&self, mut structure: MutexGuard<'_, Structure>, key: SliceKey, coming: Coming) -> Load<'_> {
        let (room, evicted) = self.pool.reserve(&mut structure, coming);
        structure.loading.insert(self.owned(key), Loading::of(Some(room)));
        drop(structure);
        trace!(?key, "table cache miss");
        self.note_evictions(evicted);
        Load { cache: self, key, room }
    }

    /// Ends what was begun.
    fn end(&self, structure: &mut Structure, key: SliceKey) -> Ended {
        Ended { key, loading: structure.loading.remove(&self.owned(key)) }
    }

    /// As [`SlicePool::lock`], also on the way out of a panic, and after one: whoever waits must not wait for ever.
    fn lock_to_give_up(&self) -> MutexGuard<'_, Structure> {
        self.pool.structure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right and duty to load one slice. Dropped without a commit, it lets another request try.
pub struct Load<'a> {
    cache: &'a TableCache,
    key: SliceKey,
    room: Room,
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
    /// When the bytes are not whole entries, or more than a slice has.
    pub fn commit(self, at: FileOffset, bytes: &[u8]) -> Pinned {
        let cache = self.cache;
        self.make_resident(at, bytes, |slice| Pinned::new(&cache.pool, slice)).unwrap_or_else(|first| first)
    }

    /// As [`commit`](Load::commit), for who needs no more than the bytes: pins nothing.
    ///
    /// # Errors
    /// What came in first.
    pub(crate) fn commit_read(self, at: FileOffset, bytes: &[u8]) -> Result<(), Pinned> {
        self.make_resident(at, bytes, |_| ())
    }

    fn make_resident<R>(
        self,
        at: FileOffset,
        bytes: &[u8],
        take: impl FnOnce(Header<'_>) -> R,
    ) -> Result<R, Pinned> {
        let Load { cache, key, mut room } = self;
        let content = cache.fill(&mut room, key, at, bytes);
        // Both under one lock: resident, and loading no more.
        let ended;
        let mut structure = cache.pool.lock();
        ended = cache.end(&mut structure, key);
        mem::forget(self);
        cache.counters.miss();
        // What came in since the load began is pinned by it, and stays.
        if let Some(first) = ended.loading.as_ref().and_then(|loading| loading.first.clone()) {
            return Err(cache.came_second(structure, Some(room), first));
        }
        let (slice, evicted) = cache.pool.admit(&mut structure, room, content);
        let taken = take(slice);
        drop(structure);
        trace!(?key, "table cache commit");
        cache.note_evictions(evicted);
        Ok(taken)
    }
}

/// A load that is over. Who waits for it is woken when this is dropped, also by a panic; not under the lock, since wakers
/// are other people's code: so a place for it is made before the lock is taken.
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
        let _ended;
        let mut structure = self.cache.lock_to_give_up();
        _ended = self.cache.end(&mut structure, self.key);
        self.cache.pool.vacate(&mut structure, self.room);
        drop(structure);
    }
}

/// The right to read entries of a slice that does not come in. Nobody loads it meanwhile, and so nobody updates it. Dropped
/// before its [`end`](Bypass::end), it counts for nothing.
pub struct Bypass<'a> {
    cache: &'a TableCache,
    key: SliceKey,
}

impl Bypass<'_> {
    /// The entries have been read.
    ///
    /// # Errors
    /// The slice, when it came in meanwhile by another road.
    pub fn end(self) -> Result<(), Pinned> {
        let Bypass { cache, key } = self;
        let mut ended;
        let mut structure = cache.pool.lock();
        ended = cache.end(&mut structure, key);
        mem::forget(self);
        let first = ended.loading.as_mut().and_then(|loading| loading.first.take());
        if first.is_none() {
            structure.clock.bypass(&cache.pool.arena, cache.owned(key));
        }
        drop(structure);
        cache.counters.miss();
        cache.counters.bypass();
        first.map_or(Ok(()), Err)
    }
}

impl Drop for Bypass<'_> {
    fn drop(&mut self) {
        let _ended;
        let mut structure = self.cache.lock_to_give_up();
        _ended = self.cache.end(&mut structure, self.key);
    }
}
