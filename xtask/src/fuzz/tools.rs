//! The nightly toolchain and cargo-fuzz.
//!
//! Role: [`ensure()`] leaves with both, or with an error that says how to get them; [`build`] builds targets.
//!
//! Absent on purpose: installing a toolchain. Whoever has rustup chooses that.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::peers;

const NIGHTLY: &str = "fuzzing needs a nightly toolchain: rustup toolchain install nightly --profile minimal";

/// Installs what is missing.
///
/// # Errors
/// When there is no nightly toolchain, or something cannot be installed.
pub(super) fn ensure() -> Result<()> {
    let nightly = nightly(&["--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(nightly.context(NIGHTLY)?.success(), NIGHTLY);
    peers::ensure()?;
    let fuzz = nightly_fuzz().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !fuzz.success() {
        eprintln!("installing: cargo-fuzz");
        let status = Command::new("cargo").args(["install", "cargo-fuzz", "--locked"]).status()?;
        ensure!(status.success(), "cargo-fuzz cannot be installed: {status}");
    }
    Ok(())
}

fn nightly(arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(arguments);
    // Cargo tells what runs in it which one it is: the stable one.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn nightly_fuzz() -> Command {
    nightly(&["fuzz"])
}

/// Builds one target, or all, without a sanitizer: what is unsafe lies in one file, and the targets assert for themselves.
///
/// # Errors
/// They do not build.
pub(super) fn build(root: &Path, name: Option<&str>) -> Result<()> {
    let mut command = nightly_fuzz();
    command.current_dir(root).args(["build", "--sanitizer", "none", "--target-dir"]).arg(directory(root));
    let status = command.args(name).status()?;
    ensure!(status.success(), "the fuzz targets do not build");
    Ok(())
}

/// Where all that is built and grown for fuzzing lies.
pub(super) fn directory(root: &Path) -> PathBuf {
    crate::cargo::target_directory(root).join("fuzz")
}

/// Where [`build`] has put a target.
///
/// # Errors
/// It is not there.
pub(super) fn program(root: &Path, name: &str) -> Result<PathBuf> {
    let directory = directory(root);
    for triple in std::fs::read_dir(&directory)? {
        let program = triple?.path().join("release").join(name);
        if program.is_file() {
            return Ok(program);
        }
    }
    bail!("there is no `{name}` below {}", directory.display())
}

/// Runs a command, and gives each line of its standard error away.
///
/// # Errors
/// It cannot be run.
pub(super) fn lines_of(command: &mut Command, mut take: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let output = child.stderr.take().context("its standard error is piped")?;
    for line in BufReader::new(output).split(b'\n') {
        take(&String::from_utf8_lossy(&line?));
    }
    Ok(child.wait()?)
}
