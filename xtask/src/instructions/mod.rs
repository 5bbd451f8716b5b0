//! `cargo xtask instructions`: how many instructions requests cost, held against the numbers that were accepted.
//!
//! Role: counts `crates/quod/benches/instructions` by valgrind, prints each count beside its accepted number, and fails
//! when one has grown by more than 5 %. `--accept` makes the counts the numbers; `--page` says where they are spent, in
//! `docs/performance/instructions.md`.
//!
//! Invariant: a count without a number, or a number without a count, fails as well: nothing goes on unwatched.
//!
//! Absent on purpose: time, which a noisy machine cannot hold anybody to.

mod counts;
mod page;
mod places;
mod profile;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo::{cargo, target_directory};
use crate::peers;
use counts::{Accepted, Counts, Taken};

/// The accepted numbers.
const NUMBERS: &str = "crates/quod/benches/instructions.toml";
/// Requests of each count, as the bench has it.
const REQUESTS: u64 = 1000;

/// What to do with the counts.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write them to crates/quod/benches/instructions.toml
    #[arg(long)]
    accept: bool,
    /// Write where they are spent, and those of an NBD read, to docs/performance/instructions.md
    #[arg(long)]
    page: bool,
}

/// What was counted of one bench.
struct Counted {
    instructions: u64,
    /// The program that ran.
    program: PathBuf,
    /// Where they are, as valgrind wrote it down.
    profile: PathBuf,
}

/// Counts, and judges or accepts.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<ExitCode> {
    peers::ensure()?;
    let runner = runner(root)?;
    let counted = count(root, &runner)?;
    if arguments.page {
        page::write(root, &counted)?;
    }
    let counts: Counts = counted.iter().map(|(name, counted)| (name.clone(), counted.instructions)).collect();
    let numbers = root.join(NUMBERS);
    let taken = Taken::here()?;
    if arguments.accept {
        fs::write(&numbers, counts::text(&taken, &counts)).with_context(|| NUMBERS)?;
        return Ok(ExitCode::SUCCESS);
    }
    let accepted = fs::read_to_string(&numbers).with_context(|| NUMBERS)?;
    let accepted: Accepted = toml::from_str(&accepted).with_context(|| NUMBERS)?;
    let judged = counts::judge(&accepted, &counts);
    print!("{judged}");
    if !judged.failed {
        return Ok(ExitCode::SUCCESS);
    }
    for difference in accepted.taken.differences(&taken) {
        println!("The numbers were not counted here: {difference}.");
    }
    println!(
        "If it is to be so: `cargo xtask instructions --accept`, and a commit of {NUMBERS} with the reason."
    );
    Ok(ExitCode::FAILURE)
}

/// The program that runs valgrind for the bench: of the version that the bench is built with, or it refuses.
fn runner(root: &Path) -> Result<PathBuf> {
    let version = locked_version(&fs::read_to_string(root.join("Cargo.lock"))?)?;
    let place = std::path::absolute(target_directory(root).join(format!("gungraun-runner-{version}")))?;
    let runner = place.join("bin/gungraun-runner");
    if !runner.is_file() {
        let status = cargo(root)
            .args(["install", "--locked", "--debug", "--no-track", "--version", &version, "--root"])
            .arg(&place)
            .arg("gungraun-runner")
            // It waits for valgrind nearly all the time, so what builds quickest will do.
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .status()?;
        ensure!(status.success(), "gungraun-runner {version} cannot be installed: {status}");
    }
    Ok(runner)
}

fn locked_version(lock: &str) -> Result<String> {
    let lock: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let mut named = packages.filter(|one| one.get("name").and_then(toml::Value::as_str) == Some("gungraun"));
    let version = named.next().and_then(|one| one.get("version")).and_then(toml::Value::as_str);
    Ok(version.context("Cargo.lock has no gungraun")?.to_owned())
}

/// Builds the bench and counts.
fn count(root: &Path, runner: &Path) -> Result<BTreeMap<String, Counted>> {
    let bench = cargo(root)
        .args(["bench", "--package", "quod", "--bench", "instructions", "--"])
        .args(["--output-format=json", "--callgrind-args=cache-sim=no dump-instr=yes"])
        .env("GUNGRAUN_RUNNER", runner)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("could not start cargo")?;
    ensure!(bench.status.success(), "the bench failed: {}", bench.status);
    let told = String::from_utf8(bench.stdout)?;
    let lines = told.lines().filter(|line| line.starts_with('{'));
    let counted: BTreeMap<_, _> = lines.map(|line| counted(root, line)).collect::<Result<_>>()?;
    if counted.is_empty() {
        bail!("the bench told no counts: {told}");
    }
    Ok(counted)
}

/// What a line of the bench says: its name, and what was counted.
fn counted(root: &Path, line: &str) -> Result<(String, Counted)> {
    let told: Value = serde_json::from_str(line)?;
    let word = |key: &str| told[key].as_str().with_context(|| format!("no {key} in {line}"));
    let instructions = told["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"].as_u64();
    let directory = root.join(word("output_dir")?);
    let is_profile = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "out");
    let mut files = fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(is_profile);
    let profile = files.pop().with_context(|| format!("no profile in {}", directory.display()))?;
    Ok((
        word("function_name")?.to_owned(),
        Counted {
            instructions: instructions.with_context(|| format!("no instructions in {line}"))?,
            program: root.join(word("benchmark_exe")?),
            profile,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::locked_version;

    #[test]
    fn the_runner_is_of_the_version_that_is_locked() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n[[package]]\nname = \"gungraun\"\nversion = \"0.20.1\"\n";
        assert_eq!(locked_version(lock).unwrap(), "0.20.1");
        assert!(locked_version("[[package]]\nname = \"gungraun-runner\"\nversion = \"1.0.0\"\n").is_err());
    }
}
