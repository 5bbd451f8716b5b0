//! `cargo bench -p quod`: look-ups and misses of the table cache beside the reference's algorithm and quick_cache.
//!
//! Role: every cache holds the same 50 tables of 4 KiB, so that only the algorithms differ. Rounds alternate between the
//! caches, and the median round is told.
//!
//! Absent on purpose: thresholds. A noisy machine fails no test for its speed; people read the figures.

mod contenders;
mod reference;

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use contenders::{Contender, Ours, Quick, Reference};
use reference::REFERENCE_TABLES;

const ROUNDS: usize = 5;
const LOOKUPS: usize = 2_000_000;
const MISSES: u64 = 50_000;
/// Not a multiple of the tables, so that threads drift apart.
const KEYS: usize = 1021;

fn main() {
    let tables = REFERENCE_TABLES;
    let contenders: [(&str, Box<dyn Contender>); 3] = [
        ("quod", Box::new(Ours::new(tables))),
        ("the reference: list, mutex, first in first out", Box::new(Reference::new())),
        ("quick_cache", Box::new(Quick::new(tables + tables / 4))),
    ];
    let mut random = 88_172_645_463_325_252u64;
    let keys: Vec<u64> = (0..KEYS).map(|_| next(&mut random) % tables as u64).collect();
    let mut rounds = vec![[Vec::new(), Vec::new(), Vec::new()]; contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, cache), rounds) in contenders.iter().zip(&mut rounds) {
            // Twice, for caches that take a key in only when it comes again.
            (0..2 * tables as u64).for_each(|i| cache.load(i % tables as u64));
            rounds[0].push(lookup(&**cache, &keys, 1));
            rounds[1].push(lookup(&**cache, &keys, 2));
            rounds[2].push(miss(&**cache));
        }
    }
    println!("{:<50} {:>12} {:>12} {:>12}", "ns, median of 5 rounds", "hit, 1", "hit, 2", "miss");
    for ((name, _), [one, two, miss]) in contenders.iter().zip(&mut rounds) {
        println!("{name:<50} {:>12.1} {:>12.1} {:>12.1}", median(one), median(two), median(miss));
    }
}

/// Nanoseconds a look-up a thread.
fn lookup(cache: &dyn Contender, keys: &[u64], threads: usize) -> f64 {
    let look = |thread: usize| {
        let start = Instant::now();
        for &key in keys.iter().cycle().skip(7 * thread).take(LOOKUPS) {
            black_box(cache.find(key));
        }
        start.elapsed().as_nanos() as f64 / LOOKUPS as f64
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || look(thread))).collect();
        let slowest = |slowest: f64, one: f64| slowest.max(one);
        running.into_iter().map(|thread| thread.join().expect("a look-up does not panic")).fold(0.0, slowest)
    })
}

/// Nanoseconds to take a table in and let another go, reading aside.
fn miss(cache: &dyn Contender) -> f64 {
    let start = Instant::now();
    let tables = REFERENCE_TABLES as u64;
    (0..MISSES).for_each(|i| cache.load(tables + i % (512 - tables)));
    start.elapsed().as_nanos() as f64 / MISSES as f64
}

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn median(rounds: &mut [f64]) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
