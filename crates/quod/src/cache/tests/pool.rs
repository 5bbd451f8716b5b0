//! Several images that share one budget.

use super::*;
use crate::cache::KeptShare;

/// A pool that has room for `slices` slices, and so many caches in it.
fn pool_for(slices: usize, images: usize) -> (Arc<SlicePool>, Vec<TableCache>) {
    let pool = pool_of(slices, images);
    let caches = (0..images).map(|_| TableCache::new(&pool)).collect();
    (pool, caches)
}

#[test]
fn slices_of_one_number_are_each_their_images() {
    let (pool, caches) = pool_for(30, 3);
    for index in 0..10 {
        for (image, cache) in (0..).zip(&caches) {
            read_in(cache, l2(index), 100 * image + index);
        }
    }
    pool.validate();
    for (image, cache) in (0..).zip(&caches) {
        assert!((0..10).all(|index| found(cache, l2(index)) == Some(100 * image + index)));
        assert_eq!(cache.resident().len(), 10);
        let own = size_of::<TableCache>() + 10 * bytes_of(cache, l2(0));
        assert_eq!(cache.stats().bytes, own as u64);
    }
}

#[test]
fn what_one_image_needs_another_that_does_not_gives() {
    let (pool, caches) = pool_for(32, 2);
    let [idle, busy] = &caches[..] else { panic!("two caches") };
    (0..32).for_each(|index| drop(read_in(idle, l2(index), index)));
    for _ in 0..4 {
        for index in 0..24 {
            if found(busy, l2(index)).is_none() {
                read_in(busy, l2(index), index);
            }
        }
        assert!(pool.bytes() <= pool.budget());
        pool.validate();
    }
    assert!((0..24).all(|index| is_resident(busy, l2(index))), "its working set fits");
    assert_eq!(idle.resident().len() + busy.resident().len(), 32);
    assert!(busy.stats().evictions > 0 && idle.stats().evictions == 0, "who needs the room is told of");
}

#[test]
fn each_loads_for_itself() {
    let (pool, caches) = pool_for(4, 2);
    let first = load(&caches[0], l2(7));
    // Not the same slice: it does not wait for the other.
    let second = load(&caches[1], l2(7));
    assert_eq!((caches[0].loads(), caches[1].loads()), (1, 1));
    first.commit(FileOffset(0), &bytes(1));
    assert_eq!((found(&caches[0], l2(7)), found(&caches[1], l2(7))), (Some(1), None));
    second.commit(FileOffset(0), &bytes(2));
    assert_eq!((found(&caches[0], l2(7)), found(&caches[1], l2(7))), (Some(1), Some(2)));
    pool.validate();
}

#[test]
fn an_image_that_is_closed_takes_its_slices_along_and_no_others() {
    let (pool, mut caches) = pool_for(64, 2);
    let empty = pool.bytes();
    let stays = caches.remove(0);
    (0..20).for_each(|index| drop(read_in(&stays, l2(index), index)));
    let before = pool.bytes();
    let goes = caches.remove(0);
    (0..20).for_each(|index| drop(read_in(&goes, l2(index), 99)));
    let pinned = goes.pin(l2(3)).expect("it is here");
    drop(goes);
    pool.validate();
    assert_eq!(pinned.entry(0), 99, "whoever has it may go on reading");
    let pinned_bytes = pool.arena.frame_bytes() + pool.arena.line_bytes();
    assert!(pool.bytes() - (before - size_of::<TableCache>()) <= pinned_bytes);
    assert!(pinned.is_orphaned());
    let line = pinned.header().line;
    drop(pinned);
    let header = crate::cache::slice::Header::there(&pool.arena, line);
    assert!(header.life().is_none(), "who comes late finds no slice there");
    assert_eq!(pool.bytes(), before - size_of::<TableCache>());
    assert!((0..20).all(|index| found(&stays, l2(index)) == Some(index)));
    // Nothing of it is found by the next one.
    let next = TableCache::new(&pool);
    assert!((0..20).all(|index| found(&next, l2(index)).is_none()));
    drop((stays, next));
    // But for what is kept for the lines of others.
    assert_eq!(pool.bytes(), empty - 2 * size_of::<TableCache>() + pool.arena.frame_bytes());
    pool.validate();
}

#[test]
fn who_may_keep_slices_shares_a_quarter() {
    let pool = SlicePool::new(64 * SLICE_BYTES as usize);
    let one = KeptShare::of(&pool);
    assert_eq!(one.slices(), 16);
    let more: Vec<_> = (0..3).map(|_| KeptShare::of(&pool)).collect();
    assert_eq!((one.slices(), more[0].slices()), (4, 4));
    let many: Vec<_> = (0..100).map(|_| KeptShare::of(&pool)).collect();
    assert_eq!(one.slices(), 1, "one at least, so that each gets on");
    drop((many, more));
    assert_eq!(one.slices(), 16);
}

#[test]
fn the_same_slices_of_many_images_spread_over_the_slots() {
    let pool = SlicePool::new(3200 * SLICE_BYTES as usize);
    let caches: Vec<_> = (0..100).map(|_| TableCache::new(&pool)).collect();
    for cache in &caches {
        (0..32).for_each(|index| drop(committed(cache, l2(index), index)));
    }
    let longest = pool.directory.lengths(&pool.arena).max().unwrap_or_default();
    assert!(longest <= 5, "{longest} slices in a list");
}

#[test]
fn an_image_that_enters_a_full_pool_makes_room_for_itself() {
    let (pool, caches) = pool_for(128, 1);
    (0..128).for_each(|index| drop(read_in(&caches[0], l2(index), index)));
    let more: Vec<_> = (0..4).map(|_| TableCache::new(&pool)).collect();
    assert!(pool.bytes() <= pool.budget());
    pool.validate();
    drop(more);
}

#[test]
fn who_has_the_number_of_one_that_is_gone_has_nothing_else_of_it() {
    let (pool, mut caches) = pool_for(64, 2);
    let goes = caches.remove(0);
    (0..200).for_each(|index| drop(read_in(&goes, l2(index), index)));
    // As of a future that was leaked.
    std::mem::forget(load(&goes, l2(200)));
    drop(goes);
    let next = TableCache::new(&pool);
    let structure = pool.structure.lock().expect("no panic before");
    assert!((0..200).all(|index| !structure.clock.remembers(next.owned(l2(index)))));
    drop(structure);
    drop(read_in(&next, l2(200), 1));
    pool.validate();
}
