//! Law: whatever runs side by side, reads return what the model allows, nothing is stuck, and a clean close leaves an
//! image without a fault.

use quod_sim::{Executor, World};
use quod_trial::{Case, Guest, Leaks, assert_closed, close, open, spawn};

use crate::for_seeds;

fn run(seed: u64) -> (World, u64) {
    let case = Case::from_seed(seed);
    let place = format!("{case:?}");
    let (world, oracle) = crate::create(&case);
    let mut executor = Executor::new(&world, seed);
    let image = open(&case, &world, &mut executor).expect("a new image opens");
    let guest = Guest::new(image, oracle, &world);
    spawn(&case, &guest, &mut executor, seed);
    executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
    guest.assert_no_error(&place);
    guest.assert_no_violation(&place);
    guest.compare(&mut executor, &place);
    close(&guest, &mut executor, &place);
    assert_eq!(world.uncertain(), 0, "{place}: a clean close leaves nothing to be lost");
    assert_closed(&world, Leaks::None, &place);

    let image = open(&case, &world, &mut executor).expect("a closed image opens");
    let oracle = guest.oracle.take().closed();
    let guest = Guest::new(image, oracle, &world);
    guest.compare(&mut executor, &place);
    close(&guest, &mut executor, &place);
    let operations = world.operations();
    (world, operations)
}

#[test]
fn concurrent_requests_agree_with_the_model() {
    for_seeds(60, |seed| {
        run(seed);
    });
}

#[test]
fn one_seed_replays_to_the_same_bytes_and_operations() {
    for_seeds(5, |seed| {
        let ((one, operations), (other, again)) = (run(seed), run(seed));
        assert_eq!((one.digest(), operations), (other.digest(), again));
    });
}
