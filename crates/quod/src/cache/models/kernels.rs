//! The pieces of the table cache, each in every interleaving: pins, lists, loads, updates.

use std::sync::Arc;

use super::super::directory::Directory;
use super::super::slot::{OwnedKey, Pinned};
use super::super::{Begin, EntryRun, Kept, Promise, Slice, SliceKey, TableCache};
use super::{bytes, l2, room_for, slice};
use crate::models::kernels::{begin_and_drop, block_on, explore, explore_within, side_by_side};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::units::{FileOffset, FlushNumber};

/// Keys that share a slot of the smallest directory.
const TOGETHER: [u64; 4] = [0, 17, 34, 51];

fn run(value: u64) -> EntryRun {
    EntryRun { start: 0, count: 1, first: value, stride: 0 }
}

#[test]
fn a_slice_that_is_pinned_is_not_evicted_and_an_evicted_one_not_pinned() {
    explore_within(Some(3), || {
        let pin: fn(&(Arc<Slice>, AtomicUsize)) = |(slice, users)| {
            if let Some(pinned) = Pinned::try_new(slice) {
                users.fetch_add(1, Ordering::Relaxed);
                let again = pinned.clone();
                drop(pinned);
                assert!(again.is_pinned() && !again.is_evicted());
                users.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let evict: fn(&(Arc<Slice>, AtomicUsize)) = |(slice, users)| {
            if slice.try_evict() {
                assert_eq!(users.load(Ordering::Relaxed), 0, "nobody uses what goes");
                assert!(Pinned::try_new(slice).is_none(), "there is no way back");
            }
        };
        let shared = (Arc::new(slice(l2(0), 1, 0)), AtomicUsize::new(0));
        side_by_side(shared, &[pin, evict, pin]);
    });
}

#[test]
fn a_reader_of_an_entry_sees_what_was_done_before_it_was_published() {
    explore(|| {
        let pinned = Pinned::fresh(Arc::new(slice(l2(0), 2, 0)));
        side_by_side(
            (pinned, AtomicU64::new(0)),
            &[
                |(pinned, data)| {
                    data.store(7, Ordering::Relaxed);
                    pinned.publish(&EntryRun { start: 0, count: 2, first: 1, stride: 0 });
                },
                |(pinned, data)| {
                    if pinned.entry(1) == 1 {
                        assert_eq!((pinned.entry(0), data.load(Ordering::Relaxed)), (1, 7));
                    }
                },
            ],
        );
    });
}

/// A slice that is packed, and data of updates of its first entry and its last.
type Unpacked = (Pinned, [AtomicU64; 2]);

/// As few entries as are packed.
const PACKED: usize = 32;

fn update((slice, data): &Unpacked, which: usize) {
    data[which].store(7, Ordering::Relaxed);
    if let Some(each) = slice.unpacked() {
        slice.unpack(each);
    }
    slice.publish(&EntryRun { start: which * (PACKED - 1), count: 1, first: 9, stride: 0 });
    assert_eq!(slice.entry(which * (PACKED - 1)), 9);
}

#[test]
fn who_looks_while_a_slice_is_unpacked_sees_what_it_was_or_what_was_published() {
    explore_within(Some(3), || {
        let slice = Pinned::fresh(Arc::new(slice(l2(0), PACKED, 3)));
        assert!(slice.is_packed());
        let look: fn(&Unpacked) = |(slice, data)| {
            for (which, data) in data.iter().enumerate() {
                let entry = slice.entry(which * (PACKED - 1));
                assert!(entry == 3 || (entry, data.load(Ordering::Relaxed)) == (9, 7));
            }
            assert_eq!(slice.entry(1), 3);
        };
        let data = [AtomicU64::new(0), AtomicU64::new(0)];
        let unpacked = side_by_side((slice, data), &[|it| update(it, 0), |it| update(it, 1), look]);
        assert_eq!([0, 1, PACKED - 1].map(|place| unpacked.0.entry(place)), [9, 3, 9]);
    });
}

fn own(key: SliceKey) -> OwnedKey {
    OwnedKey { image: 0, key }
}

/// A directory whose slices share one list: the last of `TOGETHER` that is in comes first.
fn list_of(slices: usize) -> Directory {
    let directory = Directory::new(4);
    for index in &TOGETHER[..slices] {
        directory.insert(Arc::new(slice(l2(*index), 1, *index)));
    }
    assert_eq!(directory.longest_list(), slices, "keys that share a slot");
    directory
}

fn found(directory: &Directory, which: usize) -> bool {
    let index = TOGETHER[which];
    let entry = directory.find(own(l2(index)), |slice| slice.entry(0));
    assert!(entry.is_none_or(|entry| entry == index), "the slice of the key");
    entry.is_some()
}

#[test]
fn a_slice_that_stays_is_found_while_its_neighbours_come_and_go() {
    explore(|| {
        let look: fn(&Directory) = |directory| {
            assert!(found(directory, 0), "the last of the list");
            assert!(found(directory, 2), "the first of it, and then the second");
            found(directory, 1);
            found(directory, 3);
        };
        let change: fn(&Directory) = |directory| {
            directory.remove(own(l2(TOGETHER[1])));
            directory.insert(Arc::new(slice(l2(TOGETHER[3]), 1, TOGETHER[3])));
            directory.insert(Arc::new(slice(l2(TOGETHER[1]), 1, TOGETHER[1])));
        };
        let directory = side_by_side(list_of(3), &[change, look]);
        assert!((0..4).all(|which| found(&directory, which)));
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
        Cached { cache: room_for(slices, 1), loading, loads }
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
                    let pinned = cached.cache.commit(slice(l2(0), 1, 200));
                    kept.lock().unwrap().push(pinned);
                },
            ],
        );
        shared.0.cache.validate();
        let kept: Vec<Pinned> = std::mem::take(&mut *shared.1.lock().unwrap());
        assert!(Arc::ptr_eq(kept[0].shared(), kept[1].shared()), "one slice for all");
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
        shared.0.cache.validate();
    });
}

