//! Our table cache, as benches make it and load it.

use quod::cache::{Begin, Pinned, Slice, SliceKey, SlicePool, TableCache, TableLevel};
use quod::units::FileOffset;

/// Entries of a slice: 4 KiB.
pub(crate) const ENTRIES: u64 = 512;

/// A cache for so many slices of these bytes.
pub(crate) fn cache(slices: usize, bytes: &[u8]) -> TableCache {
    let for_slices = slices * Slice::new(key(0), FileOffset(0), bytes).bytes();
    let mut budget = for_slices;
    // With what it takes that is no slice, which grows with the budget.
    loop {
        let pool = SlicePool::new(budget);
        let cache = TableCache::new(&pool);
        if pool.bytes() + for_slices <= budget {
            return cache;
        }
        budget = pool.bytes() + for_slices;
    }
}

/// What a look-up of a hit does: an entry of the slice.
pub(crate) fn find(cache: &TableCache, index: u64) -> Option<u64> {
    cache.find(key(index), |slice| slice.entry(index as usize % ENTRIES as usize))
}

/// What a miss does beside the read, whose result is `bytes`.
pub(crate) fn load(cache: &TableCache, index: u64, bytes: &[u8]) -> Option<Pinned> {
    match cache.begin_load(key(index)) {
        Begin::Load(load) => Some(load.commit(FileOffset(0), bytes)),
        Begin::Resident(_) | Begin::Wait(_) => None,
    }
}

/// A slice's bytes of which no three entries rise evenly.
pub(crate) fn scattered() -> Vec<u8> {
    (0..ENTRIES).flat_map(|entry| (entry * entry).to_le_bytes()).collect()
}

/// Those that rise evenly, and are packed.
pub(crate) fn in_order() -> Vec<u8> {
    (0..ENTRIES).flat_map(u64::to_le_bytes).collect()
}

fn key(index: u64) -> SliceKey {
    SliceKey { level: TableLevel::L2, index }
}
