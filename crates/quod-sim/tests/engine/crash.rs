//! Law: after a crash at any operation, with any choice of what survived, a writable open shows only what the model
//! allows; nothing is corrupt; the disk goes on being used, crashes again, and closes clean.

use fastrand::Rng;
use quod_sim::{Executor, World};

use crate::concurrent::spawn;
use crate::for_seeds;
use crate::guest::{Guest, Oracle, close, open};
use crate::layout::{Leaks, assert_closed, assert_crash_state, check, layout};
use crate::setup::Case;

/// How many crashes may follow one another.
const CRASHES: u32 = 3;

/// Opens what a crash has left, compares, goes on, and perhaps crashes again, in the middle of the repair or later.
pub(crate) fn examine(case: &Case, world: &World, oracle: &Oracle, depth: u32, seed: u64, place: &str) {
    assert_crash_state(world, place);
    let mut dice = Rng::with_seed(seed ^ 0xdeed);
    if depth < CRASHES && dice.u32(..3) == 0 {
        crash_in_repair(case, world, oracle, depth, &mut dice, place);
    }
    let mut executor = Executor::new(world, seed);
    let image = open(case, world, &mut executor).unwrap_or_else(|error| panic!("{place}: {error}"));
    let guest = Guest::new(image, oracle.clone());
    guest.compare(&mut executor, true, place);
    let again = depth < CRASHES && dice.u32(..3) == 0;
    if again {
        spawn(case, &guest, &mut executor, seed);
        let stop = world.operations() + if dice.bool() { dice.u64(1..20) } else { dice.u64(1..150) };
        executor.run_to_operation(stop);
        crash_here(case, world, &guest, depth, &mut dice, place);
    }
    if again || dice.u32(..3) == 0 {
        spawn(case, &guest, &mut executor, seed ^ 1);
        executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
        guest.assert_no_error(place);
        guest.assert_no_violation(place);
        guest.compare(&mut executor, false, place);
    }
    let repaired = layout(world);
    assert!(repaired.invalid.is_empty() && repaired.twice.is_empty(), "{place}: after repair: {repaired:?}");
    close(&guest, &mut executor, place);
    // What a crash has leaked between referenced clusters stays leaked (D1).
    assert_closed(world, Leaks::after_crash(case), place);
}

/// Cuts the power while the image is being opened, and examines what that leaves.
fn crash_in_repair(case: &Case, world: &World, oracle: &Oracle, depth: u32, dice: &mut Rng, place: &str) {
    // A copy of the world: a crash of one in which nothing is uncertain changes nothing.
    let copy = world.crash(0);
    let mut executor = Executor::new(&copy, dice.u64(..));
    let (opener, options) = (copy.opener(), case.options(quod_storage::Access::Write));
    executor.spawn(async move {
        crate::setup::Disk::open(&opener, crate::setup::disk(), &options).await.map(drop)
    });
    let stop = dice.u64(1..20);
    executor.run_to_operation(stop);
    let mut oracle = oracle.clone();
    oracle.model.crash();
    let survivors = dice.u64(..1 << 32);
    let place = format!("{place}, then in the repair at operation {stop} with survivors {survivors}");
    examine(case, &copy.crash(survivors), &oracle, depth + 1, survivors, &place);
}

/// Cuts the power now; examines some choices of what survives.
pub(crate) fn crash_here(case: &Case, world: &World, guest: &Guest, depth: u32, dice: &mut Rng, place: &str) {
    guest.assert_no_violation(place);
    let mut oracle = guest.oracle.borrow().clone();
    oracle.model.crash();
    for _ in 0..if depth == 0 { 3 } else { 1 } {
        let survivors = dice.u64(..1 << 32);
        let operation = world.operations();
        let place = format!("{place}, crash at operation {operation} with survivors {survivors}");
        examine(case, &world.crash(survivors), &oracle, depth + 1, survivors, &place);
    }
}

/// Gives the disk a past: tables, data, a clean close.
fn use_and_close(case: &Case, world: &World, oracle: Oracle, place: &str) -> Oracle {
    let mut executor = Executor::new(world, case.seed ^ 2);
    let image = open(case, world, &mut executor).expect("a new image opens");
    let guest = Guest::new(image, oracle);
    spawn(case, &guest, &mut executor, case.seed ^ 3);
    executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
    close(&guest, &mut executor, place);
    guest.assert_no_error(place);
    guest.oracle.take().closed()
}

fn run(seed: u64) {
    let case = Case::from_seed(seed);
    let place = format!("{case:?}");
    let mut dice = Rng::with_seed(seed ^ 0xc4a5);
    let (world, model) = case.create();
    let mut executor = Executor::new(&world, seed);
    let mut oracle = Oracle::new(model);
    if dice.bool() {
        oracle = use_and_close(&case, &world, oracle, &place);
    }
    let image = open(&case, &world, &mut executor).expect("a closed image opens");
    let guest = Guest::new(image, oracle);
    spawn(&case, &guest, &mut executor, seed);
    let closing = dice.bool();
    let mut close = Some(guest.image.clone()).filter(|_| closing);
    loop {
        let stop = world.operations() + if dice.bool() { dice.u64(1..8) } else { dice.u64(1..80) };
        let more = executor.run_to_operation(stop);
        crash_here(&case, &world, &guest, 0, &mut dice, &place);
        if more {
            continue;
        }
        let Some(image) = close.take() else { break };
        executor.spawn(async move { image.close().await });
    }
    guest.assert_no_error(&place);
}

/// The process ends as it is; the kernel comes to rest; the next open finds nothing forbidden.
pub(crate) fn kill_and_reopen(case: &Case, world: &World, guest: &Guest, executor: Executor, place: &str) {
    drop(executor);
    world.settle();
    let mut oracle = guest.oracle.borrow().clone();
    oracle.model.kill();
    let mut executor = Executor::new(world, case.seed);
    let image = open(case, world, &mut executor).unwrap_or_else(|error| panic!("{place}: {error}"));
    let guest = Guest::new(image, oracle);
    guest.compare(&mut executor, false, &format!("{place}, reopened"));
    close(&guest, &mut executor, place);
    assert_closed(world, Leaks::after_crash(case), place);
}

#[test]
fn every_crash_leaves_what_the_model_allows() {
    for_seeds(25, run);
}

#[test]
fn a_killed_process_loses_no_completed_write() {
    for_seeds(25, |seed| {
        let case = Case::from_seed(seed);
        let place = format!("{case:?}, killed");
        let (world, model) = case.create();
        let mut executor = Executor::new(&world, seed);
        let image = open(&case, &world, &mut executor).expect("a new image opens");
        let guest = Guest::new(image, Oracle::new(model));
        spawn(&case, &guest, &mut executor, seed);
        executor.run_to_operation(seed * 7 % 200);
        drop(executor);
        world.settle();
        let mut oracle = guest.oracle.borrow().clone();
        oracle.model.kill();
        let mut executor = Executor::new(&world, seed);
        let image = open(&case, &world, &mut executor).unwrap_or_else(|error| panic!("{place}: {error}"));
        let guest = Guest::new(image, oracle);
        guest.compare(&mut executor, false, &place);
        assert_eq!(check(&world, &place).corruptions, 0, "{place}");
        close(&guest, &mut executor, &place);
        assert_closed(&world, Leaks::after_crash(&case), &place);
    });
}
