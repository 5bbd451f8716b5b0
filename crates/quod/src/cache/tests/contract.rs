//! The contract's points 1 to 4, 6 and 7, one after another.

use super::*;

#[test]
fn the_bytes_held_never_exceed_the_budget() {
    let cache = room_for(10);
    for index in 0..100 {
        read_in(&cache, l2(index), index);
        assert!(cache.pool.bytes() <= cache.pool.budget);
        assert_eq!(residents(&cache), 10.min(index as usize + 1));
        cache.validate();
    }
}

#[test]
fn the_directory_counts_against_the_budget() {
    let pool = SlicePool::new(1 << 20);
    let cache = TableCache::new(&pool);
    let empty = pool.bytes();
    assert!(empty >= cache.pool.directory.bytes() + size_of::<TableCache>());
    (0..1000).for_each(|index| drop(cache.commit(l2(index), FileOffset(0), &narrow_bytes(index))));
    let bytes_of = |slices| pool.bytes_with(&pool.lock(), slices, slices, slices);
    drop(cache.commit(l2(1000), FileOffset(0), &narrow_bytes(1000)));
    assert!(pool.bytes() <= pool.budget() && bytes_of(1) > pool.budget());
    assert!(residents(&cache) * SLICE_BYTES as usize / 2 > (pool.budget() - empty) * 9 / 10);
}

#[test]
fn a_budget_may_be_as_large_as_can_be_said() {
    let cache = TableCache::new(&SlicePool::new(usize::MAX));
    assert_eq!(read_in(&cache, l2(7), 7).entry(ENTRIES - 1), 7);
    cache.validate();
}

#[test]
fn an_empty_pool_is_small() {
    for budget in [0, 1 << 20, 12 << 20, 1 << 30, usize::MAX] {
        let bytes = SlicePool::new(budget).bytes();
        assert!(bytes < 8192 + budget / 30, "{bytes} bytes of {budget}");
    }
}

#[test]
fn a_hit_shows_the_entries_that_were_committed() {
    let cache = room_for(4);
    read_in(&cache, l2(3), 33);
    read_in(&cache, l1(3), 11);
    assert_eq!(
        (found(&cache, l2(3)), found(&cache, l1(3)), found(&cache, l2(4))),
        (Some(33), Some(11), None)
    );
    assert_eq!(cache.pin(l2(3)).unwrap().key(), l2(3));
}

#[test]
fn an_evicted_slice_can_no_longer_be_pinned() {
    let cache = room_for(1);
    read_in(&cache, l2(0), 7);
    read_in(&cache, l2(1), 8);
    assert!(cache.pin(l2(0)).is_none());
    assert!(cache.pin(l2(1)).is_some());
}

#[test]
fn pins_are_counted_one_by_one() {
    let cache = room_for(1);
    let first = read_in(&cache, l2(0), 7);
    let many: Vec<_> = (0..1000).map(|_| first.clone()).chain(cache.pin(l2(0))).collect();
    assert_eq!(first.header().pins(), 1002);
    drop(many);
    assert_eq!(first.header().pins(), 1);
    let header = first.header().line;
    drop(first);
    assert_eq!(crate::cache::slice::Header::there(&cache.pool.arena, header).pins(), 0);
}

#[test]
fn a_miss_is_the_callers_to_satisfy() {
    let cache = room_for(4);
    assert_eq!(found(&cache, l2(0)), None);
    let load = load(&cache, l2(0));
    assert_eq!(found(&cache, l2(0)), None, "begun is not there");
    drop(load.commit(FileOffset(0), &bytes(5)));
    assert_eq!(found(&cache, l2(0)), Some(5));
}

#[test]
fn a_load_that_is_given_up_leaves_nothing() {
    let cache = room_for(4);
    drop(read_in(&cache, l2(1), 1));
    let before = cache.pool.bytes();
    drop(load(&cache, l2(0)));
    assert_eq!((found(&cache, l2(0)), cache.loads(), cache.pool.bytes()), (None, 0, before));
    cache.validate();
}

