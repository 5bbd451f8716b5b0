//! Our table cache, as benches make it and load it.

use quod::cache::{Begin, Pinned, SliceKey, SlicePool, TableCache, TableLevel};
use quod::units::FileOffset;

/// Entries of a slice: 4 KiB.
pub(crate) const ENTRIES: u64 = 512;

/// Bytes of an entry.
const ENTRY: u64 = 8;

/// Bytes of a cluster.
const CLUSTER: u64 = 64 << 10;

/// A cache for so many slices of these bytes.
pub(crate) fn cache(slices: usize, bytes: &[u8]) -> TableCache {
    let mut budget = 0;
    // What it takes with them, and what it takes without, which grows with the budget.
    loop {
        let cache = TableCache::new(&SlicePool::with_slices_of((ENTRIES * ENTRY) as usize, budget));
        (0..slices as u64).for_each(|index| drop(load(&cache, index, bytes)));
        let all_are_here = (0..slices as u64).all(|index| find(&cache, index).is_some());
        if all_are_here {
            return TableCache::new(&SlicePool::with_slices_of((ENTRIES * ENTRY) as usize, budget));
        }
        budget += bytes.len() / 16;
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
    (0..ENTRIES).flat_map(|entry| (entry * entry * CLUSTER).to_le_bytes()).collect()
}

/// Those that rise evenly, and are packed.
pub(crate) fn in_order() -> Vec<u8> {
    (0..ENTRIES).flat_map(|entry| (entry * CLUSTER).to_le_bytes()).collect()
}

fn key(index: u64) -> SliceKey {
    SliceKey { level: TableLevel::L2, index }
}
