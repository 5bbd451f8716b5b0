//! The simulator itself: what its storage may do to the engine does happen, and what it must not do does not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quod_sim::{Executor, Fault, Faults, Kind, SECTOR, SimStorage, Stuck, World};
use quod_storage::{Buffer, Buffers, ExtentKind, Held, Storage};

const NAME: &str = "disk";
const SEEDS: u64 = 300;

fn name() -> &'static Path {
    Path::new(NAME)
}

fn world(seed: u64, faults: Faults) -> (World, SimStorage, Executor) {
    let world = World::new(seed, faults);
    let file = world.file(name());
    let executor = Executor::new(&world, seed);
    (world, file, executor)
}

fn buffers(byte: u8, sectors: u64) -> Buffers {
    Buffer::copy_of(&vec![byte; (sectors * SECTOR) as usize]).into()
}

/// Writes sectors of `byte` from sector `at` on.
fn write(executor: &mut Executor, file: &SimStorage, at: u64, byte: u8, sectors: u64) -> io::Result<()> {
    let file = file.clone();
    let done = async move { file.write_at(at * SECTOR, buffers(byte, sectors)).await.map(drop) };
    executor.block_on(done).expect("the kernel answers")
}

fn flush(executor: &mut Executor, file: &SimStorage) -> io::Result<()> {
    let file = file.clone();
    executor.block_on(async move { file.flush(Held::NOTHING).await }).expect("the kernel answers")
}

/// The first byte of each sector after a crash.
fn after(world: &World, seed: u64) -> Vec<u8> {
    world.crash(seed).contents(name()).iter().step_by(SECTOR as usize).copied().collect()
}

#[test]
fn a_crash_loses_tears_and_reorders_what_was_not_flushed() {
    let (world, file, mut executor) = world(1, Faults::delays());
    write(&mut executor, &file, 0, 1, 4).unwrap();
    flush(&mut executor, &file).unwrap();
    write(&mut executor, &file, 0, 2, 4).unwrap();
    write(&mut executor, &file, 0, 3, 4).unwrap();
    let seen: BTreeSet<Vec<u8>> = (0..SEEDS).map(|seed| after(&world, seed)).collect();
    for whole in [1, 2, 3] {
        assert!(seen.contains(&vec![whole; 4]), "{whole} alone does occur");
    }
    assert!(seen.iter().any(|image| image.contains(&1) && image.contains(&3)), "a torn write");
    assert!(
        seen.iter().any(|image| image.windows(2).any(|pair| pair == [3, 2])),
        "the older on top of the newer"
    );
    assert!(seen.iter().flatten().all(|byte| (1..=3).contains(byte)), "no byte out of nowhere");
}

#[test]
fn flushed_bytes_are_never_lost() {
    for seed in 0..SEEDS {
        let (world, file, mut executor) = world(seed, Faults::delays());
        write(&mut executor, &file, 0, 1, 8).unwrap();
        flush(&mut executor, &file).unwrap();
        write(&mut executor, &file, 4, 2, 8).unwrap();
        let image = after(&world, seed);
        assert!(image.starts_with(&[1; 4]), "seed {seed}: {image:?}");
        assert!(image[4..8].iter().all(|byte| [1, 2].contains(byte)), "seed {seed}: {image:?}");
        assert!(image[8..].iter().all(|byte| [0, 2].contains(byte)), "seed {seed}: {image:?}");
    }
}

#[test]
fn a_flush_does_not_cover_what_completes_after_it_began() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let (world, file, mut executor) = world(seed, Faults::delays());
        write(&mut executor, &file, 0, 1, 1).unwrap();
        let (one, other) = (file.clone(), file);
        executor.spawn(async move { one.write_at(0, buffers(2, 1)).await.map(drop) });
        let flushed = executor.spawn(async move { other.flush(Held::NOTHING).await });
        executor.run().unwrap();
        assert!(flushed.take().unwrap().is_ok());
        let image = after(&world, seed);
        assert_ne!(image[0], 0, "seed {seed}: the first write was covered");
        lost += u32::from(image[0] == 1);
    }
    assert!(lost > 0, "the write beside the flush is lost sometimes");
}

#[test]
fn lengths_and_punches_are_journaled_like_writes() {
    let (world, file, mut executor) = world(3, Faults::delays());
    write(&mut executor, &file, 0, 1, 32).unwrap();
    flush(&mut executor, &file).unwrap();
    let cut = file.clone();
    let change = async move {
        cut.punch(0, 8 * SECTOR, Held::NOTHING).await?;
        cut.set_len(16 * SECTOR, Held::NOTHING).await
    };
    executor.block_on(change).unwrap().unwrap();
    let seen: BTreeSet<(usize, bool, bool)> = (0..SEEDS)
        .map(|seed| after(&world, seed))
        .map(|image| (image.len(), image[..8].contains(&1), image[..8].contains(&0)))
        .collect();
    let lengths: BTreeSet<usize> = seen.iter().map(|(len, ..)| *len).collect();
    assert_eq!(lengths, BTreeSet::from([16, 32]));
    for punched in [(true, false), (false, true), (true, true)] {
        assert!(seen.iter().any(|(_, old, zero)| (*old, *zero) == punched), "{punched:?} in {seen:?}");
    }
    flush(&mut executor, &file).unwrap();
    assert!((0..SEEDS).all(|seed| after(&world, seed) == [[0; 8], [1; 8]].concat()));
}

