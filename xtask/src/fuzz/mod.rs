//! `cargo xtask fuzz`: campaigns of the fuzz targets in `fuzz/`, and the smoke that CI runs.
//!
//! Role: builds targets with cargo-fuzz, runs them within bounds of time and memory, and says what was run, what was
//! covered, and where a finding lies.
//!
//! Invariant: exit status 0 means that every target that was asked for ran, and found nothing.
//!
//! Absent on purpose: what the targets do (`fuzz/src/`), and replaying without a fuzzer (`cargo test` in `fuzz/`).

mod progress;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use progress::Progress;

/// What each target of a smoke may take beside its corpus, in seconds.
const SMOKE_SECONDS: u64 = 10;

/// Bounds on one input: seconds, and MiB of the whole process; `fuzz/src/lib.rs` has a stricter one for what Rust allocates.
/// A machine that builds beside it is slow.
const BOUNDS: [&str; 2] = ["-timeout=30", "-rss_limit_mb=1024"];

/// What ends a campaign of many processes: left alone, libFuzzer counts time and memory out of bounds, and goes on.
const FINDINGS: [&str; 3] = ["-ignore_crashes=0", "-ignore_timeouts=0", "-ignore_ooms=0"];

/// What to fuzz.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A target; without it, all are listed
    target: Option<String>,
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Processes at a time; as many as the machine has cores when not given
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Instead: each target's corpus, and some seconds more
    #[arg(long, conflicts_with_all = ["target", "minutes", "jobs", "keep"])]
    smoke: bool,
    /// Instead: keep in the repository's corpus what it takes to cover all that campaigns have covered
    #[arg(long, requires = "target", conflicts_with_all = ["minutes", "jobs"])]
    keep: bool,
}

/// Does what was asked for.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<ExitCode> {
    let names = names(root)?;
    if arguments.smoke {
        return smoke(root, &names);
    }
    let Some(name) = &arguments.target else {
        names.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    };
    ensure!(names.contains(name), "there is no target `{name}`, but {}", names.join(", "));
    tools::ensure()?;
    tools::build(root, Some(name))?;
    let target = Target::new(root, name)?;
    if arguments.keep { target.keep() } else { target.campaign(arguments) }
}

/// The targets, by their files.
fn names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(root.join("fuzz/fuzz_targets")).context("there are no fuzz targets")? {
        let path = file?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Every target in turn.
fn smoke(root: &Path, names: &[String]) -> Result<ExitCode> {
    tools::ensure()?;
    tools::build(root, None)?;
    let mut failed = false;
    for name in names {
        failed |= !Target::new(root, name)?.smoke()?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One target, and where its files lie.
struct Target<'a> {
    name: &'a str,
    program: PathBuf,
    /// The corpus of the repository.
    corpus: PathBuf,
    /// What campaigns on this machine have added.
    grown: PathBuf,
    artifacts: PathBuf,
}

impl<'a> Target<'a> {
    fn new(root: &Path, name: &'a str) -> Result<Self> {
        let target = Target {
            name,
            program: tools::program(root, name)?,
            corpus: root.join("fuzz/corpus").join(name),
            grown: tools::directory(root).join("corpus").join(name),
            artifacts: root.join("fuzz/artifacts").join(name),
        };
        for directory in [&target.corpus, &target.grown, &target.artifacts] {
            fs::create_dir_all(directory)?;
        }
        Ok(target)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(BOUNDS).stdin(Stdio::null());
        command.arg(format!("-artifact_prefix={}/", self.artifacts.display()));
        command
    }

    /// Runs for minutes, in as many processes as wanted. Tells what came of it on the last lines.
    fn campaign(&self, arguments: &Arguments) -> Result<ExitCode> {
        let jobs = arguments.jobs.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        let mut command = self.command();
        command.arg(format!("-max_total_time={}", 60 * arguments.minutes));
        command.arg(format!("-fork={jobs}")).args(FINDINGS);
        command.args([&self.grown, &self.corpus]);
        let is_fine = self.watch(&mut command, |line| eprintln!("{line}"))?;
        Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The corpus, and some seconds more. Nothing is kept of what they find to be new.
    fn smoke(&self) -> Result<bool> {
        let scratch = tempfile::tempdir()?;
        let mut command = self.command();
        command.arg(format!("-max_total_time={SMOKE_SECONDS}")).arg(scratch.path()).arg(&self.corpus);
        self.watch(&mut command, |_| {})
    }

    /// Runs a fuzzer to its end; tells what came of it, and whether it found nothing.
    fn watch(&self, command: &mut Command, mut tell: impl FnMut(&str)) -> Result<bool> {
        let before = self.findings()?;
        let begun = Instant::now();
        let mut progress = Progress::default();
        let status = tools::lines_of(command, |line| {
            progress.take(line);
            tell(line);
        })?;
        let (name, seconds) = (self.name, begun.elapsed().as_secs());
        let new: Vec<_> = self.findings()?.into_iter().filter(|one| !before.contains(one)).collect();
        // Of an input of the corpus that does not end, a campaign's status tells nothing.
        let is_fine = status.success() && new.is_empty();
        let found = if is_fine { "nothing found" } else { "A FINDING" };
        println!("fuzz {name}: {progress} in {seconds} s, {found}");
        if !is_fine {
            println!("{}", progress.last_words());
            for file in new {
                println!("  it lies in {}", file.display());
                let manifest = "--manifest-path fuzz/Cargo.toml";
                println!("  replay: cargo run {manifest} --bin {name} -- {}", file.display());
            }
        }
        ensure!(!is_fine || progress.has_run(), "{name} ran no input");
        Ok(is_fine)
    }

    /// Inputs that libFuzzer has put down, but for those that were only slow.
    fn findings(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.artifacts)? {
            let file = file?;
            if !file.file_name().as_encoded_bytes().starts_with(b"slow-unit-") {
                found.push(file.path());
            }
        }
        Ok(found)
    }

    /// Inputs that are named by their hash go, and those come that together cover what all inputs do.
    fn keep(&self) -> Result<ExitCode> {
        let scratch = tempfile::tempdir()?;
        let mut command = self.command();
        // Without counters, one input for each edge is enough: some tens of them.
        command.args(["-set_cover_merge=1", "-use_counters=0"]).arg(scratch.path());
        let status = tools::lines_of(command.args([&self.grown, &self.corpus]), |_| {})?;
        if !status.success() {
            bail!("the corpus cannot be minimised: {status}");
        }
        for file in fs::read_dir(&self.corpus)? {
            let file = file?;
            if file.file_name().to_str().is_some_and(is_hash) {
                fs::remove_file(file.path())?;
            }
        }
        let mut kept = 0;
        for file in fs::read_dir(scratch.path())? {
            let file = file?;
            fs::copy(file.path(), self.corpus.join(file.file_name()))?;
            kept += 1;
        }
        println!("fuzz {}: {kept} inputs, and those that have names", self.name);
        Ok(ExitCode::SUCCESS)
    }
}

/// libFuzzer's names of inputs.
fn is_hash(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_with_names_of_their_own_are_not_hashes() {
        assert!(is_hash("efee72a2cf06630004b88d4726e030d2a818f8bc"));
        assert!(!is_hash("used_q4096_4_1M") && !is_hash(""));
    }

    #[test]
    fn every_target_has_a_corpus() {
        let root = crate::workspace_root().unwrap();
        let names = names(root).unwrap();
        assert!(names.len() >= 6, "{names:?}");
        for name in names {
            assert!(root.join("fuzz/corpus").join(&name).is_dir(), "{name}");
        }
    }
}
