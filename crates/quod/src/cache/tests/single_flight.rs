//! Misses that meet: one loads, the others wait, and nobody waits for ever.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Wake};
use std::thread;
use std::time::Duration;

use event_listener::Listener;

use super::*;

/// Longer than any step takes, so that a deadlock fails and does not hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `work` beside the test, and fails when it does not end.
fn ends<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let (done, result) = mpsc::channel();
        scope.spawn(move || done.send(work()));
        match result.recv_timeout(PATIENCE) {
            Ok(value) => value,
            Err(_) => {
                // A scope would wait for the thread that hangs.
                eprintln!("a step does not end");
                std::process::abort()
            }
        }
    })
}

/// What every request does: find, or load, or wait for who loads.
fn get(cache: &TableCache, key: SliceKey, read: impl Fn() -> u64) -> Pinned {
    loop {
        match cache.begin_load(key) {
            Begin::Resident(pinned) => return pinned,
            Begin::Wait(loaded) => assert!(loaded.wait_timeout(PATIENCE).is_some(), "nobody woke the waiter"),
            Begin::Load(load) => return load.commit(FileOffset(0), &bytes(read())),
        }
    }
}

#[test]
fn misses_that_meet_load_once() {
    for round in 0..20 {
        let cache = room_for(4);
        let (loads, start) = (AtomicU64::new(0), Barrier::new(8));
        let read = || {
            thread::sleep(Duration::from_millis(round % 3));
            loads.fetch_add(1, Ordering::Relaxed)
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    assert_eq!(get(&cache, l2(0), read).entry(0), 0);
                });
            }
        });
        assert_eq!((loads.into_inner(), cache.stats().misses), (1, 1));
        assert!(cache.stats().loads_shared < 8);
        cache.validate();
    }
}

#[test]
fn different_slices_load_side_by_side() {
    let cache = room_for(4);
    let (one, other) = (load(&cache, l2(0)), load(&cache, l2(1)));
    let third = load(&cache, l1(0));
    for load in [one, other, third] {
        drop(load.commit(FileOffset(0), &bytes(0)));
    }
    assert_eq!(cache.stats().misses, 3);
}

#[test]
fn a_dropped_loader_lets_a_waiter_load() {
    let cache = room_for(4);
    let abandoned = load(&cache, l2(0));
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| get(&cache, l2(0), || 9).entry(0))).collect();
        while cache.stats().loads_shared < 4 {
            thread::yield_now();
        }
        drop(abandoned);
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == 9));
    });
    assert_eq!(cache.stats().misses, 1, "one of the waiters; the dropped one has read nothing");
    assert!(cache.pool.structure.lock().unwrap().loading.is_empty());
}

#[test]
fn a_loader_that_panics_lets_a_waiter_load() {
    let cache = room_for(4);
    thread::scope(|scope| {
        let (begun, is_begun) = mpsc::channel();
        let cache = &cache;
        let loader = scope.spawn(move || {
            get(cache, l2(0), || {
                begun.send(()).unwrap();
                while cache.stats().loads_shared == 0 {
                    thread::yield_now();
                }
                panic!("the read fails badly")
            })
        });
        is_begun.recv().unwrap();
        assert_eq!(get(cache, l2(0), || 9).entry(0), 9);
        assert!(loader.join().is_err());
    });
    cache.validate();
}

#[test]
fn nobody_waits_for_a_load_that_has_ended() {
    let cache = room_for(1);
    drop(load(&cache, l2(0)));
    drop(read_in(&cache, l2(0), 1));
    drop(read_in(&cache, l2(1), 1));
    drop(load(&cache, l2(0)));
}

#[test]
fn the_cache_serves_everybody_while_a_load_reads() {
    let cache = room_for(2);
    let reading = load(&cache, l2(0));
    ends(|| {
        drop(read_in(&cache, l2(1), 1));
        drop(committed(&cache, l2(2), 2));
        drop(committed(&cache, l2(3), 3));
        assert!(found(&cache, l2(3)).is_some() && cache.pin(l2(3)).is_some());
        assert!(matches!(cache.begin_load(l2(0)), Begin::Wait(_)));
        cache.validate();
    });
    drop(reading);
}

/// A task that is woken may run at once, and ask the cache.
#[test]
fn waiters_are_woken_outside_the_lock() {
    struct AsksAgain(Arc<TableCache>, AtomicBool);
    impl Wake for AsksAgain {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.pool.structure.try_lock().is_ok(), Ordering::Relaxed);
        }
    }
    let cache = Arc::new(room_for(4));
    let load = load(&cache, l2(0));
    let Begin::Wait(mut loaded) = cache.begin_load(l2(0)) else { panic!("it is being loaded") };
    let waker = Arc::new(AsksAgain(Arc::clone(&cache), AtomicBool::new(false)));
    let mut woken = std::pin::pin!(&mut loaded);
    let pending = woken.as_mut().poll(&mut Context::from_waker(&Arc::clone(&waker).into()));
    assert!(pending.is_pending());
    drop(load);
    assert!(waker.1.load(Ordering::Relaxed), "the lock was held while the waiter was woken");
}

/// A panic under the lock is a broken invariant. It must neither be built upon nor leave anybody waiting.
#[test]
fn after_a_panic_under_the_lock_everyone_fails_and_nobody_hangs() {
    let cache = Arc::new(room_for(4));
    let load = load(&cache, l2(0));
    let Begin::Wait(loaded) = cache.begin_load(l2(0)) else { panic!("it is being loaded") };
    let breaks = Arc::clone(&cache);
    let broken = thread::spawn(move || {
        let _structure = breaks.pool.structure.lock();
        panic!("an invariant is broken");
    });
    assert!(broken.join().is_err());
    drop(load);
    assert!(loaded.wait_timeout(PATIENCE).is_some());
    let asks = Arc::clone(&cache);
    assert!(thread::spawn(move || drop(asks.begin_load(l2(0)))).join().is_err());
}
