//! A slice of a table in memory: entries and pins.
//!
//! Role: [`Slice`] holds the visible entries (`entries.rs`), and [`Pinned`] keeps one from being evicted.
//!
//! Invariants: an entry changes under a pin, by `updates.rs`: when the file has it, or when it is promised. The state is a
//! count of pins, or [`EVICTED`], from which there is no way back. A slice with updates is pinned.
//!
//! Absent on purpose: which of the entries the file has (`updates.rs`).

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use tracing::trace;

use super::entries::Entries;
use super::updates::{EntryRun, Updates};
use crate::sync::ArcSwapOption;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::units::FileOffset;

/// One slice that leads to another, in a list of the directory.
pub(super) type Link = ArcSwapOption<Slice>;

/// State of a slice that has left the cache.
const EVICTED: u32 = u32::MAX;

/// Bytes that come with a slice, about: reference counts, its places in the queues of the policy and in their memory,
/// and what an allocator adds.
const OVERHEAD: usize = 72;

/// Which tables a slice is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableLevel {
    /// The one L1 table.
    L1,
    /// An L2 table.
    L2,
}

/// Which slice: the `index`th of all slices of its level, in the order of the guest offsets they cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    /// Level of the table.
    pub level: TableLevel,
    /// Guest offset divided by what a slice covers.
    pub index: u64,
}

/// A slice of one of the images of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OwnedKey {
    pub(super) image: usize,
    pub(super) key: SliceKey,
}

/// A slice of a table.
pub struct Slice {
    image: usize,
    key: SliceKey,
    at: FileOffset,
    entries: Entries,
    state: AtomicU32,
    visited: AtomicBool,
    next: Link,
    pub(crate) updates: Updates,
}

impl Slice {
    /// Takes the bytes that lie in the file at `at`: whole entries.
    ///
    /// # Panics
    /// When they are not.
    pub fn new(key: SliceKey, at: FileOffset, bytes: &[u8]) -> Self {
        trace!(?key, %at, "table cache allocate");
        Slice {
            image: 0,
            key,
            at,
            entries: Entries::of(bytes),
            state: AtomicU32::new(0),
            visited: AtomicBool::new(false),
            next: Link::empty(),
            updates: Updates::default(),
        }
    }