#[test]
fn the_first_commit_wins() {
    let cache = room_for(4);
    let first = committed(&cache, l2(0), 1);
    let second = committed(&cache, l2(0), 2);
    assert!(first.is(&second));
    assert_eq!((found(&cache, l2(0)), residents(&cache)), (Some(1), 1));
    cache.validate();
}

#[test]
fn a_load_that_was_overtaken_gets_what_overtook_it() {
    let cache = room_for(4);
    let load = load(&cache, l2(0));
    drop(committed(&cache, l2(0), 1));
    assert_eq!(load.commit(FileOffset(0), &bytes(2)).entry(0), 1);
    assert_eq!(found(&cache, l2(0)), Some(1));
}

#[test]
fn who_needs_no_more_than_the_bytes_leaves_nothing_pinned() {
    let cache = room_for(2);
    assert!(load(&cache, l2(0)).commit_read(FileOffset(4096), &bytes(5)).is_ok());
    assert_eq!((found(&cache, l2(0)), pinned(&cache), cache.loads()), (Some(5), 0, 0));
    assert_eq!(cache.pin(l2(0)).map(|slice| (slice.at(), slice.len())), Some((FileOffset(4096), ENTRIES)));
    let late = load(&cache, l2(1));
    drop(committed(&cache, l2(1), 6));
    assert!(late.commit_read(FileOffset(0), &bytes(7)).is_err_and(|first| first.entry(0) == 6));
    assert_eq!((found(&cache, l2(1)), pinned(&cache)), (Some(6), 0));
    cache.validate();
}

/// What came by another road may have been updated and evicted since the load began to read. Were the load's copy
/// taken then, it would bring back entries that the file no longer has.
#[test]
fn what_overtook_a_load_cannot_go_before_the_load_ends() {
    let cache = room_for(3);
    let load = load(&cache, l2(0));
    drop(committed(&cache, l2(0), 1));
    (1..20).for_each(|index| drop(read_in(&cache, l2(index), index)));
    assert_eq!(found(&cache, l2(0)), Some(1));
    cache.validate();
    assert_eq!(load.commit(FileOffset(0), &bytes(2)).entry(0), 1);
    assert_eq!(pinned(&cache), 0, "and is as any other then");
}

#[test]
fn pinned_slices_stay_and_unpinned_ones_go() {
    let cache = room_for(8);
    let kept: Vec<Pinned> = (0..4).map(|index| read_in(&cache, l2(index), index)).collect();
    (4..100).for_each(|index| drop(read_in(&cache, l2(index), index)));
    assert!((0..4).all(|index| found(&cache, l2(index)) == Some(index)));
    assert_eq!((residents(&cache), pinned(&cache)), (8, 4));
    drop(kept);
    cache.validate();
}

#[test]
fn all_pinned_the_cache_grows_and_later_commits_shrink_it() {
    for count in [20, 500] {
        let cache = room_for(4);
        let kept: Vec<Pinned> = (0..count).map(|index| read_in(&cache, l2(index), index)).collect();
        assert_eq!(residents(&cache), count as usize);
        assert!((0..count).all(|index| found(&cache, l2(index)) == Some(index)));
        cache.validate();
        drop(kept);
        cache.validate();
        read_in(&cache, l2(1000), 0);
        // Their lines may lie in several frames.
        assert!((3..=4).contains(&residents(&cache)), "{} slices", residents(&cache));
        cache.validate();
    }
}

#[test]
fn a_pin_counts_until_its_last_clone_is_gone() {
    let cache = room_for(1);
    let pinned = read_in(&cache, l2(0), 0);
    let clone = pinned.clone();
    drop(pinned);
    read_in(&cache, l2(1), 1);
    assert!(is_resident(&cache, l2(0)));
    drop(clone);
    read_in(&cache, l2(2), 2);
    assert!(!is_resident(&cache, l2(0)));
}

#[test]
fn a_budget_of_nothing_still_serves_one_request_after_another() {
    let cache = TableCache::new(&SlicePool::new(0));
    for index in 0..10 {
        assert_eq!(read_in(&cache, l2(index), index).entry(0), index);
        cache.validate();
    }
    assert_eq!(residents(&cache), 1);
}
