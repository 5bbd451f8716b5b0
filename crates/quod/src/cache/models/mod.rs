//! Models of the table cache: what they share. See `models/` for what a model is.

#[cfg(quod_loom)]
mod kernels;
#[cfg(quod_shuttle)]
mod schedules;

use std::sync::Arc;

use super::{Slice, SliceKey, SlicePool, TableCache, TableLevel};
use crate::geometry::SLICE_BYTES;
use crate::units::FileOffset;

fn l2(index: u64) -> SliceKey {
    SliceKey { level: TableLevel::L2, index }
}

/// Bytes of a few entries that are all `value`.
fn bytes(entries: usize, value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(entries)
}

fn slice(key: SliceKey, entries: usize, value: u64) -> Slice {
    Slice::new(key, FileOffset(0), &bytes(entries, value))
}

/// A cache that has room for so many slices of so many entries, and not for one more.
fn room_for(slices: usize, entries: usize) -> TableCache {
    let mut pool = SlicePool::with_budget(slices * SLICE_BYTES as usize);
    pool.budget = pool.bytes() + size_of::<TableCache>() + slices * slice(l2(0), entries, 0).bytes();
    TableCache::new(&Arc::new(pool))
}