    /// Memory for so many bytes of another slice, once it has left and is unlinked, before it is [`renewed`](Slice::renew); `None`
    /// where it cannot be had so.
    pub(super) fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        self.entries.room(length)
    }

    /// Makes another slice of one that has left and is unlinked, as [`new`](Slice::new) makes one in memory of its own, with the
    /// entries that `fill` makes of those there are.
    pub(super) fn renew(&mut self, owned: OwnedKey, its_place: FileOffset, fill: impl FnOnce(&mut Entries)) {
        trace!(key = ?owned.key, at = %its_place, "table cache allocate");
        let Slice { image, key, at, entries, state, visited, next: _, updates } = self;
        (*image, *key, *at) = (owned.image, owned.key, its_place);
        fill(entries);
        *state = AtomicU32::new(0);
        *visited = AtomicBool::new(false);
        *updates = Updates::default();
    }

    /// The same, of that image of the pool that it comes into.
    pub(super) fn of_image(self, image: usize) -> Self {
        Slice { image, ..self }
    }

    /// Which slice of which image it is.
    #[inline]
    pub(super) fn owned_key(&self) -> OwnedKey {
        OwnedKey { image: self.image, key: self.key }
    }

    /// Which slice it is.
    #[inline]
    pub fn key(&self) -> SliceKey {
        self.key
    }

    /// Where its first entry lies in the file.
    pub fn at(&self) -> FileOffset {
        self.at
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entries; none that came from a table.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of an entry that readers see.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn entry(&self, index: usize) -> u64 {
        self.entries.entry(index)
    }

    /// The values of some entries that readers see.
    ///
    /// # Panics
    /// When there are not so many.
    pub(super) fn copy(&self, places: Range<usize>) -> Vec<u64> {
        self.entries.copy(places)
    }

    /// Whether its entries are kept as runs, and cannot change.
    pub(super) fn is_packed(&self) -> bool {
        self.entries.each().is_none()
    }

    /// Packed entries each for itself, for [`unpack`](Slice::unpack).
    pub(super) fn unpacked(&self) -> Option<Box<[AtomicU64]>> {
        self.entries.unpacked()
    }

    /// Has these entries change from now on, which are the same; tells how many more bytes it takes, which nobody has counted
    /// yet. `None` when others came first.
    pub(super) fn unpack(&self, each: Box<[AtomicU64]>) -> Option<usize> {
        self.entries.unpack(each)
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        self.entries.bytes() + size_of::<Slice>() + OVERHEAD
    }

    /// Makes a run visible.
    ///
    /// # Panics
    /// When nobody has pinned the slice: it may have been evicted, and an update must not land on a copy. When it is packed.
    pub fn publish(&self, run: &EntryRun) {
        assert!(self.is_pinned(), "{self:?} is updated, and is not pinned");
        let entries = self.entries.each().expect("who updates a slice has it unpacked");
        for (index, value) in run.entries() {
            entries[index].store(value, Ordering::Release);
        }
    }

    /// Leads nowhere any more, so that it keeps nothing alive.
    pub(super) fn unlink(&mut self) {
        // To drop a link costs a look at what every thread is reading.
        if self.next.load().is_some() {
            self.next = Link::empty();
        }
    }

    /// What follows it in its list of the directory.
    #[inline]
    pub(super) fn next(&self) -> &Link {
        &self.next
    }

    #[inline]
    pub(super) fn visit(&self) {
        // Looked at first, so that a hot slice's line stays shared between cores.
        if !self.visited.load(Ordering::Relaxed) {
            self.visited.store(true, Ordering::Relaxed);
        }
    }

    /// Tells whether it was visited since the last time.
    pub(super) fn forget_visit(&self) -> bool {
        self.visited.load(Ordering::Relaxed) && self.visited.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn is_pinned(&self) -> bool {
        !matches!(self.state.load(Ordering::Acquire), 0 | EVICTED)
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.state.load(Ordering::Acquire) == EVICTED
    }

    /// Takes it out of use, unless it is pinned.
    pub(super) fn try_evict(&self) -> bool {
        self.state.compare_exchange(0, EVICTED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    #[cfg(test)]
    #[cfg(not(any(quod_loom, quod_shuttle)))]
    pub(super) fn set_pins(&self, pins: u32) {
        self.state.store(pins, Ordering::Release);
    }

    fn try_pin(&self) -> bool {
        // Leaked pins past counting must not look like an eviction.
        let more = |pins| (pins < EVICTED - 1).then(|| pins + 1);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({:?} at {})", self.key, self.at)
    }
}

/// A slice that cannot be evicted for as long as this lives.
#[derive(Debug)]
pub struct Pinned(Arc<Slice>);

impl Pinned {
    /// Pins a slice that nobody else has yet.
    pub(super) fn fresh(slice: Arc<Slice>) -> Self {
        Pinned::try_new(&slice).expect("a slice that is not in the cache yet cannot be evicted")
    }

    /// Pins, unless it is evicted already.
    pub(super) fn try_new(slice: &Arc<Slice>) -> Option<Self> {
        slice.try_pin().then(|| Pinned(Arc::clone(slice)))
    }

    pub(super) fn shared(&self) -> &Arc<Slice> {
        &self.0
    }
}

impl Clone for Pinned {
    fn clone(&self) -> Self {
        Pinned::try_new(&self.0).expect("a pinned slice cannot be evicted")
    }
}

impl Deref for Pinned {
    type Target = Slice;

    fn deref(&self) -> &Slice {
        &self.0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let pins = self.0.state.fetch_sub(1, Ordering::AcqRel) - 1;
        trace!(key = ?self.0.key, pins, "table cache release");
    }
}

#[cfg(test)]
#[cfg(not(any(quod_loom, quod_shuttle)))]
mod tests {
    use super::*;

    const OLD: OwnedKey = OwnedKey { image: 3, key: SliceKey { level: TableLevel::L1, index: 4 } };
    const NEW: OwnedKey = OwnedKey { image: 5, key: SliceKey { level: TableLevel::L2, index: 6 } };

    /// What goes for the writer, the policy and the directory.
    fn all_of(slice: &Slice) -> impl PartialEq + fmt::Debug {
        let entries: Vec<_> = (0..slice.len()).map(|index| slice.entry(index)).collect();
        let state = (slice.is_pinned(), slice.is_evicted(), slice.forget_visit());
        let leads_on = slice.next().load().is_some();
        (slice.owned_key(), slice.at(), entries, state, leads_on, slice.updates.is_empty())
    }

    #[test]
    fn a_slice_in_the_memory_of_another_is_as_one_that_is_new() {
        let next = Arc::new(Slice::new(OLD.key, FileOffset(0), &[]));
        for bytes in [[7; 64].as_slice(), &[8; 32], &[9; 128]] {
            let mut slice = Slice::new(OLD.key, FileOffset(4096), &[1; 64]).of_image(OLD.image);
            slice.visit();
            slice.next().store(Some(Arc::clone(&next)));
            assert!(slice.try_evict());
            slice.unlink();
            slice.renew(NEW, FileOffset(8192), |entries| entries.renew(bytes));
            let new = Slice::new(NEW.key, FileOffset(8192), bytes).of_image(NEW.image);
            assert_eq!(all_of(&slice), all_of(&new));
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_slice_of_what_was_read_into_the_memory_of_another_is_as_one_that_is_new() {
        let scattered = |by: u64| (0..64_u64).flat_map(move |i| (by * i * i * i).to_le_bytes());
        let old: Vec<_> = scattered(5).collect();
        for (bytes, is_packed) in [(scattered(7).collect(), false), (vec![9; 512], true)] {
            let mut slice = Slice::new(OLD.key, FileOffset(4096), &old).of_image(OLD.image);
            slice.visit();
            assert!(slice.try_evict());
            assert!(slice.room(bytes.len() + 8).is_none() && slice.room(bytes.len() - 8).is_none());
            slice.room(bytes.len()).expect("memory of the length").copy_from_slice(&bytes);
            slice.renew(NEW, FileOffset(8192), Entries::pack);
            let new = Slice::new(NEW.key, FileOffset(8192), &bytes).of_image(NEW.image);
            assert_eq!(all_of(&slice), all_of(&new));
            assert_eq!((slice.is_packed(), slice.bytes()), (is_packed, new.bytes()));
            assert_eq!(slice.room(bytes.len()).is_none(), is_packed, "runs are no room");
        }
    }
}
