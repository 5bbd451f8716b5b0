//! Law (D13): a future may be dropped at any await point. Nothing is stuck, nothing lands on what came later, and
//! crashes find nothing new.

use fastrand::Rng;
use quod_sim::Executor;
use quod_trial::{Asks, Case, Examiner, Guest, Leaks, assert_closed, close, open, spawn};

use crate::for_seeds;

/// Steps on; now and then drops a task in the middle and puts another in its place.
pub(crate) fn run_and_drop(
    case: &Case,
    guest: &Guest,
    executor: &mut Executor,
    dice: &mut Rng,
    steps: usize,
) {
    for _ in 0..steps {
        if !executor.step() {
            return;
        }
        let under_way = executor.under_way();
        if !under_way.is_empty() && dice.u32(..25) == 0 {
            executor.cancel(under_way[dice.usize(..under_way.len())]);
            let mut asks = Asks::new(case, guest.image.size(), dice.u64(..));
            executor.spawn(guest.clone().work(asks.take(8)));
        }
    }
}

fn run(seed: u64) {
    let case = Case::from_seed(seed);
    let place = format!("{case:?}, futures dropped");
    let examiner = Examiner::new(&case, 3);
    let mut dice = Rng::with_seed(seed ^ 0xd409);
    let (world, oracle) = crate::create(&case);
    let mut executor = Executor::new(&world, seed);
    let image = open(&case, &world, &mut executor).expect("a new image opens");
    let guest = Guest::new(image, oracle, &world);
    spawn(&case, &guest, &mut executor, seed);
    for _ in 0..4 {
        run_and_drop(&case, &guest, &mut executor, &mut dice, 300);
        examiner.crash_here(&world, &guest, 3, &mut dice, &place);
    }
    executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
    guest.assert_no_error(&place);
    guest.assert_no_violation(&place);
    guest.oracle.borrow_mut().model.settle();
    guest.compare(&mut executor, &place);
    close(&guest, &mut executor, &place);
    // What a dropped request has taken is leaked (D1).
    assert_closed(&world, Leaks::Inside, &place);
}

#[test]
fn futures_may_be_dropped_at_any_await_point() {
    for_seeds(25, run);
}
