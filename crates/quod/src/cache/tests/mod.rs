//! Tests of the table cache: what they share. The contract is `docs/spec/table-cache.md`; each file takes a part of it.
//!
//! | file | points |
//! | --- | --- |
//! | `contract.rs` | 1 to 4, 6, 7: bounded, references, misses, first commit, eviction |
//! | `single_flight.rs` | one load for all who miss; nobody's code under the lock; failing loads |
//! | `publication.rs` | 5: entries on their way to the file |
//! | `observed.rs` | 8: counters and events |
//! | `policy.rs` | which slice goes, against the reference's algorithm on the same trace |
//! | `pool.rs` | 1 and 7 for several images under one budget |
//! | `directory.rs` | slots and their lists |
//! | `packed.rs` | slices whose entries are kept as runs |
//! | `model.rs` | all of it against a plain model |
//! | `stress.rs` | all of it from many threads |
//!
//! What a hit and a slice cost in memory is counted in the crate's `tests/cache_memory.rs`.

mod contract;
mod directory;
mod model;
mod observed;
mod packed;
mod policy;
mod pool;
mod publication;
mod single_flight;
mod stress;

use std::sync::Arc;

use super::{Begin, Load, Pinned, Slice, SliceKey, SlicePool, TableCache, TableLevel};
use crate::geometry::SLICE_BYTES;
use crate::units::FileOffset;

/// Entries of a test's slice: too few to be packed.
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

/// Bytes of a whole slice of which no three entries rise evenly.
fn scattered_bytes() -> Vec<u8> {
    (0..SLICE_BYTES / 8).flat_map(|place| place.pow(3).to_le_bytes()).collect()
}

fn slice(key: SliceKey, value: u64) -> Slice {
    Slice::new(key, FileOffset(0), &bytes(value))
}

/// A cache that has room for `slices` slices, and not for one more.
fn room_for(slices: usize) -> TableCache {
    let mut pool = SlicePool::with_budget(slices * SLICE_BYTES as usize);
    pool.budget = pool.bytes() + size_of::<TableCache>() + slices * slice(l2(0), 0).bytes();
    TableCache::new(&Arc::new(pool))
}

/// What a look-up sees.
fn found(cache: &TableCache, key: SliceKey) -> Option<u64> {
    cache.find(key, |slice| slice.entry(0))
}

/// Whether it is here, asked without a trace of the question.
fn is_resident(cache: &TableCache, key: SliceKey) -> bool {
    cache.pool.directory.find(cache.owned(key), |_| ()).is_some()
}

fn residents(cache: &TableCache) -> usize {
    cache.pool.directory.len()
}

/// The load of a slice that nobody has and nobody loads.
fn load(cache: &TableCache, key: SliceKey) -> Load<'_> {
    match cache.begin_load(key) {
        Begin::Load(load) => load,
        Begin::Resident(_) => panic!("{key:?} is here"),
        Begin::Wait(_) => panic!("{key:?} is being loaded"),
    }
}

/// A miss, satisfied.
fn read_in(cache: &TableCache, key: SliceKey, value: u64) -> Pinned {
    load(cache, key).commit(FileOffset(0), &bytes(value))
}

/// How many slices are pinned.
fn pinned(cache: &TableCache) -> usize {
    cache.resident().iter().filter(|slice| slice.is_pinned()).count()
}
