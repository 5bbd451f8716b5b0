//! Law: after a crash at any operation, with any choice of what survived, a writable open shows only what the model
//! allows; nothing is corrupt; the disk goes on being used, crashes again, and closes clean.
//!
//! Role: takes what one crash has left through all of that, and counts the images.
//!
//! Absent on purpose: what led to the crash (`trial.rs`).

use std::cell::RefCell;
use std::rc::Rc;

use fastrand::Rng;
use quod_sim::{Executor, World};
use quod_storage::Access;

use crate::ask::Asks;
use crate::case::{Case, Disk, disk};
use crate::compare::validate;
use crate::guest::{Guest, close, open};
use crate::layout::{Leaks, assert_closed, assert_crash_state, layout};
use crate::oracle::Oracle;
use crate::tally::Tally;

/// How many crashes may follow one another.
const CRASHES: u32 = 3;

/// Examines crashes of one disk.
#[derive(Clone, Debug)]
pub struct Examiner {
    case: Case,
    /// Of so many images, one is crashed again, used on, or both.
    rarely: u32,
    tally: Rc<RefCell<Tally>>,
}

/// Adds tasks to the executor that work on the disk, side by side.
pub fn spawn(case: &Case, guest: &Guest, executor: &mut Executor, seed: u64) {
    let tasks = 1 + seed as usize % 5;
    let mut asks = Asks::new(case, guest.image.size(), seed);
    for _ in 0..tasks {
        executor.spawn(guest.clone().work(asks.take(60 / tasks)));
    }
}

impl Examiner {
    /// `rarely`: of so many images one is crashed again while it is opened, one is used on, one crashes in that use.
    pub fn new(case: &Case, rarely: u32) -> Self {
        Examiner { case: *case, rarely, tally: Rc::default() }
    }

    /// What was counted.
    pub fn into_tally(self) -> Tally {
        self.tally.take()
    }

    pub(crate) fn tally(&self) -> &RefCell<Tally> {
        &self.tally
    }

    /// Cuts the power now; examines `choices` of what survives.
    ///
    /// # Panics
    /// When a law is broken.
    pub fn crash_here(&self, world: &World, guest: &Guest, choices: u32, dice: &mut Rng, place: &str) {
        guest.assert_no_violation(place);
        self.crash_in_use(world, &guest.oracle.borrow(), choices, 0, dice, place);
    }

    fn crash_in_use(
        &self,
        world: &World,
        oracle: &Oracle,
        choices: u32,
        depth: u32,
        dice: &mut Rng,
        place: &str,
    ) {
        let mut oracle = oracle.clone();
        oracle.crash(place);
        for _ in 0..choices {
            let survivors = dice.u64(..1 << 32);
            let place = format!("{place}, crash at tick {} with survivors {survivors}", world.ticks());
            self.examine(&world.crash(survivors), &oracle, depth + 1, survivors, &place);
        }
    }

    /// Opens what a crash has left, compares, goes on, and perhaps crashes again, in the middle of the repair or later.
    pub(crate) fn examine(&self, world: &World, oracle: &Oracle, depth: u32, seed: u64, place: &str) {
        self.tally.borrow_mut().image(world.digest());
        assert_crash_state(world, &self.case, place);
        let mut dice = Rng::with_seed(seed ^ 0xdeed);
        let may_crash = depth < CRASHES;
        if may_crash && dice.u32(..self.rarely) == 0 {
            self.crash_in_repair(world, oracle, depth, &mut dice, place);
        }
        let case = &self.case;
        let mut executor = Executor::new(world, seed);
        let image = open(case, world, &mut executor).unwrap_or_else(|error| panic!("{place}: {error}"));
        let guest = Guest::new(image, oracle.clone(), world);
        self.compare_recovered(&guest, world, &mut executor, &mut dice, place);
        let again = may_crash && dice.u32(..self.rarely) == 0;
        if again {
            spawn(case, &guest, &mut executor, seed);
            let stop = world.operations() + if dice.bool() { dice.u64(1..20) } else { dice.u64(1..150) };
            executor.run_to_operation(stop);
            guest.assert_no_violation(place);
            self.crash_in_use(world, &guest.oracle.borrow(), 1, depth, &mut dice, place);
        }
        if again || dice.u32(..self.rarely) == 0 {
            spawn(case, &guest, &mut executor, seed ^ 1);
            executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
            guest.assert_no_error(place);
            guest.assert_no_violation(place);
            guest.oracle.borrow().assert_followed(place);
            guest.compare(&mut executor, place);
        }
        let repaired = layout(world);
        assert!(
            repaired.invalid.is_empty() && repaired.twice.is_empty(),
            "{place}: after repair: {repaired:?}"
        );
        validate(&guest, &mut executor, place);
        close(&guest, &mut executor, place);
        // What a crash has leaked between referenced clusters stays leaked (D1).
        assert_closed(world, Leaks::after_crash(case), place);
    }

    /// Compares every cluster that has been touched since the disk was made or that has an entry in the file; now and then
    /// the others, too, which a crash cannot have changed.
    fn compare_recovered(
        &self,
        guest: &Guest,
        world: &World,
        executor: &mut Executor,
        dice: &mut Rng,
        place: &str,
    ) {
        let all = dice.u32(..16) == 0;
        let mapped = layout(world).mapped;
        let bytes = u64::from(self.case.cluster_size);
        let which = |oracle: &Oracle, cluster: u64| {
            all || mapped.contains(&cluster) || oracle.model.was_touched(cluster * bytes, bytes)
        };
        guest.compare_recovered(executor, which, place);
    }

    /// Cuts the power while the image is being opened, and examines what that leaves.
    fn crash_in_repair(&self, world: &World, oracle: &Oracle, depth: u32, dice: &mut Rng, place: &str) {
        // A copy of the world: a crash of one in which nothing is uncertain changes nothing.
        let copy = world.crash(0);
        let mut executor = Executor::new(&copy, dice.u64(..));
        let (opener, options) = (copy.opener(), self.case.options(Access::Write));
        executor.spawn(async move { Disk::open(&opener, disk(), &options).await.map(drop) });
        executor.run_to_operation(dice.u64(1..20));
        let place = format!("{place}, then in the repair");
        self.crash_in_use(&copy, oracle, 1, depth, dice, &place);
    }
}

/// The process ends as it is; the kernel comes to rest; the next open finds nothing forbidden.
///
/// # Panics
/// When a law is broken.
pub fn kill_and_reopen(case: &Case, world: &World, guest: &Guest, executor: Executor, place: &str) {
    drop(executor);
    world.settle();
    let mut oracle = guest.oracle.borrow().clone();
    oracle.kill(case.commit);
    let mut executor = Executor::new(world, case.seed);
    let image = open(case, world, &mut executor).unwrap_or_else(|error| panic!("{place}: {error}"));
    let guest = Guest::new(image, oracle, world);
    guest.compare_reopened(&mut executor, &format!("{place}, reopened"));
    close(&guest, &mut executor, place);
    assert_closed(world, Leaks::after_crash(case), place);
}
