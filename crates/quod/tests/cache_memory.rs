//! What the table cache costs in memory, counted by an allocator that counts: nothing for a hit, and for the rest what
//! the cache says (`docs/spec/table-cache.md`, points 1 and 2).

use std::mem;
use std::path::Path;
use std::sync::Arc;

use allocation_counter::measure;
use quod::cache::{Begin, Pinned, SliceKey, SlicePool, TableCache, TableLevel};
use quod::storage::{Access, Buffer, MemoryOpener};
use quod::units::FileOffset;
use quod::{BackingPolicy, CreateOptions, Format, Fua, Image, NewBacking, OpenOptions, block_on};

const SLICES: u64 = 1_000;

fn key(index: u64) -> SliceKey {
    SliceKey { level: TableLevel::L2, index }
}

fn cache_of(budget: usize) -> (Arc<SlicePool>, TableCache) {
    let pool = SlicePool::new(budget);
    let cache = TableCache::new(&pool);
    (pool, cache)
}

/// How a slice's entries lie: all in a row, in a few pieces, no two of them together; and then in no place of a file.
const RUNS: [u64; 4] = [1, 16, 512, ODD];
const ODD: u64 = 513;

fn entry(runs: u64, place: u64) -> u64 {
    let run = place * runs.min(512) / 512;
    let entry = (run * run * 1000 + place) << 16;
    if runs == ODD { entry | 2 } else { entry }
}

fn bytes(runs: u64) -> Vec<u8> {
    (0..512).flat_map(|place| entry(runs, place).to_le_bytes()).collect()
}

fn read_in(cache: &TableCache, index: u64, runs: u64) -> Pinned {
    let Begin::Load(load) = cache.begin_load(key(index)) else { panic!("{index} is here") };
    load.commit(FileOffset(0), &bytes(runs))
}

#[test]
fn a_hit_allocates_nothing() {
    for runs in RUNS {
        let (_pool, cache) = cache_of(8 << 20);
        (0..SLICES).for_each(|index| drop(read_in(&cache, index, runs)));
        // A thread's first look-up makes its own state.
        assert!(cache.find(key(0), |_| ()).is_some());
        let there = entry(runs, 477);
        let counted = measure(|| {
            for index in 0..SLICES {
                assert_eq!(cache.find(key(index), |slice| slice.entry(477)), Some(there));
                assert!(cache.pin(key(index)).is_some_and(|pinned| pinned.clone().entry(477) == there));
            }
        });
        assert_eq!(counted.count_total, 0);
    }
}

#[test]
fn a_miss_takes_the_memory_of_the_slice_that_goes() {
    for (runs, slices) in [(1, 20 * SLICES), (512, SLICES)] {
        let (_pool, cache) = cache_of(1 << 20);
        let bytes = bytes(runs);
        let load = |index| {
            let Begin::Load(load) = cache.begin_load(key(index)) else { panic!("{index} is here") };
            drop(load.commit(FileOffset(0), &bytes));
        };
        (0..slices).for_each(load);
        let counted = measure(|| (slices..2 * slices).for_each(load));
        // The memory of the keys that went may grow, once.
        assert!(counted.count_total <= 1, "{runs}: {} allocations", counted.count_total);
        assert!(cache.stats().evictions > slices);
    }
}

