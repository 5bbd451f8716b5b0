//! One image under many threads.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::*;
use quod::{Fua, Image, Room, block_on};
use quod_storage::{Access, FileOpener, MemoryOpener, Opener, Storage};

/// The same empty disk on memory and on a file.
struct Bench {
    memory: MemoryOpener,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new(shape: Shape) -> Self {
        let bench =
            Bench { memory: MemoryOpener::new(), directory: tempfile::tempdir().expect("a directory") };
        make(&bench.memory, Path::new(DISK), shape, None);
        make(&FileOpener, &bench.file(), shape, None);
        bench
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join(DISK)
    }
}

/// What one thread does in each round.
type Work<'a, S> = &'a (dyn Fn(&Image<S>, u64) + Sync);

/// Runs `tasks` at the same time, again and again.
fn race<S: Storage + Send + Sync>(image: &Image<S>, rounds: u64, tasks: &[Work<'_, S>]) {
    let start = Barrier::new(tasks.len());
    thread::scope(|scope| {
        for task in tasks {
            scope.spawn(|| {
                for round in 0..rounds {
                    start.wait();
                    task(image, round);
                }
            });
        }
    });
}

fn two_writers_of_one_cluster<O: Opener>(opener: &O, name: &Path)
where
    O::Storage: Send + Sync,
{
    const ROUNDS: u64 = 400;
    let image = open(opener, name, Access::Write);
    let first = |image: &Image<_>, round: u64| write(image, round * 4096, &pattern(round, 1000));
    let second = |image: &Image<_>, round: u64| write(image, round * 4096 + 2000, &pattern(!round, 1000));
    race(&image, ROUNDS, &[&first, &second]);
    for round in 0..ROUNDS {
        let mut wanted = vec![0; 4096];
        wanted[..1000].copy_from_slice(&pattern(round, 1000));
        wanted[2000..3000].copy_from_slice(&pattern(!round, 1000));
        assert_same(&read(&image, round * 4096, 4096), &wanted, "a cluster with two writers");
    }
    close(image);
    assert_eq!(assert_clean(opener, name), ROUNDS, "no cluster was lost to a race");
}

#[test]
fn two_first_writers_of_one_cluster_both_survive() {
    let bench = Bench::new(Shape::small(16 << 20));
    two_writers_of_one_cluster(&bench.memory, Path::new(DISK));
    two_writers_of_one_cluster(&FileOpener, &bench.file());
}

fn two_writers_under_one_l1_entry<O: Opener>(opener: &O, name: &Path)
where
    O::Storage: Send + Sync,
{
    const ROUNDS: u64 = 300;
    const SPAN: u64 = 2 << 20;
    let image = open(opener, name, Access::Write);
    let first = |image: &Image<_>, round: u64| write(image, round * SPAN, &[1; 4096]);
    let second = |image: &Image<_>, round: u64| write(image, round * SPAN + SPAN / 2, &[2; 4096]);
    let third = |image: &Image<_>, round: u64| write(image, round * SPAN + SPAN - 4096, &[3; 4096]);
    race(&image, ROUNDS, &[&first, &second, &third]);
    for round in 0..ROUNDS {
        for (at, wanted) in [(0, 1), (SPAN / 2, 2), (SPAN - 4096, 3)] {
            assert_same(&read(&image, round * SPAN + at, 4096), &[wanted; 4096], "under one table");
        }
    }
    close(image);
    assert_eq!(assert_clean(opener, name), 3 * ROUNDS);
}

#[test]
fn first_writers_under_one_empty_l1_entry_share_one_table() {
    let bench = Bench::new(Shape::small(1 << 30));
    two_writers_under_one_l1_entry(&bench.memory, Path::new(DISK));
    two_writers_under_one_l1_entry(&FileOpener, &bench.file());
}

/// Sectors of one generation each; all zeroes before the first write.
fn assert_generations(sectors: &[u8], newest: impl Fn(u8) -> bool) {
    for sector in sectors.chunks(512) {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
        assert!(newest(sector[0]), "generation {} was never written here", sector[0]);
    }
}

#[test]
fn a_reader_beside_a_first_writer_sees_old_or_new_sectors() {
    let bench = Bench::new(Shape::small(16 << 20));
    let image = open(&FileOpener, &bench.file(), Access::Write);
    let writer = |image: &Image<_>, round: u64| write(image, round * 8192 + 512, &[7; 7168]);
    let reader = |image: &Image<_>, round: u64| {
        for _ in 0..4 {
            assert_generations(&read(image, round * 8192, 8192), |generation| matches!(generation, 0 | 7));
        }
    };
    race(&image, 400, &[&writer, &reader]);
}

#[test]
fn a_reader_beside_a_writer_never_sees_an_older_value_again() {
    let bench = Bench::new(Shape::small(16 << 20));
    let image = open(&bench.memory, Path::new(DISK), Access::Write);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for generation in 1..=250u8 {
                write(&image, 4096, &[generation; 8192]);
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            let mut seen = [0; 16];
            while !done.load(Ordering::Acquire) {
                let now = read(&image, 4096, 8192);
                assert_generations(&now, |_| true);
                for (sector, last) in now.chunks(512).zip(&mut seen) {
                    assert!(sector[0] >= *last, "{} after {last}", sector[0]);
                    *last = sector[0];
                }
            }
        });
    });
}

#[test]
fn writers_flushers_and_growers_do_not_disturb_each_other() {
    let bench = Bench::new(Shape::small(4 << 20));
    let image = open(&FileOpener, &bench.file(), Access::Write);
    let writer = |image: &Image<_>, round: u64| {
        write(image, (round * 37 % 1000) * 4096 + 100, &pattern(round, 3000));
        assert_same(&read(image, (round * 37 % 1000) * 4096 + 100, 3000), &pattern(round, 3000), "own write");
    };
    let keeper = |image: &Image<_>, round: u64| match round % 4 {
        0 => flush(image),
        1 => block_on(image.maintain()).expect("maintenance"),
        2 => block_on(image.grow((4 << 20) + 512 * round)).expect("room to grow"),
        _ => block_on(image.discard((4 << 20) - 4096, 2048, Fua::No)).expect("a discard"),
    };
    let zeroer = |image: &Image<_>, round: u64| {
        let at = (4 << 20) - 4096 - 8 * round;
        block_on(image.write_zeroes(at, 8, Room::Keep, Fua::No)).expect("a zero write");
    };
    race(&image, 200, &[&writer, &keeper, &zeroer]);
    close(image);
    assert_clean(&FileOpener, &bench.file());
}
