//! Point 8: what happened can be counted and traced.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

use super::super::stats;
use super::*;

/// Keeps the message and the slice of each event, and asks at each whether the cache is locked.
struct Listener {
    told: Arc<Mutex<Vec<String>>>,
    cache: Arc<TableCache>,
    was_locked: Arc<AtomicBool>,
}

#[derive(Default)]
struct Sentence {
    message: String,
    key: String,
}

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}").replace("table cache ", ""),
            "key" => self.key = format!("{value:?}").chars().filter(char::is_ascii_digit).collect(),
            _ => {}
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("quod::cache")
    }

    fn event(&self, event: &Event<'_>) {
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        self.was_locked.fetch_or(self.cache.pool.structure.try_lock().is_err(), Ordering::Relaxed);
        self.told.lock().unwrap().push(format!("{} {}", sentence.message, sentence.key));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What is told while `work` uses a cache with room for one slice, and whether any of it was told under the lock.
fn told(work: impl FnOnce(&TableCache)) -> (Vec<String>, bool) {
    let cache = Arc::new(room_for(1));
    let (told, was_locked) = (Arc::default(), Arc::default());
    let listener =
        Listener { told: Arc::clone(&told), cache: Arc::clone(&cache), was_locked: Arc::clone(&was_locked) };
    subscriber::with_default(listener, || work(&cache));
    let told = told.lock().unwrap().clone();
    (told, was_locked.load(Ordering::Relaxed))
}

/// Each operation of the contract, with its slice.
fn each_operation(cache: &TableCache) {
    assert_eq!(found(cache, l2(10)), None);
    let load = load(cache, l2(10));
    drop(cache.begin_load(l2(10)));
    drop(load.commit(FileOffset(0), &bytes(1)));
    assert_eq!(found(cache, l2(10)), Some(1));
    drop(cache.pin(l2(10)));
    drop(cache.begin_load(l2(10)));
    drop(committed(cache, l2(10), 2));
    drop(committed(cache, l1(20), 3));
    let packed = cache.commit(l2(30), FileOffset(0), &[0; SLICE_BYTES as usize]);
    cache.unpack(&packed);
    cache.unpack(&packed);
}

#[test]
fn every_operation_is_traced() {
    // L1 and L2 have a digit each, before that of the index.
    let expected = [
        "miss 210",
        "load shared 210",
        "allocate 210",
        "commit 210",
        "load ended 210",
        "release 210",
        "hit 210",
        "pin 210",
        "release 210",
        "pin 210",
        "release 210",
        "commit came second 210",
        "release 210",
        "evict 210",
        "allocate 120",
        "commit 120",
        "release 120",
        "evict 120",
        "allocate 230",
        "commit 230",
        "unpack 230",
        "release 230",
    ];
    assert_eq!(told(each_operation).0, expected);
}

/// A slice that is read and does not come in, and one that is given up.
fn each_end_of_a_bypass(cache: &TableCache) {
    drop(committed(cache, l2(0), 0));
    let begin = |index| {
        cache.bypass_from_now();
        let BeginRead::Bypass(bypass) = cache.begin_read(l2(index)) else { panic!("{index} comes in") };
        bypass
    };
    assert!(begin(10).end().is_ok());
    drop(begin(20));
}

#[test]
fn slices_that_do_not_come_in_are_traced() {
    let expected = [
        "allocate 20",
        "commit 20",
        "release 20",
        "bypass 210",
        "load ended 210",
        "bypass 220",
        "load ended 220",
    ];
    assert_eq!(told(each_end_of_a_bypass).0, expected);
}

/// Who listens may write to a file, or ask for the counters.
#[test]
fn events_are_told_outside_the_lock() {
    assert!(!told(each_operation).1 && !told(each_end_of_a_bypass).1);
}

#[test]
fn counters_tell_what_happened() {
    let cache = room_for(2);
    assert_eq!(found(&cache, l2(0)), None);
    let first = load(&cache, l2(0));
    drop(cache.begin_load(l2(0)));
    let first = first.commit(FileOffset(0), &bytes(0));
    (0..5).for_each(|_| assert_eq!(found(&cache, l2(0)), Some(0)));
    (1..4).for_each(|index| drop(read_in(&cache, l2(index), index)));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads_shared), (5, 4, 1));
    assert_eq!((stats.evictions, pinned(&cache)), (2, 1));
    assert_eq!(cache.pool.bytes(), cache.pool.budget);
    assert_eq!(stats.bytes, (size_of::<TableCache>() + 2 * bytes_of(&cache, l2(0))) as u64);
    drop(first);
    assert_eq!(pinned(&cache), 0);
}

/// More threads at once than have a stripe to themselves, twice over: stripes go from the threads that end to new ones.
#[test]
fn counters_are_exact_once_the_threads_are_joined() {
    const THREADS: u64 = 64;
    const HITS: u64 = 5_000;
    let cache = room_for(2);
    drop(read_in(&cache, l2(0), 0));
    let hit = || assert!(found(&cache, l2(0)).is_some());
    for _ in 0..2 {
        let all_have_a_stripe = Barrier::new(THREADS as usize);
        let work = || {
            hit();
            all_have_a_stripe.wait();
            (1..HITS).for_each(|_| hit());
        };
        thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    }
    assert_eq!(cache.stats().hits, 2 * THREADS * HITS);
}

#[test]
fn a_thread_that_ends_gives_its_stripe_back() {
    let thread_has_one = || thread::spawn(stats::has_own_stripe).join().unwrap();
    let hundredth_has_one = || (0..100).fold(false, |_, _| thread_has_one());
    // The threads of another test may have them all for a while.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !hundredth_has_one() {
        assert!(Instant::now() < deadline, "no stripe is left");
    }
}
