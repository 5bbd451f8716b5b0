//! `cargo bench -p quod --bench requests`: what requests of 4 KiB cost the engine over a file in memory.
//!
//! Role: a figure for each way that a request can go: a hit, a backing file, nothing there, in place, and first writes by
//! either commit policy.
//!
//! Absent on purpose: thresholds, and the kernel: `cargo xtask compare` holds whole requests against peers.

#[path = "../disks/mod.rs"]
mod disks;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quod::{CommitPolicy, block_on};

use disks::{BLOCK, Disk, WRITTEN};

/// First writes to one disk: as many clusters as the default bound lets wait.
const FIRST_WRITES: u64 = 4096;
/// First writes between two flushes.
const FLUSH_EVERY: u64 = 64;

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = reads, overwrites, first_writes
}
criterion_main!(benches);

fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(BLOCK as u64));
    let (written, backed) = (disks::written(), disks::backed());
    let unallocated: Vec<u64> = at_random().iter().map(|at| WRITTEN + at).collect();
    for (name, disk, places) in [
        ("in sequence", &written, in_sequence()),
        ("at random", &written, at_random()),
        ("at random, out of a backing file", &backed, at_random()),
        ("at random, unallocated", &written, unallocated),
    ] {
        let read = |times| timed(|| block_on(disks::read_all(disk, around(&places, times))));
        group.bench_function(name, |bench| bench.iter_custom(read));
    }
}

fn overwrites(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Bytes(BLOCK as u64));
    let (disk, places) = (disks::written(), at_random());
    let write = |times| timed(|| block_on(disks::write_all(&disk, around(&places, times))));
    group.bench_function("at random, in place", |bench| bench.iter_custom(write));
}

fn first_writes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("first write, flushed after every 64");
    for (name, commit) in [("through", CommitPolicy::Through), ("grouped", CommitPolicy::Grouped)] {
        group.bench_function(name, |bench| bench.iter_custom(|times| write_first(commit, times)));
    }
}

/// So many first writes, on as many new disks as they need.
fn write_first(commit: CommitPolicy, times: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = times;
    while left > 0 {
        let count = left.min(FIRST_WRITES);
        let disk = disks::empty(commit);
        took += timed(|| block_on(write_and_flush(&disk, count)));
        left -= count;
    }
    took
}

async fn write_and_flush(disk: &Disk, count: u64) {
    let mut places = disks::clusters(count).peekable();
    while places.peek().is_some() {
        disks::write_all(disk, places.by_ref().take(FLUSH_EVERY as usize)).await;
        disk.flush().await.expect("memory does not fail");
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// So many of the places, again and again.
fn around(places: &[u64], times: u64) -> impl Iterator<Item = u64> {
    places.iter().copied().cycle().take(times as usize)
}

fn in_sequence() -> Vec<u64> {
    (0..WRITTEN).step_by(BLOCK).collect()
}

/// All blocks, each once, in an order that neither a processor nor a file system foresees.
fn at_random() -> Vec<u64> {
    let blocks = WRITTEN / BLOCK as u64;
    let mut random = 0;
    // A generator that comes by every number below a power of two.
    let mut next = || {
        random = (random * 1_664_525 + 1_013_904_223) % blocks;
        random * BLOCK as u64
    };
    (0..blocks).map(|_| next()).collect()
}
