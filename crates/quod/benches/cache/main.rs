//! `cargo bench -p quod --bench cache`: look-ups and misses of the table cache beside the reference's algorithm and
//! quick_cache.
//!
//! Role: every cache holds the same 50 tables of 4 KiB, so that only the algorithms differ.
//!
//! Absent on purpose: thresholds. A noisy machine fails no test for its speed; people read the figures.

mod contenders;
mod ours;
mod reference;

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};

use contenders::{Contender, Ours, Quick, Reference};
use reference::REFERENCE_TABLES;

/// Not a multiple of the tables, so that threads drift apart.
const KEYS: usize = 1021;
/// Tables that come by when all are missed.
const ALL_TABLES: u64 = 512;

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = hits, misses
}
criterion_main!(benches);

fn hits(criterion: &mut Criterion) {
    let mut random = 88_172_645_463_325_252u64;
    let keys: Vec<u64> = (0..KEYS).map(|_| next(&mut random) % REFERENCE_TABLES as u64).collect();
    for threads in [1, 2] {
        let mut group = criterion.benchmark_group(format!("cache hit, {threads} threads"));
        for (name, cache) in contenders() {
            group.bench_function(name, |bench| {
                bench.iter_custom(|times| look(&*cache, &keys, threads, times))
            });
        }
    }
}

/// To take a table in and let another go, reading aside.
fn misses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cache miss");
    for (name, cache) in contenders() {
        let mut missing = (REFERENCE_TABLES as u64..ALL_TABLES).cycle();
        group.bench_function(name, |bench| {
            bench.iter(|| cache.load(missing.next().expect("it goes round")));
        });
    }
}

/// All caches, full.
fn contenders() -> [(&'static str, Box<dyn Contender>); 4] {
    let tables = REFERENCE_TABLES;
    let all: [(_, Box<dyn Contender>); 4] = [
        ("quod", Box::new(Ours::new(tables, ours::scattered()))),
        ("quod, entries in order", Box::new(Ours::new(tables, ours::in_order()))),
        ("the reference: list, mutex, first in first out", Box::new(Reference::new())),
        ("quick_cache", Box::new(Quick::new(tables + tables / 4))),
    ];
    for (_, cache) in &all {
        // Twice, for caches that take a key in only when it comes again.
        (0..2 * tables as u64).for_each(|i| cache.load(i % tables as u64));
    }
    all
}

/// So many look-ups by each of the threads: how long the slowest took.
fn look(cache: &dyn Contender, keys: &[u64], threads: usize, times: u64) -> Duration {
    let look = |thread: usize| {
        let start = Instant::now();
        for &key in keys.iter().cycle().skip(7 * thread).take(times as usize) {
            black_box(cache.find(key));
        }
        start.elapsed()
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || look(thread))).collect();
        let took = running.into_iter().map(|thread| thread.join().expect("a look-up does not panic"));
        took.max().unwrap_or_default()
    })
}

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}