#[test]
fn a_length_may_reach_the_disk_without_the_bytes() {
    let (world, file, mut executor) = world(4, Faults::delays());
    write(&mut executor, &file, 0, 1, 4).unwrap();
    let seen: BTreeSet<Vec<u8>> = (0..SEEDS).map(|seed| after(&world, seed)).collect();
    assert!(seen.contains(&vec![0; 4]), "{seen:?}");
}

#[test]
fn a_failed_flush_leaves_limbo_that_no_later_one_mends() {
    let (world, file, mut executor) = world(5, Faults::delays());
    write(&mut executor, &file, 0, 1, 1).unwrap();
    flush(&mut executor, &file).unwrap();
    write(&mut executor, &file, 0, 2, 1).unwrap();
    world.plan(Kind::Flush, Fault::Io);
    flush(&mut executor, &file).unwrap_err();
    write(&mut executor, &file, 1, 3, 1).unwrap();
    flush(&mut executor, &file).unwrap();
    let seen: BTreeSet<Vec<u8>> = (0..SEEDS).map(|seed| after(&world, seed)).collect();
    assert_eq!(seen, BTreeSet::from([vec![1, 3], vec![2, 3]]));
    write(&mut executor, &file, 0, 4, 1).unwrap();
    flush(&mut executor, &file).unwrap();
    assert!((0..SEEDS).all(|seed| after(&world, seed) == [4, 3]), "limbo does not cover what came after it");
}

#[test]
fn a_failed_flush_that_nobody_saw_fails_the_next_one() {
    for dropped_first in [true, false] {
        let (world, file, mut executor) = world(5, Faults { instant: 0, ..Faults::delays() });
        world.plan(Kind::Flush, Fault::Io);
        let dropped = file.clone();
        let task = executor.spawn(async move { dropped.flush(Held::NOTHING).await }).task();
        executor.run_until(|| world.in_flight() == 1);
        if dropped_first {
            executor.cancel(task);
            world.settle();
        } else {
            world.settle();
            executor.cancel(task);
        }
        flush(&mut executor, &file).unwrap_err();
        flush(&mut executor, &file).unwrap();
    }
}

struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn an_operation_outlives_its_future_and_keeps_what_it_holds() {
    let mut landed_later = 0;
    for seed in 0..SEEDS {
        let (world, file, mut executor) = world(seed, Faults { instant: 0, ..Faults::delays() });
        let released = Arc::new(AtomicBool::new(false));
        let held = Held::new(Arc::new(Guard(Arc::clone(&released))));
        let writing = async move { file.write_at(0, buffers(7, 1).holding(held)).await.map(drop) };
        let task = executor.spawn(writing).task();
        executor.run_until(|| world.in_flight() == 1);
        assert!(executor.cancel(task));
        assert!(!released.load(Ordering::SeqCst), "seed {seed}: the kernel still writes");
        landed_later += u32::from(world.contents(name()).is_empty());
        executor.run().unwrap();
        assert_eq!(world.contents(name()), vec![7; SECTOR as usize], "seed {seed}");
        assert!(released.load(Ordering::SeqCst), "seed {seed}: the kernel is done");
    }
    assert!(landed_later > 0);
}

#[test]
fn what_is_in_flight_at_a_crash_may_be_there() {
    let (world, file, mut executor) = world(6, Faults { instant: 0, delay: 50, ..Faults::delays() });
    executor.spawn(async move { file.write_at(0, buffers(7, 1)).await.map(drop) });
    executor.run_to_operation(1);
    let seen: BTreeSet<Vec<u8>> = (0..SEEDS).map(|seed| after(&world, seed)).collect();
    assert!(seen.contains(&vec![]) && seen.contains(&vec![7]), "{seen:?}");
}

#[test]
fn room_comes_and_goes() {
    let (world, file, mut executor) = world(7, Faults::delays());
    write(&mut executor, &file, 0, 1, 8).unwrap();
    world.set_full(true);
    write(&mut executor, &file, 0, 2, 8).expect("room that is there already");
    let error = write(&mut executor, &file, 8, 3, 8).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    world.set_full(false);
    write(&mut executor, &file, 8, 3, 8).unwrap();

    world.set_faults(Faults { full: 100, full_for: 3..=10, ..Faults::delays() });
    let results: Vec<bool> = (1..200).map(|at| write(&mut executor, &file, at * 8, 1, 1).is_ok()).collect();
    assert!(results.windows(2).any(|pair| pair == [true, false]), "room goes");
    assert!(results.windows(2).any(|pair| pair == [false, true]), "room comes back");
}

