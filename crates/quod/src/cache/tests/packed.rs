//! Points 1, 3 and 7 where slices are packed: many fit, and who changes one has it unpacked.

use std::thread;

use super::*;
use crate::cache::{EntryRun, Promise};
use crate::units::FlushNumber;

/// A cache that has room for so many slices whose entries are wide, with their lines.
fn room_for_wide(slices: usize) -> TableCache {
    room_for(2 * slices)
}

/// Makes slices resident, as many as are given.
fn fill(cache: &TableCache, slices: u64, bytes: fn(u64) -> Vec<u8>) {
    for index in 0..slices {
        load(cache, l2(index)).commit(FileOffset(0), &bytes(1000 * index));
    }
}

#[test]
fn a_budget_holds_many_times_as_many() {
    let cache = room_for_wide(100);
    fill(&cache, 10_000, even_bytes);
    assert!(residents(&cache) > 3_900, "{} slices", residents(&cache));
    for (slice, _) in cache.resident() {
        let first = 1000 * slice.key().index;
        assert_eq!([0, 1, 511].map(|place| slice.entry(place)), [first, first + 1, first + 511]);
        assert!(slice.is_packed());
    }
    cache.validate();
}

#[test]
fn a_budget_holds_twice_as_many_that_name_clusters() {
    let cache = room_for_wide(100);
    fill(&cache, 1000, narrow_bytes);
    assert_eq!(residents(&cache), 200);
    for (slice, _) in cache.resident() {
        let first = 1000 * slice.key().index;
        assert_eq!(
            [0, 1, 511].map(|place| slice.entry(place)),
            [0, 1, 511 * 511].map(|more| (first + more) << 16)
        );
        assert!(slice.is_packed());
    }
    cache.validate();
}

/// As they may be in a file that is not sound, or is larger than 8 TiB.
#[test]
fn entries_that_are_not_narrow_take_two_frames() {
    let any = |first| {
        even_bytes(first).into_iter().enumerate().map(|(at, byte)| byte ^ (at * at) as u8).collect::<Vec<_>>()
    };
    let cache = room_for_wide(10);
    for index in 0..100 {
        let slice = load(&cache, l2(index)).commit(FileOffset(0), &any(index));
        assert!(!slice.is_packed());
        let seen: Vec<u8> = (0..slice.len()).flat_map(|place| slice.entry(place).to_le_bytes()).collect();
        assert_eq!(seen, any(index));
        drop(slice);
        cache.validate();
    }
    assert_eq!(residents(&cache), 10);
}

#[test]
fn slices_of_a_few_runs_are_kept_whole_and_give_their_lines_back() {
    let runs = |count: u64, first: u64| -> Vec<u8> {
        (0..512)
            .flat_map(|place| (first + (place * count / 512).pow(3) * 1000 + place).to_le_bytes())
            .collect()
    };
    let cache = room_for_wide(20);
    for index in 0..4_000 {
        let bytes = runs(1 + index % 16, index);
        let slice = load(&cache, l2(index)).commit(FileOffset(0), &bytes);
        let seen: Vec<u8> = (0..slice.len()).flat_map(|place| slice.entry(place).to_le_bytes()).collect();
        assert_eq!(seen, bytes);
    }
    assert!(residents(&cache) > 180, "{} slices", residents(&cache));
    cache.validate();
    // All that they had is there for others.
    fill(&cache, 100, narrow_bytes);
    assert!(residents(&cache).abs_diff(40) <= 1, "{} slices", residents(&cache));
    cache.validate();
}

#[test]
fn lists_of_the_directory_stay_short() {
    for stride in [1, 4001] {
        let cache = TableCache::new(&SlicePool::with_slices_of(SLICE_BYTES as usize, 12_800 << 10));
        for index in 0..130_000 {
            load(&cache, l2(stride * index)).commit(FileOffset(0), &even_bytes(index));
        }
        assert!(residents(&cache) > 100_000, "{} slices", residents(&cache));
        let longest = cache.pool.directory.lengths(&cache.pool.arena).max().unwrap_or_default();
        assert!(longest <= 16, "{longest} slices, {stride} apart, in one list");
    }
}

#[test]
fn who_unpacks_one_has_others_make_room_for_it() {
    for bytes in [even_bytes as fn(u64) -> Vec<u8>, narrow_bytes] {
        let cache = room_for_wide(20);
        fill(&cache, 1000, bytes);
        let held: Vec<_> = (990..1000).map(|index| cache.pin(l2(index)).expect("it has just come")).collect();
        for slice in &held {
            let before = slice.copy(0..512);
            let there = residents(&cache);
            cache.unpack(slice);
            assert!(!slice.is_packed() && cache.pool.bytes() <= cache.pool.budget);
            assert!(residents(&cache) < there, "others went");
            assert_eq!(slice.copy(0..512), before);
            cache.validate();
        }
        assert_eq!(cache.stats().evictions, 1000 - residents(&cache) as u64);
        let unpacked = cache.pool.bytes();
        cache.unpack(&held[0]);
        assert_eq!(unpacked, cache.pool.bytes(), "once unpacked there is nothing to do");
    }
}

#[test]
fn an_update_is_seen_beside_what_was_there() {
    for (bytes, entry) in [
        (even_bytes as fn(u64) -> Vec<u8>, (|place| 3000 + place) as fn(u64) -> u64),
        (narrow_bytes, |place| (3000 + place * place) << 16),
    ] {
        let cache = room_for_wide(10);
        let slice = load(&cache, l2(3)).commit(FileOffset(0), &bytes(3000));
        cache.unpack(&slice);
        // In either frame.
        for start in [7, 400] {
            let run = EntryRun { start, count: 2, first: 5, stride: 5 };
            slice.promise(run, Promise { after: FlushNumber::NONE, bytes: 0 });
        }
        let mut wanted: Vec<_> = (0..512).map(entry).collect();
        assert_eq!(slice.in_file(0..512), wanted);
        wanted[7..9].copy_from_slice(&[5, 10]);
        wanted[400..402].copy_from_slice(&[5, 10]);
        let seen =
            cache.find(l2(3), |slice| (0..slice.len()).map(|place| slice.entry(place)).collect::<Vec<_>>());
        assert_eq!(seen, Some(wanted));
    }
}

#[test]
#[should_panic(expected = "who updates a slice has it unpacked")]
fn a_packed_slice_is_not_updated() {
    let cache = room_for_wide(2);
    let slice = load(&cache, l2(0)).commit(FileOffset(0), &narrow_bytes(0));
    slice.publish(&EntryRun { start: 0, count: 1, first: 1, stride: 0 });
}

#[test]
fn of_many_who_unpack_a_slice_one_is_counted() {
    for bytes in [even_bytes as fn(u64) -> Vec<u8>, narrow_bytes] {
        let cache = room_for_wide(100);
        fill(&cache, 50, bytes);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for index in 0..50 {
                        let slice = cache.pin(l2(index)).expect("all fit");
                        let before = slice.entry(0);
                        cache.unpack(&slice);
                        assert_eq!(slice.entry(0), before);
                    }
                });
            }
        });
        cache.validate();
        let bytes = cache.pool.bytes_with(&cache.pool.lock(), 0, 0, 0);
        let wide = room_for_wide(50).pool.budget;
        assert!(bytes.abs_diff(wide) < wide / 20, "{bytes} bytes, and 50 wide slices have {wide}");
    }
}
