//! Law: whatever happens at once (futures dropped, want of room, failures, a close among requests, crashes), nothing
//! forbidden shows, nothing is stuck, and a close that succeeds leaves what D14 says.

use fastrand::Rng;
use quod_sim::{Executor, Faults, Kind, World};
use quod_trial::{Asks, Case, Examiner, Guest, Leaks, assert_closed, kill_and_reopen, open};

use crate::for_seeds;

/// What else may happen beside dropped futures, delays and crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Now and then there is no room.
    Room,
    /// Reads, writes and flushes fail, too.
    Failures,
}

struct Chaos {
    case: Case,
    trouble: Trouble,
    place: String,
    world: World,
    guest: Guest,
    executor: Executor,
    dice: Rng,
}

impl Chaos {
    fn new(seed: u64, trouble: Trouble) -> Self {
        let case = Case::from_seed(seed);
        let place = format!("{case:?}, chaos with {trouble:?}");
        let (world, oracle) = crate::create(&case);
        let mut executor = Executor::new(&world, seed);
        let image = open(&case, &world, &mut executor).expect("a new image opens");
        let guest = Guest::new(image, oracle, &world);
        Chaos { case, trouble, place, world, guest, executor, dice: Rng::with_seed(seed ^ 0xc0c0) }
    }

    fn spawn(&mut self, tasks: usize, requests: usize) {
        let mut asks = Asks::new(&self.case, self.guest.image.size(), self.dice.u64(..));
        for _ in 0..tasks {
            self.executor.spawn(self.guest.clone().work(asks.take(requests)));
        }
    }

    /// Steps on, and drops about one task in so many steps for another.
    fn storm(&mut self, steps: usize, rate: u32) {
        for _ in 0..steps {
            if !self.executor.step() {
                return;
            }
            let under_way = self.executor.under_way();
            if !under_way.is_empty() && self.dice.u32(..rate) == 0 {
                self.executor.cancel(under_way[self.dice.usize(..under_way.len())]);
                self.spawn(1, 8);
            }
        }
    }

    fn crash(&mut self) {
        let examiner = Examiner::new(&self.case, 3);
        examiner.crash_here(&self.world, &self.guest, 3, &mut self.dice, &self.place);
    }

    fn faults(&mut self) -> Faults {
        let scarce = Faults { full: 40, full_for: 5..=150, ..Faults::delays() };
        match (self.dice.u32(..4), self.trouble) {
            (0, _) => Faults::delays(),
            (1 | 2, _) => scarce,
            (_, Trouble::Room) => Faults { full: 100, full_for: 1..=10, read_error: 5, ..scarce },
            (_, Trouble::Failures) => {
                Faults { flush_error: 10, write_error: 8, read_error: 5, full: 10, ..Faults::delays() }
            }
        }
    }

    fn rounds(&mut self) {
        let delay = [1, 4, 10, 40][self.dice.usize(..4)];
        for _ in 0..4 {
            let faults = self.faults();
            self.world.set_faults(Faults { delay, ..faults });
            let tasks = [1, 4, 12][self.dice.usize(..3)];
            self.spawn(tasks, 40 / tasks + 2);
            let rate = [6, 25, 100][self.dice.usize(..3)];
            self.storm(400, rate);
            self.crash();
        }
    }

    /// A close among requests, which may be dropped.
    fn close_in_the_middle(&mut self) {
        let image = self.guest.image.clone();
        let closing = self.executor.spawn(async move { image.close().await.is_ok() });
        self.storm(60, 10);
        match closing.take() {
            Some(true) => assert_closed(&self.world, Leaks::Inside, &self.place),
            Some(false) => {}
            None => _ = self.executor.cancel(closing.task()),
        }
        self.crash();
    }

    fn is_sound(&self) -> bool {
        self.world.failures(Kind::Flush) == 0
    }

    fn mend(&mut self) {
        self.world.set_faults(self.case.faults());
        self.world.set_full(false);
        self.world.mend();
    }

    /// Closes in order; tells whether that succeeded.
    fn close(&mut self) -> bool {
        self.guest.compare(&mut self.executor, &self.place);
        let image = self.guest.image.clone();
        let closed = self.executor.block_on(async move { image.close().await }).expect("not stuck");
        assert!(closed.is_ok() || self.trouble == Trouble::Failures, "{}: {closed:?}", self.place);
        if closed.is_ok() {
            assert_closed(&self.world, Leaks::Inside, &self.place);
        }
        closed.is_ok()
    }

    fn kill_and_reopen(self) {
        let Chaos { case, place, world, executor, guest, .. } = self;
        kill_and_reopen(&case, &world, &guest, executor, &place);
    }
}

fn run(seed: u64, trouble: Trouble) {
    let mut chaos = Chaos::new(seed, trouble);
    chaos.rounds();
    let end = chaos.dice.u32(..4);
    if end == 0 {
        chaos.close_in_the_middle();
    } else {
        let place = &chaos.place;
        chaos.executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
    }
    chaos.guest.assert_no_violation(&chaos.place);
    chaos.mend();
    let closed = end == 3 && chaos.is_sound() && chaos.close();
    if !closed {
        chaos.crash();
    }
    // After a failed flush only a crash tells what is there: a page cache shows more, and its next flush fails.
    if chaos.is_sound() {
        chaos.kill_and_reopen();
    }
}

#[test]
fn want_of_room_at_any_moment_shows_nothing_forbidden() {
    for_seeds(30, |seed| run(seed, Trouble::Room));
}

#[test]
fn failures_at_any_moment_show_nothing_forbidden() {
    for_seeds(30, |seed| run(seed, Trouble::Failures));
}
