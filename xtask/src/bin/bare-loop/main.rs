//! System calls and nothing else: what `cargo xtask compare` holds the engine against.

mod first_writes;
mod reads;

use anyhow::Result;
use clap::Parser;

/// Requests without an engine.
#[derive(Parser)]
enum What {
    FirstWrites(first_writes::Arguments),
    Reads(reads::Arguments),
}

fn main() -> Result<()> {
    match What::parse() {
        What::FirstWrites(arguments) => first_writes::run(&arguments),
        What::Reads(arguments) => reads::run(&arguments),
    }
}
