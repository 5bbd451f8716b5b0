//! The pieces of the table cache, each in every interleaving: pins, readers, lists, loads.

use super::super::arena::Line;
use super::super::entries::fill;
use super::super::shelf::Shelf;
use super::super::{Begin, BeginRead, EntryRun, Pinned, SliceKey, TableCache};
use super::{WIDE, bytes, l2, one_slice, room_for};
use crate::models::kernels::{begin_and_drop, block_on, explore, explore_within, side_by_side};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::units::FileOffset;

/// Keys that share a slot of the smallest directory.
const TOGETHER: [u64; 4] = [0, 17, 34, 51];

fn run(value: u64) -> EntryRun {
    EntryRun { start: 0, count: 1, first: value, stride: 0 }
}

#[test]
fn a_slice_that_is_pinned_is_not_evicted() {
    explore_within(Some(3), || {
        let (cache, pinned) = one_slice(1);
        drop(pinned);
        let pin: fn(&TableCache) = |cache| {
            if let Some(pinned) = cache.pin(l2(0)) {
                let again = pinned.clone();
                drop(pinned);
                assert_eq!(again.entry(0), WIDE);
                assert!(cache.peek(l2(0), |_| ()).is_some() || cache.pin(l2(0)).is_some(), "it stays");
            }
        };
        let evict: fn(&TableCache) = |cache| drop(cache.begin_load(l2(1)));
        side_by_side(cache, &[pin, evict, pin]).validate();
    });
}

#[test]
fn a_reader_of_an_entry_sees_what_was_done_before_it_was_published() {
    explore(|| {
        let (cache, pinned) = one_slice(2);
        side_by_side(
            (cache, pinned, AtomicU64::new(0)),
            &[
                |(_, pinned, data)| {
                    data.store(7, Ordering::Relaxed);
                    pinned.publish(&EntryRun { start: 0, count: 2, first: 1, stride: 0 });
                },
                |(cache, _, data)| {
                    let seen = cache.peek(l2(0), |slice| [1, 0].map(|place| slice.entry(place)));
                    if let Some([1, first]) = seen {
                        assert_eq!((first, data.load(Ordering::Relaxed)), (1, 7));
                    }
                },
            ],
        );
    });
}

/// A frame goes from one slice to the next while a reader looks at the first.
#[test]
fn a_reader_that_comes_late_has_seen_nothing() {
    explore_within(Some(3), || {
        let (cache, pinned) = one_slice(2);
        drop(pinned);
        let look: fn(&TableCache) = |cache| {
            let seen = cache.peek(l2(0), |slice| [0, 1].map(|place| slice.entry(place)));
            assert!(seen.is_none_or(|seen| seen == [WIDE; 2] || seen == [WIDE + 6; 2]), "{seen:?}");
        };
        let change: fn(&TableCache) = |cache| {
            drop(cache.commit(l2(1), FileOffset(0), &bytes(2, WIDE + 3)));
            drop(cache.commit(l2(0), FileOffset(0), &bytes(2, WIDE + 6)));
        };
        side_by_side(cache, &[look, change]).validate();
    });
}

/// A slice that is packed, and data of updates of its first entry and its last.
type Unpacked = (TableCache, Pinned, [AtomicU64; 2]);

/// What the entries are, which can be kept narrow.
const BEFORE: u64 = 1;

fn update((cache, slice, data): &Unpacked, which: usize) {
    data[which].store(7, Ordering::Relaxed);
    cache.unpack(slice);
    slice.publish(&EntryRun { start: which, count: 1, first: 9, stride: 0 });
    assert_eq!(slice.entry(which), 9);
}

#[test]
fn who_looks_while_a_slice_is_unpacked_sees_what_it_was_or_what_was_published() {
    fn check(world: &Unpacked, entry: u64) {
        assert!(entry == BEFORE || (entry, world.2[0].load(Ordering::Relaxed)) == (9, 7));
    }
    let by_the_cache: fn(&Unpacked) = |world| {
        world.0.peek(l2(0), |slice| slice.entry(0)).into_iter().for_each(|entry| check(world, entry));
    };
    let by_a_pin: fn(&Unpacked) = |world| check(world, world.1.entry(0));
    for look in [by_the_cache, by_a_pin] {
        explore_within(Some(3), move || {
            let cache = room_for(2);
            let slice = cache.commit(l2(0), FileOffset(0), &bytes(2, BEFORE));
            assert!(slice.is_packed());
            let data = [AtomicU64::new(0), AtomicU64::new(0)];
            let world = side_by_side((cache, slice, data), &[|it| update(it, 0), look]);
            assert_eq!([0, 1].map(|place| world.1.entry(place)), [9, BEFORE]);
            world.0.validate();
        });
    }
}

