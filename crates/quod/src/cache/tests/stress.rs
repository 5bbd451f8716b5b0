//! Many threads, a small budget, every operation: no thread ever sees a wrong slice, and the structure holds throughout.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use event_listener::Listener;

use super::*;

const THREADS: u64 = 6;
const STEPS: u64 = 20_000;
const KEYS: u64 = 60;
/// Enough that some are fresh.
const ROOM: usize = 33;

/// Entries of a slice: enough for runs.
const MANY: usize = 64;

/// How a slice is kept says its key: as runs, narrow, wide. All entries of it have the value in common.
fn bytes_of(key: SliceKey, value: u64) -> Vec<u8> {
    let other = |place: u64| match key.index % 3 {
        0 => 0,
        1 => place.pow(2) % 61,
        _ => place.pow(2) % 61 * 2,
    };
    (0..MANY as u64).flat_map(|place| entry(key, value + KEYS * (other(place) << 20)).to_le_bytes()).collect()
}

fn entry(key: SliceKey, value: u64) -> u64 {
    if key.index % 3 == 1 { value << 12 } else { value << 2 | 2 }
}

/// The value that an entry has.
fn value(slice: &Slice<'_>, place: usize) -> u64 {
    let entry = slice.entry(place);
    (if slice.key().index % 3 == 1 { entry >> 12 } else { entry >> 2 }) % (KEYS << 20)
}

/// The file below the cache: what a load reads, and an update writes first. The lowest bits say whose entry it is.
struct File {
    entries: Vec<AtomicU64>,
    loads: AtomicU64,
    /// Look-ups that needed nothing of it.
    hits: AtomicU64,
}

impl File {
    fn new() -> Self {
        File {
            entries: (0..KEYS).map(AtomicU64::new).collect(),
            loads: AtomicU64::new(0),
            hits: AtomicU64::new(0),
        }
    }

    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self, key: SliceKey) -> u64 {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let read = self.entries[key.index as usize].load(Ordering::Acquire);
        thread::yield_now();
        read
    }

    /// As `commit.rs` does: the file has it first, then it is published. Under a turn, since updates have an order.
    fn update(&self, cache: &TableCache, pinned: &Pinned) {
        cache.unpack(pinned);
        let turn = crate::block_on(pinned.take_turn());
        let value = self.entries[pinned.key().index as usize].fetch_add(KEYS, Ordering::AcqRel) + KEYS;
        let first = entry(pinned.key(), value);
        pinned.publish(&super::super::EntryRun { start: 0, count: MANY, first, stride: 0 });
        drop(turn);
    }
}

fn get(cache: &TableCache, key: SliceKey, file: &File) -> Pinned {
    loop {
        if let Some(pinned) = cache.pin(key) {
            file.hit();
            return pinned;
        }
        match cache.begin_load(key) {
            Begin::Resident(pinned) => {
                file.hit();
                return pinned;
            }
            Begin::Wait(loaded) => loaded.wait(),
            Begin::Load(load) => return load.commit(FileOffset(0), &bytes_of(key, file.read(key))),
        }
    }
}

/// A pinned slice is the only one of its key: what it shows is never behind what the file had before it was asked.
fn check_fresh(cache: &TableCache, key: SliceKey, file: &File) {
    let before = file.entries[key.index as usize].load(Ordering::Acquire);
    let pinned = get(cache, key, file);
    let turn = crate::block_on(pinned.take_turn());
    let seen = pinned.look(|slice| value(slice, MANY - 1));
    assert!(seen % KEYS == key.index && seen >= before, "{key:?} shows {seen}, the file had {before}");
    drop(turn);
}

/// As `lookup.rs` does for who only reads.
fn read(cache: &TableCache, key: SliceKey, file: &File) {
    match cache.begin_read(key) {
        BeginRead::Resident(_) => file.hit(),
        BeginRead::Busy => {}
        BeginRead::Load(load) => drop(load.commit(FileOffset(0), &bytes_of(key, file.read(key)))),
        BeginRead::Bypass(bypass) => {
            let seen = file.read(key);
            let now = file.entries[key.index as usize].load(Ordering::Acquire);
            assert_eq!(seen, now, "{key:?} was updated while it was read past the cache");
            assert!(bypass.end().is_ok(), "{key:?} came in");
        }
    }
}

fn run(cache: &TableCache, file: &File, seed: u64) {
    let mut state = 0x9e37_79b9 * (seed + 1);
    let mut kept = Vec::new();
    for step in 0..STEPS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let key = l2((state >> 16) % KEYS);
        match (state >> 40) % 16 {
            0..4 => {
                let seen = cache.find(key, |slice| (slice.key(), value(slice, step as usize % MANY) % KEYS));
                if let Some(seen) = seen {
                    file.hit();
                    assert_eq!(seen, (key, key.index));
                }
            }
            4..7 => check_fresh(cache, key, file),
            7..9 => read(cache, key, file),
            9..12 => file.update(cache, &get(cache, key, file)),
            12 => kept.push(get(cache, key, file)),
            13 => kept.truncate(kept.len() / 2),
            14 => {
                if let Begin::Resident(_) = cache.begin_load(key) {
                    file.hit();
                }
            }
            _ if step % 64 == 0 => cache.validate(),
            _ if step % 2 == 0 => cache.bypass_from_now(),
            _ => drop(cache.stats()),
        }
    }
}

#[test]
fn threads_that_do_everything_at_once_never_see_a_wrong_or_stale_slice() {
    let (cache, file, start) = (room_for(ROOM), File::new(), Barrier::new(THREADS as usize));
    thread::scope(|scope| {
        let work = |seed| {
            let (cache, file, start) = (&cache, &file, &start);
            move || {
                start.wait();
                run(cache, file, seed)
            }
        };
        (0..THREADS).for_each(|seed| drop(scope.spawn(work(seed))));
    });
    cache.validate();
    let stats = cache.stats();
    assert_eq!((stats.hits, pinned(&cache)), (file.hits.load(Ordering::Relaxed), 0));
    assert_eq!(stats.misses, file.loads.load(Ordering::Relaxed), "abandoned loads read nothing");
    assert!(stats.evictions > STEPS / 10, "the budget was small: {stats:?}");
    assert!(stats.bypasses > STEPS / 100, "{stats:?}");
    drop(committed(&cache, l2(KEYS), 0));
    // Lines of those that are left may lie in several frames, and runs take less.
    assert!(residents(&cache) + 3 >= ROOM, "{} slices", residents(&cache));
}
