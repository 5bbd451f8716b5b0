//! The contract's points 1 to 4, 6 and 7, one after another.

use std::sync::{Arc, Weak};

use super::*;

/// Another holder of a slice, that keeps it neither resident nor alive.
fn watch(cache: &TableCache, key: SliceKey) -> Weak<Slice> {
    cache.pool.directory.find(cache.owned(key), Arc::downgrade).unwrap()
}

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
    let full = |key| Slice::new(key, FileOffset(0), &scattered_bytes());
    (0..1000).for_each(|index| drop(cache.commit(full(l2(index)))));
    assert_eq!(residents(&cache), (pool.budget() - empty) / full(l2(0)).bytes());
}

#[test]
fn an_empty_pool_is_small() {
    for budget in [0, 1 << 20, 12 << 20, 1 << 30] {
        let bytes = SlicePool::new(budget).bytes();
        assert!(bytes < 4096 + budget / 30, "{bytes} bytes of {budget}");
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
fn a_referenced_slice_lives_on_when_it_is_evicted() {
    let cache = room_for(1);
    read_in(&cache, l2(0), 7);
    let watched = watch(&cache, l2(0));
    let seen = cache.find(l2(0), |slice| {
        // The reader's reference is no pin: the slice leaves the cache at once.
        read_in(&cache, l2(1), 8);
        assert_eq!(found(&cache, l2(0)), None);
        assert!(watched.upgrade().is_some_and(|slice| slice.is_evicted()), "freed under its reader");
        slice.entry(ENTRIES - 1)
    });
    assert_eq!(seen, Some(7));
    assert!(watched.upgrade().is_none(), "freed when the last reference drops");
    cache.validate();
}

#[test]
fn a_slice_that_nobody_refers_to_is_freed_when_it_is_evicted() {
    let cache = room_for(1);
    read_in(&cache, l2(0), 7);
    let watched = watch(&cache, l2(0));
    read_in(&cache, l2(1), 8);
    assert!(watched.upgrade().is_none());
}

#[test]
fn an_evicted_slice_can_no_longer_be_pinned() {
    let cache = room_for(1);
    read_in(&cache, l2(0), 7);
    let evicted = watch(&cache, l2(0)).upgrade().unwrap();
    read_in(&cache, l2(1), 8);
    assert!(Pinned::try_new(&evicted).is_none());
    assert!(cache.pin(l2(0)).is_none());
    assert!(cache.pin(l2(1)).is_some());
}

#[test]
fn no_count_of_pins_looks_like_an_eviction() {
    let cache = room_for(1);
    let pinned = read_in(&cache, l2(0), 7);
    let most = u32::MAX - 1;
    pinned.shared().set_pins(most);
    assert!(cache.pin(l2(0)).is_none(), "one more than can be counted");
    assert!(!pinned.is_evicted());
    pinned.shared().set_pins(1);
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
fn the_first_commit_wins() {
    let cache = room_for(4);
    let first = cache.commit(slice(l2(0), 1));
    let second = cache.commit(slice(l2(0), 2));
    assert!(Arc::ptr_eq(first.shared(), second.shared()));
    assert_eq!((found(&cache, l2(0)), residents(&cache)), (Some(1), 1));
    cache.validate();
}

#[test]
fn a_load_that_was_overtaken_gets_what_overtook_it() {
    let cache = room_for(4);
    let load = load(&cache, l2(0));
    drop(cache.commit(slice(l2(0), 1)));
    assert_eq!(load.commit(FileOffset(0), &bytes(2)).entry(0), 1);
    assert_eq!(found(&cache, l2(0)), Some(1));
}

/// A cache in which slices have gone, so that their memory is there for others.
#[cfg(target_endian = "little")]
fn with_spare_memory() -> TableCache {
    let cache = room_for(2);
    (100..110).for_each(|index| drop(read_in(&cache, l2(index), index)));
    cache
}

/// Reads a slice straight into memory, where there is some for so many bytes.
#[cfg(target_endian = "little")]
fn read_straight<'a>(load: Load<'a>, length: usize, value: u64) -> Result<Option<Pinned>, Load<'a>> {
    let read = |room: &mut [u8]| {
        room.copy_from_slice(&bytes(value));
        true
    };
    load.commit_read(FileOffset(4096), length, read)
}

#[cfg(target_endian = "little")]
#[test]
fn a_slice_is_read_into_memory_of_one_that_went_where_that_is_of_its_length() {
    let length = bytes(0).len();
    let cache = room_for(2);
    assert!(read_straight(load(&cache, l2(0)), length, 5).is_err(), "none has gone");
    assert_eq!((found(&cache, l2(0)), cache.loads()), (None, 0));

    let cache = with_spare_memory();
    let Err(load) = read_straight(load(&cache, l2(0)), length + 8, 5) else { panic!("none is so long") };
    let Ok(Some(slice)) = read_straight(load, length, 7) else { panic!("there is memory") };
    assert_eq!(
        (slice.key(), slice.at(), slice.len(), slice.entry(ENTRIES - 1)),
        (l2(0), FileOffset(4096), ENTRIES, 7)
    );
    assert_eq!((found(&cache, l2(0)), pinned(&cache), cache.loads()), (Some(7), 1, 0));
    cache.validate();
}

#[cfg(target_endian = "little")]
#[test]
fn what_was_read_in_part_is_seen_by_nobody() {
    let cache = with_spare_memory();
    let torn = |room: &mut [u8]| {
        room[..11].fill(0xee);
        false
    };
    let outcome = load(&cache, l2(0)).commit_read(FileOffset(0), bytes(0).len(), torn);
    assert!(matches!(outcome, Ok(None)));
    assert_eq!((found(&cache, l2(0)), cache.loads()), (None, 0));
    cache.validate();
    assert_eq!(read_in(&cache, l2(0), 3).entry(0), 3);
}

#[cfg(target_endian = "little")]
#[test]
fn a_load_straight_into_memory_that_was_overtaken_gets_what_overtook_it() {
    let cache = with_spare_memory();
    let load = load(&cache, l2(0));
    drop(cache.commit(slice(l2(0), 1)));
    let Ok(Some(slice)) = read_straight(load, bytes(0).len(), 2) else { panic!("there is memory") };
    assert_eq!((slice.entry(0), found(&cache, l2(0))), (1, Some(1)));
    cache.validate();
}

/// What came by another road may have been updated and evicted since the load began to read. Were the load's copy
/// taken then, it would bring back entries that the file no longer has.
#[test]
fn what_overtook_a_load_cannot_go_before_the_load_ends() {
    let cache = room_for(2);
    let load = load(&cache, l2(0));
    cache.commit(slice(l2(0), 1));
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
        assert_eq!(residents(&cache), 4);
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
