//! `cargo xtask test`: every test of the workspace, with its peers, and a smoke of the models, closed by a line of counts.
//!
//! Invariant: the counts are the last line on standard output, and exit status 0 means that tests ran and none failed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::cargo;
use crate::tally::Tally;
use crate::{models, peers};

/// Gets the peers, builds the benches, runs all tests and a little of every model.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    peers::ensure()?;
    build_benches(root)?;
    let mut tally = run_tests(root)?;
    tally.add(models::explore(root, &models::Options::smoke())?);
    println!("{tally}");
    Ok(if tally.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Benches are measured by hand, but must build. `cargo test` builds the examples itself.
fn build_benches(root: &Path) -> Result<()> {
    let status = cargo(root).args(["test", "--workspace", "--benches", "--no-run"]).status()?;
    if !status.success() {
        bail!("the tests and benches do not build");
    }
    Ok(())
}

/// Passes the output of `cargo test` on as it comes, and counts.
fn run_tests(root: &Path) -> Result<Tally> {
    let mut tests = cargo(root)
        .args(["test", "--workspace", "--no-fail-fast"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start cargo")?;
    let output = tests.stdout.take().context("cargo's output is piped")?;

    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("could not read the output of cargo test")?;
        tally.take(&String::from_utf8_lossy(&line));
        let mut out = std::io::stdout().lock();
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }

    let status = tests.wait()?;
    if !status.success() && tally.failed == 0 {
        println!("cargo test failed ({status}) without counting a failed test: counted as one failure");
        tally.failed = 1;
    }
    Ok(tally)
}
