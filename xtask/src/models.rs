//! `cargo xtask models`: the engine under model checkers.
//!
//! Role: builds the engine once for each checker, in a folder of its own below `target/`, runs every model in a process of
//! its own, and prints how many runs each was. loom goes through a kernel whole (or within `--preemptions`); shuttle takes
//! `--schedules` of the whole engine.
//!
//! Invariant: exit status 0 means that models ran and all were clean. A model whose process ends without a word has failed.
//!
//! Absent on purpose: the models, which lie beside what they are of: `crates/quod/src/models/`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, target_directory};
use crate::tally::Tally;

/// What to explore, and how much of it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only models whose name contains this
    filter: Option<String>,
    /// Schedules of each model of the whole engine
    #[arg(long, default_value_t = 10_000)]
    schedules: u64,
    /// Which schedules
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Interrupt threads at most so often in one run of a kernel; without it, as often as it can be done
    #[arg(long)]
    preemptions: Option<u64>,
    /// Run one schedule of one model again: the file that its failure named
    #[arg(long, requires = "filter")]
    replay: Option<PathBuf>,
}

impl Options {
    /// Seconds of it, for every change.
    pub(crate) fn smoke() -> Self {
        Options { filter: None, schedules: 300, seed: 1, preemptions: Some(2), replay: None }
    }

    fn set(&self, model: &mut Command) {
        model.env("QUOD_SCHEDULES", self.schedules.to_string()).env("QUOD_SEED", self.seed.to_string());
        match self.preemptions {
            Some(bound) => model.env("QUOD_PREEMPTIONS", bound.to_string()),
            None => model.env_remove("QUOD_PREEMPTIONS"),
        };
        match &self.replay {
            Some(file) => model.env("QUOD_REPLAY", file),
            None => model.env_remove("QUOD_REPLAY"),
        };
    }
}

/// Each checker, and what the modules are called that have its models.
const CHECKERS: [(&str, &str); 2] = [("loom", "kernels"), ("shuttle", "schedules")];

/// A model, and the program that has it.
struct Model {
    checker: &'static str,
    program: PathBuf,
    name: String,
}

/// What became of one.
struct Outcome {
    clean: bool,
    runs: u64,
    /// What the checker said about them, or where it failed.
    told: String,
}

/// Runs them as a chore of its own.
pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let tally = explore(root, options)?;
    Ok(if tally.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds and runs all models that the filter names, and prints a line for each.
pub(crate) fn explore(root: &Path, options: &Options) -> Result<Tally> {
    let mut models = Vec::new();
    let filter = options.filter.as_deref().unwrap_or_default();
    for (checker, _) in CHECKERS.into_iter().filter(|(_, own)| may_name(filter, own)) {
        models.extend(build(root, checker, filter)?);
    }
    let outcomes = run_all(root, &models, options)?;
    let mut tally = Tally::default();
    let mut runs = 0;
    for (model, outcome) in models.iter().zip(&outcomes) {
        let Outcome { clean, runs: own, told } = outcome;
        println!("{:7} {:>9}  {}: {told}", model.checker, own, model.name);
        runs += own;
        *(if *clean { &mut tally.passed } else { &mut tally.failed }) += 1;
    }
    println!("models: {} clean, {} failed, {runs} runs in all", tally.passed, tally.failed);
    Ok(tally)
}

/// Whether the filter may name models of those modules: not when it names modules of another checker.
fn may_name(filter: &str, modules: &str) -> bool {
    let mut others = CHECKERS.iter().filter(|(_, other)| *other != modules);
    !others.any(|(_, other)| filter.split("::").any(|part| part == *other))
}

/// The models of one checker.
fn build(root: &Path, checker: &'static str, filter: &str) -> Result<Vec<Model>> {
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(&format!(" --cfg quod_{checker}"));
    let built = cargo(root)
        .args(["test", "--package", "quod", "--lib", "--profile", "models", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .env("CARGO_TARGET_DIR", target_directory(root).join("models").join(checker))
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stderr(Stdio::inherit())
        .output()
        .context("could not start cargo")?;
    if !built.status.success() {
        bail!("the models for {checker} do not build");
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let program = messages.lines().find_map(executable).context("cargo names no program")?;
    let listed = Command::new(&program).args(["--list", "models::"]).output().context("no list of models")?;
    let names = String::from_utf8_lossy(&listed.stdout);
    let names = names.lines().filter_map(|line| line.strip_suffix(": test"));
    let chosen = names.filter(|name| name.contains(filter));
    Ok(chosen.map(|name| Model { checker, program: program.clone(), name: name.to_owned() }).collect())
}

/// The program that a message of cargo's says it has built.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message.get("executable")?.as_str().map(PathBuf::from)
}

/// As many at a time as there are processors.
fn run_all(root: &Path, models: &[Model], options: &Options) -> Result<Vec<Outcome>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = Mutex::new(0..models.len());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(index) = next.lock().expect("no panic under it").next() else { break };
                    let outcome = run_one(root, &models[index], options);
                    outcomes.lock().expect("no panic under it").push((index, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("no panic under it");
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Runs one to its end. What a failure says is passed on.
fn run_one(root: &Path, model: &Model, options: &Options) -> Result<Outcome> {
    let mut command = Command::new(&model.program);
    command.args(["--exact", "--nocapture", model.name.as_str()]).current_dir(root).stdin(Stdio::null());
    options.set(&mut command);
    let output = command.output().with_context(|| format!("could not start {}", model.program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut outcome = read(&said, output.status.success());
    if !outcome.clean {
        println!("\n{said}{}", String::from_utf8_lossy(&output.stderr));
        outcome.told.push_str(&format!(" ({})", output.status));
    }
    Ok(outcome)
}

/// Sums up the lines that a model says about itself.
fn read(said: &str, succeeded: bool) -> Outcome {
    let mut outcome = Outcome { clean: succeeded, runs: 0, told: String::new() };
    for line in said.lines() {
        let clean = line.strip_prefix("model: clean in ").and_then(|rest| rest.split_once(' '));
        let failed = line.strip_prefix("model: failed in run ");
        if let Some((runs, what)) = clean {
            outcome.runs += runs.parse().unwrap_or(0);
            outcome.told = what.to_owned();
        }
        if let Some(run) = failed {
            outcome.clean = false;
            outcome.told = format!("FAILED in run {run}");
        }
    }
    if outcome.runs == 0 && outcome.told.is_empty() {
        outcome.clean = false;
        outcome.told = "FAILED without a run".to_owned();
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_model_are_summed_up() {
        let said = "running 1 test\n\nmodel: clean in 20 schedules from seed 1\n\nmodel: clean in 3 schedules from seed 1\n";
        let outcome = read(said, true);
        assert!(outcome.clean);
        assert_eq!((outcome.runs, outcome.told.as_str()), (23, "schedules from seed 1"));
    }

    #[test]
    fn a_filter_that_names_a_checkers_modules_builds_no_other() {
        assert!(
            may_name("models::kernels::locks", "kernels") && !may_name("models::kernels::locks", "schedules")
        );
        assert!(may_name("a_turn", "kernels") && may_name("a_turn", "schedules"));
    }

    #[test]
    fn a_model_that_failed_or_ran_nothing_is_not_clean() {
        let failed = read("model: clean in 20 schedules\nmodel: failed in run 7\n", false);
        assert_eq!((failed.clean, failed.told.as_str()), (false, "FAILED in run 7"));
        assert!(!read("running 0 tests\n", true).clean);
        assert!(!read("model: clean in 20 schedules\n", false).clean, "its process did not end well");
    }
}
