//! `cargo xtask sim`: campaigns of the simulator.
//!
//! Absent on purpose: their options, which the program has that is started here.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::cargo;

/// Builds the simulator with all checks on, and runs a campaign.
pub(crate) fn run(root: &Path, options: &[OsString]) -> Result<ExitCode> {
    let build = ["run", "--quiet", "--profile", "trial", "--package", "quod-trial", "--"];
    let status = cargo(root).args(build).args(options).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
