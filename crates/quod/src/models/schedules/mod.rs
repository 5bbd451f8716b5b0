//! The engine whole, in very many schedules, by shuttle.
//!
//! Role: [`explore`] runs a model once a schedule: half of them with threads interleaved at random, half by priorities that
//! change at a few moments (PCT), which meets what takes few but rare interruptions. `QUOD_SCHEDULES` says how many,
//! `QUOD_SEED` which; the same seed gives the same schedules. A schedule that fails is written to a file, whose name
//! is told; `QUOD_REPLAY=file` runs that one again.
//!
//! Invariant: a model draws what it draws from shuttle, and looks at no hash map's order, so that a schedule is a run.
//!
//! Absent on purpose: stale reads, which shuttle does not know: those are for the kernels.

mod disk;
mod image;
mod storm;

use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::{Config, FailurePersistence, Runner};

use super::{begin, tell};

/// Moments at which priorities change, for PCT.
const DEPTH: usize = 3;

/// Runs a model in many schedules, or in the one that is to be replayed.
pub(crate) fn explore<F: Fn() + Send + Sync + 'static>(model: F) {
    let model = Arc::new(move || {
        begin();
        model();
    });
    if let Some(file) = std::env::var_os("QUOD_REPLAY") {
        let scheduler = ReplayScheduler::new_from_file(&file).expect("a schedule");
        tell("schedules, replayed", || {
            Runner::new(scheduler, config()).run(move || model());
        });
        return;
    }
    let (schedules, seed) = (number("QUOD_SCHEDULES", 1000), number("QUOD_SEED", 1));
    let (random, by_priorities) = (schedules.div_ceil(2), schedules / 2);
    tell(&format!("schedules from seed {seed}"), || {
        let again = Arc::clone(&model);
        let scheduler = RandomScheduler::new_from_seed(seed as u64, random);
        Runner::new(scheduler, config()).run(move || again());
        let scheduler = PctScheduler::new_from_seed(seed as u64, DEPTH, by_priorities);
        Runner::new(scheduler, config()).run(move || model());
    });
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn config() -> Config {
    let mut config = Config::new();
    // The futures of the engine lie on the stack of who waits for them.
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    let beside_the_tests = std::env::current_exe().ok().and_then(|test| test.parent().map(ToOwned::to_owned));
    config.failure_persistence = FailurePersistence::File(beside_the_tests);
    config
}
