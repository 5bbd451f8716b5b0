//! The project's own chores: `cargo xtask test`, `sim`, `models`, `faults`, `fuzz`, `compare`, `instructions`, `tidy`
//! and others.
//!
//! Role: what a person and CI type to know that a change is good.
//!
//! Absent on purpose: anything that the published crates need to build or run.

mod cargo;
mod compare;
mod faults;
mod fuzz;
mod instructions;
mod models;
mod peers;
mod sim;
mod tally;
mod test;
mod tidy;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Chore {
    /// Install the foreign tools that the tests compare with, by apt, where they are missing
    Peers,
    /// Install missing peers, run every test, and close with a line of counts
    Test,
    /// Crash the engine in a simulated world after every storage operation (`--help` lists its options)
    #[command(disable_help_flag = true)]
    Sim {
        /// Options of the campaign
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Plant faults in a copy of the engine, and see that the simulator, a law or a model finds each of them
    Faults {
        /// Those whose names contain this
        #[arg(default_value = "")]
        name: String,
    },
    /// Fuzz a target of `fuzz/` for minutes, or each for seconds
    Fuzz(fuzz::Arguments),
    /// Measure against peers, in turns on the same files; write medians, ratios and plots to docs/performance
    Compare(compare::Arguments),
    /// Count the instructions of requests, and hold them against the numbers that were accepted
    Instructions(instructions::Arguments),
    /// Run the engine under model checkers: kernels in every interleaving, the whole in many schedules
    Models(models::Options),
    /// Check what a machine can check of the project's rules
    Tidy,
}

fn main() -> Result<ExitCode> {
    let root = workspace_root()?;
    match Chore::parse() {
        Chore::Peers => peers::ensure().map(|()| ExitCode::SUCCESS),
        Chore::Test => test::run(root),
        Chore::Sim { options } => sim::run(root, &options),
        Chore::Faults { name } => faults::run(root, &name),
        Chore::Fuzz(arguments) => fuzz::run(root, &arguments),
        Chore::Compare(arguments) => compare::run(root, &arguments).map(|()| ExitCode::SUCCESS),
        Chore::Instructions(arguments) => instructions::run(root, &arguments),
        Chore::Models(options) => models::run(root, &options),
        Chore::Tidy => tidy::run(root),
    }
}

fn workspace_root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies directly below the workspace root")
}
