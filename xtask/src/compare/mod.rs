//! `cargo xtask compare`: our speed as a ratio to a peer's, in the same run, on the same file.
//!
//! Role: alternating pairs of measurements and their medians, printed with what was run.
//!
//! Absent on purpose: thresholds. A noisy machine fails no test for its speed; people read the figures.

mod cliff;
mod first_writes;
mod server;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::peers;

/// What to compare.
#[derive(Subcommand)]
pub(crate) enum Comparison {
    /// Random reads over 400 L2 tables against 40 of them, through one NBD connection: ours and qemu-storage-daemon's
    Cliff(cliff::Arguments),
    /// First writes: ours, qemu-img bench's on QED and qcow2, and a bare loop's of the same system calls
    FirstWrites(first_writes::Arguments),
}

/// Builds the command as it is shipped, and measures.
pub(crate) fn run(root: &Path, comparison: &Comparison) -> Result<()> {
    peers::ensure()?;
    let what = [
        "build",
        "--release",
        "--package",
        "quod-cli",
        "--package",
        "xtask",
        "--bin",
        "quod",
        "--bin",
        "bare-loop",
    ];
    let status = crate::cargo::cargo(root).args(what).status()?;
    ensure!(status.success(), "the quod command does not build");
    let built = crate::cargo::target_directory(root).join("release");
    let quod = built.join("quod");
    match comparison {
        Comparison::Cliff(arguments) => cliff::run(&quod, arguments),
        Comparison::FirstWrites(arguments) => first_writes::run(&quod, &built.join("bare-loop"), arguments),
    }
}

/// The middle one of an odd number of measurements, or the mean of the two in the middle.
fn median(measured: &[f64]) -> Result<f64> {
    let mut sorted = measured.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).context("the median of no measurement")?;
    Ok(if sorted.len() % 2 == 1 { *upper } else { (sorted[middle - 1] + upper) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).unwrap(), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).unwrap(), 2.5);
        assert!(median(&[]).is_err());
    }
}