/// Whatever a run is: data of the image, of the one below, zeroes.
#[test]
fn a_read_that_finds_all_in_memory_allocates_nothing() {
    let opener = MemoryOpener::new();
    let (below, name) = (Path::new("below.qed"), Path::new("disk.qed"));
    let create = CreateOptions::new(1 << 30);
    block_on(Image::create(&opener, below, &create)).expect("an image");
    let options = OpenOptions { backing: BackingPolicy::Local, ..OpenOptions::new(Access::Write) };
    let image = block_on(Image::open(&opener, below, &options)).expect("it opens");
    block_on(image.write(0, Buffer::copy_of(&[1; 1 << 20]), Fua::No)).expect("a write");
    block_on(image.close()).expect("it closes");
    let backing = Some(NewBacking { name: below.into(), format: Format::Qed });
    block_on(Image::create(&opener, name, &CreateOptions { backing, ..create })).expect("an image");
    let image = block_on(Image::open(&opener, name, &options)).expect("it opens");
    block_on(image.write(1 << 19, Buffer::copy_of(&[2; 4096]), Fua::No)).expect("a write");
    let places = [0, (1 << 19) - 4096, (1 << 20) - 4096, 512 << 20];
    let read = |buffer, at| block_on(image.read(at, buffer)).expect("a read");
    // The first time, slices are loaded.
    let mut buffer = places.into_iter().fold(Buffer::zeroed(256 << 10), read);
    let counted =
        measure(|| buffer = places.into_iter().fold(mem::replace(&mut buffer, Buffer::zeroed(0)), read));
    // The buffer that stands in for it meanwhile is two.
    assert_eq!(counted.count_total, 2);
}

/// Bytes that are held and counted by a cache of 8 MiB once `fill` has filled it.
fn held_and_counted(fill: impl FnOnce(&Arc<SlicePool>, &TableCache)) -> (u64, u64) {
    let mut cache = None;
    let held = measure(|| {
        let made = cache_of(8 << 20);
        fill(&made.0, &made.1);
        cache = Some(made);
    });
    let counted = cache.map_or(0, |(pool, _cache)| pool.bytes() as u64);
    assert!(counted <= 8 << 20);
    (held.bytes_current as u64 + size_of::<TableCache>() as u64, counted)
}

/// Memory for slices is taken a hundredth of the budget at a time, and what more of them had once stays.
const AT_A_TIME: u64 = (8 << 20) / 40;

#[test]
fn the_bytes_counted_are_the_bytes_held() {
    for (runs, slices) in
        RUNS.into_iter().flat_map(|runs| [10, SLICES, 30 * SLICES].map(|slices| (runs, slices)))
    {
        for unpack in [false, true] {
            let (held, counted) = held_and_counted(|_, cache| {
                (0..slices).for_each(|index| drop(read_in(cache, index, runs)));
                if unpack {
                    let some = (0..slices).step_by(3).filter_map(|index| cache.pin(key(index)));
                    some.for_each(|slice| cache.unpack(&slice));
                }
            });
            // What the queues of the policy may take is counted.
            let told = format!("{slices}, {runs}, {unpack}: {counted} counted, {held} held");
            assert!(held <= counted + AT_A_TIME && counted < held * 5 / 4, "{told}");
        }
    }
}

/// Memory that slices had is for those that come, of whatever kind, and of whatever image.
#[test]
fn memory_that_is_taken_once_serves_again() {
    for kinds in [[1, 512], [512, 1], [1, ODD], [16, 512], [512, 16]] {
        let (held, counted) = held_and_counted(|pool, cache| {
            for (which, runs) in (0..).zip(kinds.into_iter().cycle().take(4)) {
                let other = TableCache::new(pool);
                let slices = || which * 100 * SLICES..(which * 100 + 20) * SLICES;
                slices().for_each(|index| drop(read_in(cache, index, runs)));
                slices().for_each(|index| drop(read_in(&other, index, runs)));
            }
        });
        assert!(held < (8 << 20) * 5 / 4, "{kinds:?}: {counted} counted, {held} held");
    }
}

#[test]
fn an_image_that_is_closed_leaves_nothing_behind() {
    let held = measure(|| {
        let (_pool, cache) = cache_of(1 << 20);
        (0..SLICES).for_each(|index| drop(read_in(&cache, index, 1)));
        let slice = cache.pin(key(SLICES - 1)).expect("it is here");
        cache.unpack(&slice);
    });
    // But for what the thread keeps for all its caches.
    assert!(held.bytes_current < 4096, "{} bytes", held.bytes_current);
}
