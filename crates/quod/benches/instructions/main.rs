//! `cargo xtask instructions`: how many instructions requests cost the engine, by valgrind.
//!
//! Role: counts that do not depend on what else a machine does, so that CI can hold them against
//! `benches/instructions.toml`. Each function is a thousand requests; what its `setup` does is not counted, and does
//! before what only the first request would do.
//!
//! Absent on purpose: time, the kernel, and what runs threads.

#![allow(missing_docs, reason = "the macros make modules and functions without any")]

#[path = "../disks/mod.rs"]
mod disks;
#[path = "../cache/ours.rs"]
mod ours;

use std::hint::black_box;

use gungraun::prelude::*;
use quod::cache::TableCache;
use quod::{CommitPolicy, block_on};

use disks::Disk;

const REQUESTS: u64 = 1000;
/// Valgrind counts a string instruction (`rep stosb`) once a byte, and the C library takes them by the processor: none here.
const NO_STRINGS: &str =
    "glibc.cpu.x86_rep_stosb_threshold=1073741824:glibc.cpu.x86_rep_movsb_threshold=1073741824";
/// Slices of a cache.
const SLICES: u64 = 64;

// Of slices whose entries are scattered or, packed, in order.
#[library_benchmark(setup = full_cache)]
#[bench::of_1000(ours::scattered())]
fn cache_hit(cache: TableCache) -> TableCache {
    hit(cache)
}

#[library_benchmark(setup = full_cache)]
#[bench::of_1000(ours::in_order())]
fn cache_hit_packed(cache: TableCache) -> TableCache {
    hit(cache)
}

fn hit(cache: TableCache) -> TableCache {
    for index in 0..REQUESTS {
        black_box(ours::find(&cache, black_box(index % SLICES)));
    }
    cache
}

// Without the read of the slice: it takes a place, and another gives its place up.
#[library_benchmark(setup = full_cache_and_bytes)]
#[bench::of_1000(ours::scattered())]
fn cache_miss(full: (TableCache, Vec<u8>)) -> TableCache {
    miss(full)
}

#[library_benchmark(setup = full_cache_and_bytes)]
#[bench::of_1000(ours::in_order())]
fn cache_miss_packed(full: (TableCache, Vec<u8>)) -> TableCache {
    miss(full)
}

fn miss((cache, bytes): (TableCache, Vec<u8>)) -> TableCache {
    for index in SLICES..SLICES + REQUESTS {
        black_box(ours::load(&cache, index, &bytes));
    }
    cache
}

#[library_benchmark(setup = written)]
#[bench::of_1000()]
fn read_hit(disk: Disk) -> Disk {
    block_on(disks::read_all(&disk, black_box(disks::clusters(REQUESTS))));
    disk
}

#[library_benchmark(setup = backed)]
#[bench::of_1000()]
fn read_backing(disk: Disk) -> Disk {
    block_on(disks::read_all(&disk, black_box(disks::clusters(REQUESTS))));
    disk
}

#[library_benchmark(setup = written)]
#[bench::of_1000()]
fn write_in_place(disk: Disk) -> Disk {
    block_on(disks::write_all(&disk, black_box(disks::clusters(REQUESTS))));
    disk
}

#[library_benchmark(setup = one_written)]
#[bench::of_1000()]
fn first_write(disk: Disk) -> Disk {
    block_on(disks::write_all(&disk, black_box(disks::clusters(REQUESTS + 1).skip(1))));
    disk
}

library_benchmark_group!(
    name = requests,
    benchmarks = [
        cache_hit,
        cache_hit_packed,
        cache_miss,
        cache_miss_packed,
        read_hit,
        read_backing,
        write_in_place,
        first_write
    ]
);
main!(
    config = LibraryBenchmarkConfig::default().env("GLIBC_TUNABLES", NO_STRINGS),
    library_benchmark_groups = requests
);

fn full_cache(bytes: Vec<u8>) -> TableCache {
    let cache = ours::cache(SLICES as usize, &bytes);
    (0..SLICES).for_each(|index| drop(ours::load(&cache, index, &bytes)));
    assert!(ours::find(&cache, 0).is_some());
    cache
}

fn full_cache_and_bytes(bytes: Vec<u8>) -> (TableCache, Vec<u8>) {
    (full_cache(bytes.clone()), bytes)
}

/// With its table in the cache.
fn written() -> Disk {
    warm(disks::written())
}

fn backed() -> Disk {
    warm(disks::backed())
}

fn warm(disk: Disk) -> Disk {
    block_on(disks::read_all(&disk, disks::clusters(REQUESTS)));
    disk
}

/// The dirty bit is set, and the table is there.
fn one_written() -> Disk {
    let disk = disks::empty(CommitPolicy::Through);
    block_on(disks::write_all(&disk, disks::clusters(1)));
    disk
}