#[test]
fn failures_come_once_or_for_good() {
    let (world, file, mut executor) = world(8, Faults::delays());
    world.plan(Kind::Write, Fault::Io);
    write(&mut executor, &file, 0, 1, 1).unwrap_err();
    write(&mut executor, &file, 0, 1, 1).unwrap();
    world.plan(Kind::Flush, Fault::IoForGood);
    flush(&mut executor, &file).unwrap_err();
    flush(&mut executor, &file).unwrap_err();
    write(&mut executor, &file, 0, 1, 1).expect("only flushes are broken");
    world.mend();
    flush(&mut executor, &file).unwrap();
}

#[test]
fn a_failed_write_may_have_been_done_in_part() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (world, file, mut executor) = world(seed, Faults::none());
        write(&mut executor, &file, 0, 1, 4).unwrap();
        world.plan(Kind::Write, Fault::Io);
        write(&mut executor, &file, 0, 2, 4).unwrap_err();
        let image: Vec<u8> = world.contents(name()).iter().step_by(SECTOR as usize).copied().collect();
        seen.insert(image);
    }
    assert!(seen.contains(&vec![1; 4]) && seen.len() > 4, "{seen:?}");
}

#[test]
fn operations_complete_out_of_order() {
    let mut orders = BTreeMap::new();
    for seed in 0..50 {
        let (_world, file, mut executor) = world(seed, Faults::delays());
        let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        for number in 0..3 {
            let (file, order) = (file.clone(), std::rc::Rc::clone(&order));
            executor.spawn(async move {
                file.write_at(number * SECTOR, buffers(1, 1)).await.unwrap();
                order.borrow_mut().push(number);
            });
        }
        executor.run().unwrap();
        *orders.entry(order.borrow().clone()).or_insert(0) += 1;
    }
    assert_eq!(orders.len(), 6, "{orders:?}");
}

#[test]
fn a_read_may_meet_a_write_half_way() {
    let mut halves = 0;
    for seed in 0..SEEDS {
        let (world, file, mut executor) = world(seed, Faults::delays());
        world.install(name(), &[1; 4 * SECTOR as usize]);
        let (one, other) = (file.clone(), file);
        executor.spawn(async move { one.write_at(0, buffers(2, 4)).await.map(drop) });
        let read =
            executor.spawn(async move { other.read_at(0, buffers(0, 4)).await.map(Buffers::into_single) });
        executor.run().unwrap();
        let bytes = read.take().unwrap().unwrap();
        halves += u32::from(bytes.contains(&1) && bytes.contains(&2));
        assert!(bytes.chunks(SECTOR as usize).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    }
    assert!(halves > 0);
}

#[test]
fn one_seed_one_outcome() {
    fn outcome(seed: u64) -> (u64, u64, u64) {
        let (world, file, mut executor) = world(seed, Faults::rotten());
        for number in 0..20 {
            let file = file.clone();
            executor.spawn(async move {
                let at = number % 7 * SECTOR;
                let wrote = file.write_at(at, buffers(number as u8 + 1, 3)).await.map(drop);
                wrote.and(file.flush(Held::NOTHING).await)
            });
        }
        executor.run_to_operation(15);
        (world.digest(), world.crash(seed).digest(), world.uncertain() as u64)
    }
    let outcomes: BTreeSet<_> = (0..50)
        .map(|seed| {
            assert_eq!(outcome(seed), outcome(seed), "seed {seed}");
            outcome(seed)
        })
        .collect();
    assert!(outcomes.len() > 40, "seeds differ: {}", outcomes.len());
}

#[test]
fn a_lost_wake_up_is_seen() {
    let (_world, _file, mut executor) = world(9, Faults::delays());
    let waits = executor.spawn(std::future::pending::<()>());
    assert_eq!(executor.run(), Err(Stuck { tasks: vec![waits.task()] }));
}

#[test]
fn extents_tell_holes() {
    let (_world, file, mut executor) = world(10, Faults::delays());
    write(&mut executor, &file, 64, 1, 8).unwrap();
    let asked = file.clone();
    let hole = executor.block_on(async move { asked.extent(0, 1 << 20).await }).unwrap().unwrap();
    assert_eq!((hole.kind, hole.len), (ExtentKind::Hole, 64 * SECTOR));
    let data = executor.block_on(async move { file.extent(64 * SECTOR, 1 << 20).await }).unwrap().unwrap();
    assert_eq!((data.kind, data.len), (ExtentKind::Data, 8 * SECTOR));
}
