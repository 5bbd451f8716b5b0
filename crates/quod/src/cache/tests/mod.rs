//! Tests of the table cache: what they share. The contract is `docs/spec/table-cache.md`; each file takes a part of it.
//!
//! | file | points |
//! | --- | --- |
//! | `contract.rs` | 1 to 4, 6, 7: bounded, references, misses, first commit, eviction |
//! | `single_flight.rs` | one load for all who miss; nobody's code under the lock; failing loads |
//! | `bypass.rs` | 4: slices that are read and do not come in |
//! | `publication.rs` | 5: entries on their way to the file |
//! | `observed.rs` | 8: counters and events |
//! | `policy.rs` | which slice goes, against the reference's algorithm on the same trace |
//! | `pool.rs` | 1 and 7 for several images under one budget |
//! | `directory.rs` | slots and their lists |
//! | `packed.rs` | slices whose entries are kept as runs, or narrow |
//! | `late.rs` | readers whose slice goes, or changes, while they look |
//! | `model.rs` | all but slices that do not come in or are wide, against a plain model |
//! | `stress.rs` | all of it from many threads |
//!
//! What a hit and a slice cost in memory is counted in the crate's `tests/cache_memory.rs`.

mod bypass;
mod contract;
mod directory;
mod late;
mod model;
mod observed;
mod packed;
mod policy;
mod pool;
mod publication;
mod single_flight;
mod stress;

use std::sync::Arc;

use super::{Begin, BeginRead, Bypass, Load, Pinned, Slice, SliceKey, SlicePool, TableCache, TableLevel};
use crate::geometry::SLICE_BYTES;
use crate::units::FileOffset;

/// Entries of a test's slice: too few to be runs.
const ENTRIES: usize = 8;

fn l2(index: u64) -> SliceKey {
    SliceKey { level: TableLevel::L2, index }
}

fn l1(index: u64) -> SliceKey {
    SliceKey { level: TableLevel::L1, index }
}

/// A slice's bytes, whose entries are all `value`.
fn bytes(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(ENTRIES)
}

/// Bytes of a slice whose entries are runs.
fn even_bytes(first: u64) -> Vec<u8> {
    (0..SLICE_BYTES / 8).flat_map(|place| (first + place).to_le_bytes()).collect()
}

/// Bytes of a slice whose entries are no runs, and mean something.
fn narrow_bytes(first: u64) -> Vec<u8> {
    (0..SLICE_BYTES / 8).flat_map(|place| ((first + place.pow(2)) << 16).to_le_bytes()).collect()
}

/// A pool that has room for so many slices that take a frame each, not for one more, and for so many caches.
fn pool_of(slices: usize, images: usize) -> Arc<SlicePool> {
    let mut pool = SlicePool::with_budget(SLICE_BYTES as usize, slices * SLICE_BYTES as usize, 0);
    let with_slices = pool.bytes_with(&pool.lock(), slices, slices, slices);
    pool.budget = with_slices + images * size_of::<TableCache>();
    Arc::new(pool)
}

/// A cache that has room for `slices` slices, and not for one more.
fn room_for(slices: usize) -> TableCache {
    TableCache::new(&pool_of(slices, 1))
}

/// What a look-up sees.
fn found(cache: &TableCache, key: SliceKey) -> Option<u64> {
    cache.find(key, |slice| slice.entry(0))
}

/// Whether it is here, asked without a trace of the question.
fn is_resident(cache: &TableCache, key: SliceKey) -> bool {
    cache.pool.directory.look_up(&cache.pool.arena, cache.owned(key)).is_some()
}

fn residents(cache: &TableCache) -> usize {
    cache.pool.lock().clock.len()
}

/// The load of a slice that nobody has and nobody loads.
fn load(cache: &TableCache, key: SliceKey) -> Load<'_> {
    match cache.begin_load(key) {
        Begin::Load(load) => load,
        Begin::Resident(_) => panic!("{key:?} is here"),
        Begin::Wait(_) => panic!("{key:?} is being loaded"),
    }
}

/// A slice that came by no load.
fn committed(cache: &TableCache, key: SliceKey, value: u64) -> Pinned {
    cache.commit(key, FileOffset(0), &bytes(value))
}

/// A miss, satisfied.
fn read_in(cache: &TableCache, key: SliceKey, value: u64) -> Pinned {
    load(cache, key).commit(FileOffset(0), &bytes(value))
}

/// Bytes that a slice takes.
fn bytes_of(cache: &TableCache, key: SliceKey) -> usize {
    cache.pool.bytes_of(cache.pin(key).expect("it is here").header())
}

/// How many slices are pinned.
fn pinned(cache: &TableCache) -> usize {
    cache.resident().iter().filter(|(_, is_pinned)| *is_pinned).count()
}
