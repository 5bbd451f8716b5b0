//! The whole table cache in very many schedules: threads that find, pin, load, give a load up, commit by another road, and
//! update under a pin, within a budget that makes slices go all the time.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::super::{Begin, BeginRead, EntryRun, Pinned, SliceKey, TableCache};
use super::{bytes, l2, room_for};
use crate::models::schedules::explore;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::units::FileOffset;

const KEYS: u64 = 5;
const ENTRIES: usize = 2;

/// The file below the cache. The value of a slice's entries, modulo `KEYS`, says whose they are; it only grows.
struct File {
    entries: Vec<AtomicU64>,
    loading: Vec<AtomicBool>,
}

struct World {
    cache: TableCache,
    file: File,
}

impl World {
    fn new(slices: usize) -> Self {
        let entries = (0..KEYS).map(AtomicU64::new).collect();
        let loading = (0..KEYS).map(|_| AtomicBool::new(false)).collect();
        World { cache: room_for(slices), file: File { entries, loading } }
    }

    fn in_file(&self, key: SliceKey) -> u64 {
        self.file.entries[key.index as usize].load(Ordering::Acquire)
    }

    fn get(&self, key: SliceKey) -> Pinned {
        loop {
            match self.cache.begin_load(key) {
                Begin::Resident(pinned) => return pinned,
                Begin::Wait(loaded) => block_on(loaded),
                Begin::Load(load) => {
                    return load.commit(FileOffset(0), &bytes(ENTRIES, self.read_alone(key)));
                }
            }
        }
    }

    /// What the file has of a slice that nobody else reads.
    fn read_alone(&self, key: SliceKey) -> u64 {
        let loading = &self.file.loading[key.index as usize];
        assert!(!loading.swap(true, Ordering::AcqRel), "two read {key:?}");
        let read = self.in_file(key);
        thread::yield_now();
        loading.store(false, Ordering::Release);
        read
    }

    /// As one who does not wait.
    fn read(&self, key: SliceKey) {
        let before = self.in_file(key);
        if thread_rng().gen_bool(0.5) {
            self.cache.bypass_from_now();
        }
        let seen = match self.cache.begin_read(key) {
            BeginRead::Resident(slice) => slice.entry(0),
            BeginRead::Busy => return,
            BeginRead::Load(load) => {
                let read = self.read_alone(key);
                load.commit(FileOffset(0), &bytes(ENTRIES, read));
                read
            }
            BeginRead::Bypass(bypass) => {
                let read = self.read_alone(key);
                assert_eq!(read, self.in_file(key), "{key:?} was updated while it was read");
                assert!(bypass.end().is_ok(), "no other road leads to {key:?}");
                read
            }
        };
        assert!(seen % KEYS == key.index, "{key:?} shows {seen}");
        // Entries that are on their way out are seen when they are in the file.
        assert!(seen + KEYS >= before, "{key:?} shows {seen}, the file had {before}");
    }

    /// As `commit.rs` does: under the slice's turn the file has it first, then it is published.
    fn update(&self, pinned: &Pinned) {
        self.cache.unpack(pinned);
        let turn = block_on(pinned.take_turn());
        let before = pinned.entry(0);
        let key = pinned.key();
        assert_eq!(before, self.in_file(key), "the slice that is updated is the one of its key");
        self.file.entries[key.index as usize].store(before + KEYS, Ordering::Release);
        pinned.publish(&EntryRun { start: 0, count: ENTRIES, first: before + KEYS, stride: 0 });
        drop(turn);
    }

    /// What is seen under a pin is never behind what the file had before.
    fn look(&self, key: SliceKey) {
        let before = self.in_file(key);
        let pinned = self.get(key);
        let turn = block_on(pinned.take_turn());
        let seen = pinned.entry(ENTRIES - 1);
        assert!(seen % KEYS == key.index && seen >= before, "{key:?} shows {seen}, the file had {before}");
        drop(turn);
    }

    /// Commits what was read without a load, as the first slice of a new table is: only where no other can be newer.
    fn commit_by_another_road(&self, key: SliceKey) {
        let pinned = self.cache.commit(key, FileOffset(0), &bytes(ENTRIES, self.in_file(key)));
        assert_eq!(pinned.entry(0) % KEYS, key.index);
    }

    fn act(&self, own: u64, kept: &mut Vec<Pinned>) {
        let key = l2(thread_rng().gen_range(0..KEYS - 3));
        match thread_rng().gen_range(0..13) {
            0..2 => {
                let seen = self.cache.find(key, |slice| (slice.key(), slice.entry(0) % KEYS));
                assert!(seen.is_none_or(|seen| seen == (key, key.index)));
            }
            2 => self.look(key),
            3..6 => self.update(&self.get(key)),
            6 => kept.push(self.get(key)),
            7 => kept.clear(),
            // A load that is given up.
            8 => drop(self.cache.begin_load(key)),
            9 => self.cache.validate(),
            10..12 => self.read(key),
            // Keys that only this thread touches, so that what it read is the newest.
            _ => self.commit_by_another_road(l2(KEYS - 1 - own)),
        }
    }
}

#[test]
fn threads_that_do_everything_at_once_never_see_a_wrong_or_stale_slice() {
    explore(|| {
        let world = Arc::new(World::new(thread_rng().gen_range(1..4)));
        let threads: Vec<_> = (0..3)
            .map(|own| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    let mut kept = Vec::new();
                    for _ in 0..4 {
                        world.act(own, &mut kept);
                    }
                })
            })
            .collect();
        world.cache.validate();
        threads.into_iter().for_each(|thread| thread.join().expect("a thread that ends"));
        world.cache.validate();
        assert_eq!((pinned(&world.cache), world.cache.loads()), (0, 0));
        for (slice, _) in world.cache.resident() {
            assert_eq!(slice.entry(0), world.in_file(slice.key()), "{slice:?}");
        }
    });
}

#[test]
fn two_roads_to_one_slice_end_at_the_first_commit() {
    explore(|| {
        let world = Arc::new(World::new(2));
        let loaded = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.get(l2(0)))
        };
        let linked = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let pinned = world.cache.commit(l2(0), FileOffset(0), &bytes(ENTRIES, world.in_file(l2(0))));
                world.update(&pinned);
                pinned
            })
        };
        let (loaded, linked) = (loaded.join().expect("it ends"), linked.join().expect("it ends"));
        assert!(loaded.is(&linked), "one slice of a key");
        assert_eq!(loaded.entry(0), world.in_file(l2(0)));
        world.cache.validate();
    });
}

/// How many slices are pinned.
fn pinned(cache: &TableCache) -> usize {
    cache.resident().iter().filter(|(_, is_pinned)| *is_pinned).count()
}