#[test]
fn of_two_who_unpack_a_slice_each_finds_it_so() {
    explore_within(Some(3), || {
        let cache = room_for(2);
        let slice = cache.commit(l2(0), FileOffset(0), &bytes(2, BEFORE));
        let data = [AtomicU64::new(0), AtomicU64::new(0)];
        let world = side_by_side((cache, slice, data), &[|it| update(it, 0), |it| update(it, 1)]);
        assert_eq!([0, 1].map(|place| world.1.entry(place)), [9, 9]);
        world.0.validate();
    });
}

/// The last of `TOGETHER` that is in comes first: they share one list.
fn shelf_with(frame_words: usize, slices: usize) -> Shelf {
    let shelf = Shelf::new(frame_words, 4);
    TOGETHER[..slices].iter().for_each(|index| shelf.insert(l2(*index)));
    assert_eq!(shelf.directory.lengths(&shelf.arena).max(), Some(slices), "keys that share a slot");
    shelf
}

/// Whether one of them is found; never another.
fn is_found(shelf: &Shelf, which: usize) -> bool {
    let entry = shelf.find(l2(TOGETHER[which]));
    assert!(entry.is_none_or(|entry| entry == TOGETHER[which]), "the slice of the key");
    entry.is_some()
}

#[test]
fn a_slice_is_found_or_not_and_never_another_while_lines_go_from_one_to_the_next() {
    explore_within(Some(3), || {
        let look: fn(&Shelf) = |shelf| {
            for which in 0..4 {
                is_found(shelf, which);
            }
        };
        let change: fn(&Shelf) = |shelf| {
            shelf.remove(l2(TOGETHER[1]));
            shelf.insert(l2(TOGETHER[3]));
            shelf.insert(l2(TOGETHER[1]));
        };
        let shelf = side_by_side(shelf_with(64, 3), &[change, look]);
        assert!((0..4).all(|which| is_found(&shelf, which)));
    });
}

/// A frame of lines is one of entries for a while, which say what the line said that a reader looks for; and holds lines again.
#[test]
fn entries_are_never_taken_for_a_slice() {
    never_taken_for_a_slice(3, |shelf| TOGETHER[..2].iter().for_each(|index| shelf.remove(l2(*index))));
}

/// As the one before, where the line has been that of another slice in between.
#[test]
fn nor_are_they_where_the_line_was_anothers() {
    never_taken_for_a_slice(1, |shelf| {
        shelf.remove(l2(TOGETHER[1]));
        shelf.insert(l2(TOGETHER[2]));
        [0, 2].iter().for_each(|which| shelf.remove(l2(TOGETHER[*which])));
    });
}

/// With so many preemptions at most; `empty` removes all slices.
fn never_taken_for_a_slice(preemptions: usize, empty: fn(&Shelf)) {
    explore_within(Some(preemptions), move || {
        let look: fn(&(Shelf, fn(&Shelf))) = |(shelf, _)| {
            is_found(shelf, 1);
        };
        let change: fn(&(Shelf, fn(&Shelf))) = |(shelf, empty)| {
            empty(shelf);
            let (ledger, _) = &mut *shelf.structure.lock().unwrap();
            let frame = ledger.take_frame(&shelf.arena);
            // Lives that were led, of the image, with the numbers that are looked for, and one entry, which is wrong.
            let forged = |which: usize| [1 + which as u64, 0, 0, TOGETHER[which], 0, 1 << 2, 99, 0];
            fill(shelf.arena.frame(frame), forged(0).into_iter().chain(forged(1)));
            ledger.give_frame(frame);
            for _ in 0..2 {
                ledger.take_line(&shelf.arena);
            }
        };
        // Two lines to a frame: both are in one, which is given back, since another has one that is free.
        let shelf = shelf_with(16, 2);
        let third = shelf.structure.lock().unwrap().0.take_line(&shelf.arena);
        assert_eq!(third, Line(2), "in the second frame");
        let world = side_by_side((shelf, empty), &[change, look]);
        assert_eq!(world.0.structure.lock().unwrap().0.used(), 2, "it holds lines again");
    });
}

struct Cached {
    cache: TableCache,
    /// Loads under way, and loads so far.
    loading: AtomicUsize,
    loads: AtomicUsize,
}

impl Cached {
    fn new(slices: usize) -> Self {
        let (loading, loads) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Cached { cache: room_for(slices), loading, loads }
    }

    fn get(&self, key: SliceKey) -> Pinned {
        loop {
            match self.cache.begin_load(key) {
                Begin::Resident(pinned) => return pinned,
                Begin::Wait(loaded) => block_on(loaded),
                Begin::Load(load) => {
                    assert_eq!(self.loading.fetch_add(1, Ordering::Relaxed), 0, "one loads");
                    self.loads.fetch_add(1, Ordering::Relaxed);
                    self.loading.fetch_sub(1, Ordering::Relaxed);
                    return load.commit(FileOffset(0), &bytes(1, 100 + key.index));
                }
            }
        }
    }
}

