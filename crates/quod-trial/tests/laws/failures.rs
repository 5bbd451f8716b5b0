//! Law (D10): failures are reported, a failed flush latches, want of room does not; whatever failed, the next open
//! shows only what the model allows.

use fastrand::Rng;
use quod::ErrorKind;
use quod_sim::{Executor, Faults, Kind, World};
use quod_trial::{Case, Examiner, Guest, Leaks, assert_closed, close, kill_and_reopen, open, spawn};

use crate::drops::run_and_drop;
use crate::for_seeds;

struct Run {
    case: Case,
    place: String,
    world: World,
    executor: Executor,
    guest: Guest,
    dice: Rng,
}

impl Run {
    fn new(seed: u64, faults: Faults) -> Self {
        let case = Case::from_seed(seed);
        let place = format!("{case:?}, failures");
        let (world, oracle) = crate::create(&case);
        let mut executor = Executor::new(&world, seed);
        let image = open(&case, &world, &mut executor).expect("a new image opens");
        world.set_faults(Faults { delay: case.faults().delay, ..faults });
        let guest = Guest::new(image, oracle, &world);
        spawn(&case, &guest, &mut executor, seed);
        Run { case, place, world, executor, guest, dice: Rng::with_seed(seed ^ 0xfa11) }
    }

    fn crash(&mut self) {
        let examiner = Examiner::new(&self.case, 3);
        examiner.crash_here(&self.world, &self.guest, 3, &mut self.dice, &self.place);
    }

    /// Lets everything come to an end, and mends the device.
    fn finish(&mut self) {
        self.executor.run().unwrap_or_else(|stuck| panic!("{}: {stuck}", self.place));
        self.guest.assert_no_violation(&self.place);
        self.world.set_faults(self.case.faults());
        self.world.set_full(false);
        self.world.mend();
        // Once a flush has failed, no flush succeeds, whoever had asked for it.
        let failed = self.world.failures(Kind::Flush) > 0;
        let guest = self.guest.clone();
        let flushed = self.executor.block_on(async move { guest.flush().await });
        let flushed = flushed.unwrap_or_else(|stuck| panic!("{}: {stuck}", self.place));
        assert!(!(failed && flushed.is_ok()), "{}: a flush succeeds after one that failed", self.place);
    }

    fn kill_and_reopen(self) {
        let Run { case, place, world, executor, guest, .. } = self;
        kill_and_reopen(&case, &world, &guest, executor, &place);
    }
}

#[test]
fn failures_show_nothing_forbidden() {
    for_seeds(40, |seed| {
        let mut run = Run::new(seed, Faults::rotten());
        let stop = run.world.operations() + run.dice.u64(20..200);
        run.executor.run_to_operation(stop);
        run.crash();
        run.finish();
        run.crash();
        run.kill_and_reopen();
    });
}

#[test]
fn want_of_room_never_latches() {
    for_seeds(40, |seed| {
        let mut run = Run::new(seed, Faults::tight());
        run.finish();
        for (ask, kind, sentence) in run.guest.errors.borrow().iter() {
            assert_eq!(*kind, ErrorKind::NoSpace, "{}: {ask:?}: {sentence}", run.place);
        }
        run.guest.errors.borrow_mut().clear();
        assert!(!run.guest.latched.get(), "{}", run.place);
        spawn(&run.case, &run.guest, &mut run.executor, seed ^ 7);
        run.finish();
        run.guest.assert_no_error(&run.place);
        run.guest.compare(&mut run.executor, &run.place);
        run.crash();
        close(&run.guest, &mut run.executor, &run.place);
        assert_closed(&run.world, Leaks::Inside, &run.place);
    });
}

#[test]
fn a_failed_flush_of_a_dropped_future_is_not_forgotten() {
    for_seeds(40, |seed| {
        let mut run = Run::new(seed, Faults { flush_error: 60, ..Faults::delays() });
        run_and_drop(&run.case, &run.guest, &mut run.executor, &mut run.dice, 1500);
        run.finish();
        run.crash();
    });
}
