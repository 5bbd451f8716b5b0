//! Points 1, 3 and 7 where slices are packed: many fit, and who changes one has it unpacked.

use std::thread;

use super::*;
use crate::cache::{EntryRun, Promise};
use crate::units::FlushNumber;

/// Bytes of a slice whose entries rise evenly.
fn even_bytes(first: u64) -> Vec<u8> {
    (0..SLICE_BYTES / 8).flat_map(|place| (first + place).to_le_bytes()).collect()
}

fn even(index: u64) -> Slice {
    Slice::new(l2(index), FileOffset(0), &even_bytes(1000 * index))
}

/// What takes as much memory unpacked.
fn scattered() -> usize {
    Slice::new(l2(0), FileOffset(0), &scattered_bytes()).bytes()
}

/// A cache of so many bytes for slices.
fn room_of(bytes: usize) -> TableCache {
    let mut pool = SlicePool::with_budget(bytes);
    pool.budget = pool.bytes() + size_of::<TableCache>() + bytes;
    TableCache::new(&Arc::new(pool))
}

/// Makes slices resident, as many as are given.
fn fill(cache: &TableCache, slices: u64) {
    for index in 0..slices {
        load(cache, l2(index)).commit(FileOffset(0), &even_bytes(1000 * index));
    }
}

#[test]
fn a_budget_holds_many_times_as_many() {
    let cache = room_of(10 * scattered());
    fill(&cache, 1000);
    assert_eq!(residents(&cache), 10 * scattered() / even(0).bytes());
    assert!(residents(&cache) > 150);
    for slice in cache.resident() {
        let first = 1000 * slice.key().index;
        assert_eq!([0, 1, 511].map(|place| slice.entry(place)), [first, first + 1, first + 511]);
        assert!(slice.is_packed());
    }
    cache.validate();
}

#[test]
fn lists_of_the_directory_stay_short() {
    for stride in [1, 4001] {
        let cache = TableCache::new(&SlicePool::new(12_800 << 10));
        for index in 0..60_000 {
            load(&cache, l2(stride * index)).commit(FileOffset(0), &even_bytes(index));
        }
        assert!(residents(&cache) > 48_000);
        let longest = cache.pool.directory.longest_list();
        assert!(longest <= 10, "{longest} slices, {stride} apart, in one list");
    }
}

#[test]
fn who_unpacks_one_has_others_make_room_for_it() {
    let room = 10 * scattered();
    let cache = room_of(room);
    fill(&cache, 1000);
    let packed = cache.pool.bytes();
    let held: Vec<_> = (990..1000).map(|index| cache.pin(l2(index)).expect("it has just come")).collect();
    let before = residents(&cache);
    for (unpacked, slice) in (1..).zip(&held[..4]) {
        cache.unpack(slice);
        assert!(!slice.is_packed() && !slice.is_evicted());
        assert!(cache.pool.bytes() <= cache.pool.budget);
        let went = before - residents(&cache);
        let each = even(0).bytes();
        assert!(
            (went * each).abs_diff(unpacked * SLICE_BYTES as usize) < each + 16 * unpacked,
            "{went} went"
        );
        assert_eq!(slice.entry(511), 1000 * slice.key().index + 511);
        cache.validate();
    }
    assert_eq!(cache.stats().evictions, 1000 - residents(&cache) as u64);
    cache.unpack(&held[0]);
    assert_eq!(packed / 4096, cache.pool.bytes() / 4096, "once unpacked there is nothing to do");
}

#[test]
fn an_update_is_seen_beside_what_the_runs_said() {
    let cache = room_of(10 * scattered());
    let slice = load(&cache, l2(3)).commit(FileOffset(0), &even_bytes(3000));
    let entries = |slice: &Slice| -> Vec<u64> { (0..slice.len()).map(|place| slice.entry(place)).collect() };
    cache.unpack(&slice);
    slice.promise(
        EntryRun { start: 7, count: 2, first: 5, stride: 5 },
        Promise { after: FlushNumber::NONE, bytes: 0 },
    );
    let mut wanted: Vec<_> = (3000..3512).collect();
    assert_eq!(slice.in_file(0..512), wanted);
    wanted[7..9].copy_from_slice(&[5, 10]);
    assert_eq!(cache.find(l2(3), entries), Some(wanted));
}

#[test]
#[should_panic(expected = "who updates a slice has it unpacked")]
fn a_packed_slice_is_not_updated() {
    let cache = room_of(scattered());
    let slice = load(&cache, l2(0)).commit(FileOffset(0), &even_bytes(0));
    slice.publish(&EntryRun { start: 0, count: 1, first: 1, stride: 0 });
}

#[test]
fn of_many_who_unpack_a_slice_one_is_counted() {
    let cache = room_of(100 * scattered());
    fill(&cache, 50);
    let before = cache.pool.bytes();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in 0..50 {
                    let slice = cache.pin(l2(index)).expect("all fit");
                    cache.unpack(&slice);
                    assert_eq!(slice.entry(9), 1000 * index + 9);
                }
            });
        }
    });
    cache.validate();
    let more = (cache.pool.bytes() - before) / 50;
    assert!((SLICE_BYTES as usize..SLICE_BYTES as usize + 64).contains(&more), "{more} bytes each");
}