struct Written {
    slice: Pinned,
    in_file: AtomicU64,
    writes: AtomicUsize,
}

impl Written {
    fn new() -> Self {
        let slice = Pinned::fresh(Arc::new(slice(l2(0), 2, 0)));
        Written { slice, in_file: AtomicU64::new(0), writes: AtomicUsize::new(0) }
    }

    /// As `commit.rs` does: whoever has the turn writes all that waits.
    fn update(&self, place: usize) {
        let run = EntryRun { start: place, count: 1, first: 1 + place as u64, stride: 0 };
        let mine = self.slice.enqueue(run);
        let turn = block_on(self.slice.take_turn());
        if !mine.is_settled() {
            self.write();
        }
        drop(turn);
        assert!(mine.is_settled());
        assert_eq!(self.slice.entry(place), run.first, "published");
        assert_ne!(self.in_file.load(Ordering::Relaxed) & 1 << place, 0, "and in the file before");
    }

    fn write(&self) {
        let attempt = self.slice.updates.attempt(FlushNumber::NONE);
        for run in &attempt.runs {
            let in_file = self.in_file.load(Ordering::Relaxed);
            self.in_file.store(in_file | 1 << run.start, Ordering::Relaxed);
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.slice.settle(&attempt);
    }
}

#[test]
fn what_waits_for_one_slice_goes_out_whole_and_once() {
    explore(|| {
        let written =
            side_by_side(Written::new(), &[|written| written.update(0), |written| written.update(1)]);
        assert!(written.slice.updates.is_empty() && !written.slice.updates.unsettled());
        assert!(written.writes.load(Ordering::Relaxed) <= 2);
    });
}

#[test]
fn entries_of_a_dropped_request_are_taken_back_unless_somebody_tried_to_write_them() {
    explore(|| {
        let written = side_by_side(
            Written::new(),
            &[
                |written| written.update(0),
                |written| drop(written.slice.enqueue(EntryRun { start: 1, count: 1, first: 2, stride: 0 })),
            ],
        );
        assert!(written.slice.updates.is_empty(), "either way nothing is left");
        let in_file = written.in_file.load(Ordering::Relaxed) & 2 != 0;
        assert_eq!(in_file, written.slice.entry(1) == 2, "what went out was published");
    });
}

#[test]
fn entries_that_a_failed_write_may_have_brought_to_the_file_stay() {
    explore(|| {
        let written = side_by_side(
            Written::new(),
            &[
                |written| {
                    let mine = written.slice.enqueue(EntryRun { start: 1, count: 1, first: 2, stride: 0 });
                    let turn = block_on(written.slice.take_turn());
                    if !mine.is_settled() {
                        // The write fails: nothing is published, nothing settled.
                        written.slice.updates.attempt(FlushNumber::NONE);
                    }
                    drop(turn);
                    drop(mine);
                },
                |written| written.update(0),
            ],
        );
        if written.slice.updates.unsettled() {
            assert!(written.slice.updates.may_have_brought(1, 2));
            written.write();
        }
        assert_eq!(written.slice.entry(1), 2);
        assert!(written.slice.updates.is_empty());
    });
}

#[test]
fn whoever_sees_a_promised_entry_finds_its_slice_kept() {
    explore(|| {
        let slice = Pinned::fresh(Arc::new(slice(l2(0), 2, 0)));
        side_by_side(
            (Kept::default(), slice),
            &[
                |(kept, slice)| {
                    let run = EntryRun { start: 1, count: 1, first: 7, stride: 0 };
                    kept.promise(slice, run, Promise { after: FlushNumber::NONE, bytes: 0 });
                },
                |(kept, slice)| {
                    if slice.entry(1) == 7 {
                        let is_kept = !kept.is_empty();
                        assert!(is_kept || slice.updates.is_empty(), "a batch finds it, or has found it");
                    }
                },
                |(kept, slice)| {
                    let attempt = slice.updates.attempt(FlushNumber::NONE);
                    if slice.settle(&attempt).entries > 0 {
                        kept.let_go(slice);
                        assert!(kept.is_empty() && slice.updates.is_empty(), "nothing is owed any more");
                    }
                },
            ],
        );
    });
}