#[test]
fn one_loads_for_all_who_miss_and_nobody_waits_for_ever() {
    explore(|| {
        let get: fn(&Cached) = |cached| assert_eq!(cached.get(l2(0)).entry(0), 100);
        let cached = side_by_side(Cached::new(2), &[get, get]);
        assert_eq!(cached.loads.load(Ordering::Relaxed), 1);
        cached.cache.validate();
    });
}

#[test]
fn a_load_that_is_dropped_lets_another_try() {
    explore(|| {
        let cached = side_by_side(
            Cached::new(2),
            &[
                |cached| drop(cached.cache.begin_load(l2(0))),
                |cached| assert_eq!(cached.get(l2(0)).entry(0), 100),
            ],
        );
        assert_eq!(cached.cache.loads(), 0);
    });
}

#[test]
fn a_wait_for_a_load_that_is_dropped_costs_nobody_else_the_slice() {
    explore_within(Some(4), || {
        side_by_side(
            Cached::new(2),
            &[
                |cached| drop(cached.get(l2(0))),
                |cached| match cached.cache.begin_load(l2(0)) {
                    Begin::Wait(loaded) => drop(begin_and_drop(loaded)),
                    Begin::Resident(_) | Begin::Load(_) => {}
                },
                |cached| assert_eq!(cached.get(l2(0)).entry(0), 100),
            ],
        );
    });
}

/// A cache in which no slice comes in that is only read, and the file's entry, which is written in two steps.
type PastTheCache = (Cached, [AtomicU64; 2]);

#[test]
fn who_reads_past_the_cache_sees_no_half_of_an_update() {
    explore_within(Some(3), || {
        let cached = Cached::new(1);
        drop(cached.cache.commit(l2(1), FileOffset(0), &bytes(1, WIDE)));
        cached.cache.bypass_from_now();
        let update: fn(&PastTheCache) = |(cached, file)| {
            let slice = cached.get(l2(0));
            file.iter().for_each(|half| half.store(7, Ordering::Relaxed));
            slice.publish(&run(7));
        };
        let read: fn(&PastTheCache) = |(cached, file)| match cached.cache.begin_read(l2(0)) {
            BeginRead::Bypass(bypass) => {
                let [one, other] = [0, 1].map(|half| file[half].load(Ordering::Relaxed));
                assert_eq!(one, other, "half of an update");
                assert!(bypass.end().is_ok(), "nobody loads it meanwhile");
            }
            BeginRead::Resident(slice) => assert!(slice.entry(0) == 100 || slice.entry(0) == 7),
            BeginRead::Busy => {}
            BeginRead::Load(_) => panic!("it comes in"),
        };
        let world = side_by_side((cached, [0, 0].map(AtomicU64::new)), &[update, read]);
        let cached = &world.0;
        assert_eq!((cached.loads.load(Ordering::Relaxed), cached.cache.loads()), (1, 0));
        cached.cache.validate();
    });
}

#[test]
fn the_first_commit_wins_by_whatever_road_it_came() {
    explore(|| {
        let shared = side_by_side(
            (Cached::new(2), Mutex::new(Vec::new())),
            &[
                |(cached, kept)| {
                    let pinned = cached.get(l2(0));
                    kept.lock().unwrap().push(pinned);
                },
                |(cached, kept)| {
                    let pinned = cached.cache.commit(l2(0), FileOffset(0), &bytes(1, 200));
                    kept.lock().unwrap().push(pinned);
                },
            ],
        );
        shared.0.cache.validate();
        let kept: Vec<Pinned> = std::mem::take(&mut *shared.1.lock().unwrap());
        assert!(kept[0].is(&kept[1]), "one slice for all");
    });
}

#[test]
fn an_update_never_lands_on_an_evicted_copy() {
    explore(|| {
        let cached = Cached::new(1);
        drop(cached.get(l2(0)));
        let shared = side_by_side(
            (cached, AtomicU64::new(100)),
            &[
                |(cached, in_file)| {
                    // As `commit.rs` does it: pin, write, publish.
                    let Some(pinned) = cached.cache.pin(l2(0)) else { return };
                    in_file.store(200, Ordering::Relaxed);
                    pinned.publish(&run(200));
                },
                |(cached, _)| drop(cached.get(l2(1))),
            ],
        );
        let resident = shared.0.cache.find(l2(0), |slice| slice.entry(0));
        assert!(resident.is_none_or(|entry| entry == shared.1.load(Ordering::Relaxed)));
        let other = shared.0.cache.find(l2(1), |slice| slice.entry(0));
        assert!(other.is_none_or(|entry| entry == 101), "an update of another slice");
        shared.0.cache.validate();
    });
}
