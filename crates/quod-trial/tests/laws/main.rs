//! Laws beside those of the trials: random guests, dropped futures, failures, all of it at once, over many seeds.
//!
//! `QUOD_SIM_SEEDS` says how many seeds (a smoke number by default), `QUOD_SIM_SEED` runs one of them alone,
//! `QUOD_SIM_TRACE` tells what happens; a failure prints its seed, and where the crash was.

mod chaos;
mod concurrent;
mod create;
mod drops;
mod failures;
mod grouped;
mod raw;
mod repair;
mod trials;

use std::env;

use quod_sim::World;
use quod_trial::{Case, Oracle};

/// Says which seed it was when a test fails in the middle.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with QUOD_SIM_SEED={}", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Makes the disk of a case; tells what happens on it where that is asked for.
fn create(case: &Case) -> (World, Oracle) {
    let (world, oracle) = case.create();
    trace(&world);
    (world, oracle)
}

/// Tells what happens there, where that is asked for.
fn trace(world: &World) {
    if env::var_os("QUOD_SIM_TRACE").is_some() {
        world.trace();
    }
}

/// Runs a law for every seed.
fn for_seeds(smoke: u64, law: impl Fn(u64)) {
    let seeds = match number("QUOD_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QUOD_SIM_SEEDS").unwrap_or(smoke),
    };
    for seed in seeds {
        let _told = Told(seed.to_string());
        law(seed);
    }
}
