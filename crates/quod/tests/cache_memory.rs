//! What the table cache costs in memory, counted by an allocator that counts: nothing for a hit, and for the rest what
//! the cache says (`docs/spec/table-cache.md`, points 1 and 2).

use std::sync::Arc;

use allocation_counter::measure;
use quod::cache::{Begin, Pinned, Slice, SliceKey, SlicePool, TableCache, TableLevel};
use quod::units::FileOffset;

const ENTRIES: u64 = 512;
const SLICES: u64 = 1_000;

fn key(index: u64) -> SliceKey {
    SliceKey { level: TableLevel::L2, index }
}

fn cache_of(budget: usize) -> (Arc<SlicePool>, TableCache) {
    let pool = SlicePool::new(budget);
    let cache = TableCache::new(&pool);
    (pool, cache)
}

fn read_in(cache: &TableCache, index: u64) -> Pinned {
    let Begin::Load(load) = cache.begin_load(key(index)) else { panic!("{index} is here") };
    load.commit(Slice::new(key(index), FileOffset(0), 0..ENTRIES))
}

#[test]
fn a_hit_allocates_nothing() {
    let (_pool, cache) = cache_of(8 << 20);
    (0..SLICES).for_each(|index| drop(read_in(&cache, index)));
    // A thread's first look-up makes its own state.
    assert!(cache.find(key(0), |_| ()).is_some());
    let counted = measure(|| {
        for index in 0..SLICES {
            assert_eq!(cache.find(key(index), |slice| slice.entry(7)), Some(7));
            assert!(cache.pin(key(index)).is_some_and(|pinned| pinned.clone().entry(7) == 7));
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn the_bytes_counted_are_the_bytes_held() {
    for slices in [10, SLICES, 4 * SLICES] {
        let mut cache = None;
        let held = measure(|| {
            let made = cache_of(8 << 20);
            (0..slices).for_each(|index| drop(read_in(&made.1, index)));
            cache = Some(made);
        });
        let held = held.bytes_current as u64 + size_of::<TableCache>() as u64;
        let counted = cache.map_or(0, |(pool, _cache)| pool.bytes() as u64);
        assert!(held <= counted && counted < held * 21 / 20, "{slices}: {counted} counted, {held} held");
        assert!(counted <= 8 << 20);
    }
}

#[test]
fn an_image_that_is_closed_leaves_nothing_behind() {
    let held = measure(|| {
        let (_pool, cache) = cache_of(1 << 20);
        (0..SLICES).for_each(|index| drop(read_in(&cache, index)));
    });
    // But for what the thread keeps for all its caches.
    assert!(held.bytes_current < 4096, "{} bytes", held.bytes_current);
}
