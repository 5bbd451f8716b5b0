//! Law: a raw disk keeps the same promises as an image: what a flush has covered is there after a crash, and nothing else
//! shows than what was written.

use fastrand::Rng;
use quod::{Format, OpenOptions};
use quod_sim::{Executor, Faults, Model, World, stamp};
use quod_storage::Access;
use quod_trial::{Ask, Asks, Case, Disk, Dropped, Guest, Oracle, close, disk};

use crate::drops::run_and_drop;
use crate::for_seeds;

fn open(world: &World, executor: &mut Executor, place: &str) -> Disk {
    let opener = world.opener();
    let options = OpenOptions { format: Some(Format::Raw), ..OpenOptions::new(Access::Write) };
    let opened = executor.block_on(async move { Disk::open(&opener, disk(), &options).await });
    opened.expect("open is not stuck").unwrap_or_else(|error| panic!("{place}: {error}"))
}

/// Cuts the power, opens what that leaves, and holds it against the model.
fn crash(world: &World, guest: &Guest, survivors: u64, place: &str) {
    let crashed = world.crash(survivors);
    let mut oracle = guest.oracle.borrow().clone();
    let place = format!("{place}, crash at tick {} with survivors {survivors}", world.ticks());
    oracle.crash(&place);
    let mut executor = Executor::new(&crashed, survivors);
    let image = open(&crashed, &mut executor, &place);
    oracle.allow_part_of_growth(image.size());
    let guest = Guest::new(image, oracle, &crashed);
    guest.compare_recovered(&mut executor, |_, _| true, &place);
    close(&guest, &mut executor, &place);
    assert_eq!(crashed.uncertain(), 0, "{place}: a close leaves nothing to be lost");
}

/// A raw disk of stamped bytes, open, and some tasks on it.
fn begin(seed: u64, place: &str) -> (Case, World, Guest, Executor) {
    let case = Case { backing: None, size: 1 << 20, ..Case::from_seed(seed) };
    let world = World::new(seed, case.faults());
    crate::trace(&world);
    let bytes = stamp::bytes(0, case.size as usize, stamp::BACKING);
    world.install(disk(), &bytes);
    let mut executor = Executor::new(&world, seed);
    let image = open(&world, &mut executor, place);
    let guest = Guest::new(image, Oracle::new(Model::new(case.size, bytes)), &world);
    let mut asks = Asks::new(&case, case.size, seed).with_growths(8);
    for _ in 0..1 + seed % 4 {
        executor.spawn(guest.clone().work(asks.take(12)));
    }
    (case, world, guest, executor)
}

/// Everything comes to its end, and the disk is closed.
fn end(world: &World, guest: &Guest, executor: &mut Executor, place: &str) {
    executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
    guest.assert_no_error(place);
    guest.assert_no_violation(place);
    guest.compare(executor, place);
    close(guest, executor, place);
    assert_eq!(world.uncertain(), 0, "{place}: a close leaves nothing to be lost");
}

#[test]
fn a_raw_disk_keeps_what_was_flushed() {
    for_seeds(40, |seed| {
        let place = format!("raw disk, seed {seed}");
        let (_, world, guest, mut executor) = begin(seed, &place);
        let mut dice = Rng::with_seed(seed ^ 0x4a3);
        let mut before = world.ticks();
        while executor.step() {
            if world.ticks() != before {
                before = world.ticks();
                crash(&world, &guest, dice.u64(..1 << 32), &place);
            }
        }
        end(&world, &guest, &mut executor, &place);
        assert_eq!(world.length(disk()), guest.image.size(), "{place}");
    });
}

#[test]
fn futures_of_requests_on_a_raw_disk_may_be_dropped() {
    for_seeds(40, |seed| {
        let place = format!("raw disk, futures dropped, seed {seed}");
        let (case, world, guest, mut executor) = begin(seed, &place);
        let mut dice = Rng::with_seed(seed ^ 0x4a4);
        for _ in 0..4 {
            run_and_drop(&case, &guest, &mut executor, &mut dice, 100);
            crash(&world, &guest, dice.u64(..1 << 32), &place);
        }
        end(&world, &guest, &mut executor, &place);
    });
}

#[test]
fn failures_on_a_raw_disk_show_nothing_forbidden() {
    for_seeds(40, |seed| {
        let place = format!("raw disk, failures, seed {seed}");
        let (case, world, guest, mut executor) = begin(seed, &place);
        world.set_faults(Faults { length_error: 300, write_error: 30, read_error: 10, ..case.faults() });
        let mut dice = Rng::with_seed(seed ^ 0x4a5);
        for _ in 0..4 {
            run_and_drop(&case, &guest, &mut executor, &mut dice, 100);
            crash(&world, &guest, dice.u64(..1 << 32), &place);
        }
        executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
        world.set_faults(case.faults());
        guest.errors.borrow_mut().clear();
        end(&world, &guest, &mut executor, &place);
        let image = open(&world, &mut executor, &place);
        let guest = Guest::new(image, guest.oracle.take().closed(), &world);
        guest.compare_reopened(&mut executor, &place);
    });
}

#[test]
fn a_close_waits_for_a_dropped_growth_of_a_raw_disk_and_makes_it_durable() {
    for_seeds(20, |seed| {
        let place = format!("raw disk, a growth dropped, seed {seed}");
        let (_, world, guest, mut executor) = begin(seed, &place);
        executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
        let (asked, dropped) = (guest.clone(), Dropped { polls: 0, woken: seed % 2 == 1 });
        let grown = async move {
            asked.ask(Ask::Flush).await;
            asked.ask_and_drop(Ask::Grow { by: 4096 }, dropped).await
        };
        executor.block_on(grown).expect("not stuck");
        close(&guest, &mut executor, &place);
        assert_eq!(
            (world.in_flight(), world.uncertain()),
            (0, 0),
            "{place}: a close leaves something to be lost"
        );
    });
}
