//! Models of the table cache: what they share. See `models/` for what a model is.

#[cfg(quod_loom)]
mod kernels;
#[cfg(quod_shuttle)]
mod schedules;
#[cfg(quod_loom)]
mod updates;

use std::sync::Arc;

#[cfg(quod_loom)]
use super::Pinned;
use super::{SliceKey, SlicePool, TableCache, TableLevel};
#[cfg(quod_loom)]
use crate::units::FileOffset;

/// Bytes of a model's slices at most: a frame of half of them is eight lines.
const SLICE_BYTES: usize = 1024;

fn l2(index: u64) -> SliceKey {
    SliceKey { level: TableLevel::L2, index }
}

/// Bytes of a few entries that are all `value`.
fn bytes(entries: usize, value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(entries)
}

/// A cache that has room for so many slices that take a frame each, and not for one more.
fn room_for(slices: usize) -> TableCache {
    let mut pool = SlicePool::with_budget(SLICE_BYTES, slices * SLICE_BYTES, 0);
    let with_slices = pool.bytes_with(&pool.lock(), slices, slices, slices);
    pool.budget = with_slices + size_of::<TableCache>();
    TableCache::new(&Arc::new(pool))
}

/// An entry that is not narrow, so that its slice is updated as it is.
#[cfg(quod_loom)]
const WIDE: u64 = 100;

/// A cache with one slice of wide entries, pinned.
#[cfg(quod_loom)]
fn one_slice(entries: usize) -> (TableCache, Pinned) {
    let cache = room_for(1);
    let pinned = cache.commit(l2(0), FileOffset(0), &bytes(entries, WIDE));
    (cache, pinned)
}
