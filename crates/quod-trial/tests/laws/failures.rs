//! Law (D10): failures are reported, a failed flush latches, want of room does not; whatever failed, the next open
//! shows only what the model allows.

use fastrand::Rng;
use quod::{ErrorKind, Format, Fua, Room};
use quod_sim::{Executor, Fault, Faults, Kind, World};
use quod_storage::Buffer;
use quod_trial::{
    Ask, Case, Dropped, Examiner, Guest, Leaks, assert_closed, close, kill_and_reopen, open, spawn,
};

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

/// A write in place that fails or is dropped, whatever it has brought to the file; a look at it once it is over; a flush. Then
/// the power is cut: what was seen is there (D8).
#[test]
fn a_flush_makes_durable_what_was_seen_of_writes_that_came_to_no_good_end() {
    for_seeds(60, |seed| {
        let case = Case { size: 1 << 20, ..Case::from_seed(seed) };
        let place = format!("{case}, seed {seed}");
        let (world, oracle) = crate::create(&case);
        let mut executor = Executor::new(&world, seed);
        let image = open(&case, &world, &mut executor).expect("a new image opens");
        let guest = Guest::new(image, oracle, &world);
        let (at, len) = (0, 8192);
        let first = [Ask::Write { at, len, fua: Fua::Yes }, Ask::Read { at, len }];
        executor.block_on(guest.clone().work(first.to_vec())).expect("not stuck");
        let (asked, polls) = (guest.clone(), seed as u32 / 2 % 6);
        let ask = match seed % 3 {
            0 => Ask::Zero { at, len, room: Room::GiveBack, fua: Fua::No },
            _ => Ask::Write { at, len, fua: Fua::No },
        };
        if seed.is_multiple_of(2) {
            world.plan(Kind::Write, Fault::Io);
            executor.block_on(async move { asked.ask(ask).await }).expect("not stuck");
        } else {
            let dropped = Dropped { polls, woken: false };
            _ = executor.block_on(async move { asked.ask_and_drop(ask, dropped).await }).expect("not stuck");
        }
        executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
        let image = guest.image.clone();
        let seen = executor.block_on(async move {
            let seen = image.read(at, Buffer::zeroed(len as usize)).await.expect("a read");
            image.flush().await.expect("a flush");
            seen
        });
        let seen = seen.expect("not stuck");
        for survivors in 0..8 {
            let crashed = world.crash(survivors);
            let mut executor = Executor::new(&crashed, survivors);
            let image = open(&case, &crashed, &mut executor).expect("it opens after the crash");
            let read = async move { image.read(at, Buffer::zeroed(len as usize)).await };
            let there = executor.block_on(read).expect("not stuck").expect("a read");
            assert!(*there == *seen, "{place}: a crash with survivors {survivors} brings old bytes back");
        }
    });
}

/// First writes to parts of clusters over a base that cannot tell its holes for once (D5): they fail, or bring all of it.
#[test]
fn a_base_that_cannot_tell_its_holes_is_not_taken_for_one() {
    for_seeds(40, |seed| {
        let backing = Some((Format::Raw, 1 << 20));
        let case = Case { size: 1 << 20, cluster_size: 4096, backing, ..Case::from_seed(seed) };
        let place = format!("{case}, seed {seed}");
        let (world, oracle) = crate::create(&case);
        let mut executor = Executor::new(&world, seed);
        let image = open(&case, &world, &mut executor).expect("a new image opens");
        let guest = Guest::new(image, oracle, &world);
        // What the first allocation asks of the image itself.
        executor.block_on(guest.clone().work(vec![Ask::Maintain])).expect("not stuck");
        world.plan(Kind::Ask, Fault::Io);
        let mut dice = Rng::with_seed(seed);
        for cluster in [dice.u64(..256), dice.u64(..256)].map(|cluster| 4096 * cluster) {
            let first = Ask::Write { at: cluster + 512, len: 1024, fua: Fua::No };
            let asks = vec![first, Ask::Read { at: cluster, len: 4096 }];
            executor.block_on(guest.clone().work(asks)).expect("not stuck");
        }
        assert!(world.failures(Kind::Ask) > 0, "{place}: nobody asks");
        guest.assert_no_violation(&place);
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
