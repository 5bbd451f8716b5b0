//! `cargo xtask faults`: are the simulator, the laws and the models able to fail?
//!
//! Role: each patch in `crates/quod/faults/` breaks one rule of the engine. It is applied to a copy of the tree, and what its
//! `Finder:` line names must find it there.
//!
//! Invariant: the tree itself is not touched. A patch that does not apply or build is a failure, like one that is not
//! found; and a find is one only if the tree without the fault passes what failed with it.
//!
//! Absent on purpose: faults of other crates.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, target_directory};

/// Where the patches lie.
const PATCHES: &str = "crates/quod/faults";

/// What the tree is built from.
const TREE: [&str; 5] = [".cargo", "Cargo.lock", "Cargo.toml", "crates", "xtask"];

/// Built anew for each fault.
const ENGINE: &str = "crates/quod/src/lib.rs";

/// What finders say when they find something: the simulator, the models, the laws. Of a law any panic counts, since many
/// assertions of the engine and of the trials speak for it.
const BROKEN: [&str; 3] = ["a law is broken", "FAILED in run", "panicked at"];

/// Before the options of the trial that has failed.
const REPLAY: &str = "replay: cargo xtask ";

/// Of what a finder says, so much is shown at most.
const MOST_LINES: usize = 8;

/// What a finder has found.
struct Found {
    /// What it says of it.
    sentence: String,
    /// What fails by it: one trial, or the whole finder.
    run: Vec<String>,
}

/// A patch, and what it says of itself.
struct Fault {
    name: String,
    path: PathBuf,
    what: String,
    rule: String,
    finder: String,
}

/// Plants the faults whose names contain `name`, one after another, and tells what found each.
pub(crate) fn run(root: &Path, name: &str) -> Result<ExitCode> {
    let faults = read_all(&root.join(PATCHES))?;
    let chosen: Vec<&Fault> = faults.iter().filter(|fault| fault.name.contains(name)).collect();
    ensure!(!chosen.is_empty(), "no fault is called `{name}`");
    let place = target_directory(root).join("faults");
    let mut missed = 0;
    for fault in &chosen {
        println!("{}: {} ({})", fault.name, fault.what, fault.rule);
        if let Err(error) = fault.prove(root, &place) {
            println!("  NOT FOUND: {error:#}");
            missed += 1;
        }
    }
    println!("{} faults planted, {missed} of them not found", chosen.len());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_all(folder: &Path) -> Result<Vec<Fault>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension() == Some(OsStr::new("patch")));
    paths.sort();
    paths.iter().map(|path| Fault::read(path)).collect()
}

impl Fault {
    fn read(path: &Path) -> Result<Fault> {
        let text = fs::read_to_string(path)?;
        let line = |key: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(key));
            found.with_context(|| format!("{}: no line `{key}`", path.display()))
        };
        Ok(Fault {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.to_owned(),
            what: line("Fault: ")?.to_owned(),
            rule: line("Rule: ")?.to_owned(),
            finder: line("Finder: ")?.to_owned(),
        })
    }

    /// Plants it, sees it found, and sees what found it pass without it.
    fn prove(&self, root: &Path, place: &Path) -> Result<()> {
        self.plant(root, &place.join("tree"))?;
        let began = Instant::now();
        let Found { sentence, run } = self.find(place)?;
        println!("  found in {} s by `{}`", began.elapsed().as_secs(), self.finder);
        sentence.lines().for_each(|line| println!("  {}", line.trim()));
        let sound = finder_command(root, &run, &target_directory(root))?.output()?;
        ensure!(sound.status.success(), "`{}` fails without the fault, too", run.join(" "));
        Ok(())
    }

    /// Makes a fresh copy of the tree, with the fault in it.
    fn plant(&self, root: &Path, tree: &Path) -> Result<()> {
        if tree.exists() {
            fs::remove_dir_all(tree)?;
        }
        fs::create_dir_all(tree)?;
        let parts = TREE.iter().map(|part| root.join(part)).filter(|part| part.exists());
        // With times of change, so that little is built anew.
        let copied = Command::new("cp").args(["--archive"]).args(parts).arg(tree).status()?;
        ensure!(copied.success(), "the tree cannot be copied to {}", tree.display());
        let mut patch = Command::new("patch");
        patch
            .args(["--strip=1", "--forward", "--force", "--fuzz=0", "--silent", "--input"])
            .arg(&self.path)
            .current_dir(tree);
        let patched = patch.status().context("could not start patch (package patch)")?;
        ensure!(patched.success(), "{} does not apply any more", self.path.display());
        // The file that an earlier fault was in is an old one again, and no news to cargo.
        fs::File::options().append(true).open(tree.join(ENGINE))?.set_modified(SystemTime::now())?;
        Ok(())
    }

    /// Runs the finder in the copy.
    fn find(&self, place: &Path) -> Result<Found> {
        let finder = words(&self.finder);
        let output = finder_command(&place.join("tree"), &finder, &place.join("target"))?.output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(!errors.contains("could not compile"), "{} does not build:\n{errors}", self.path.display());
        ensure!(!output.status.success(), "`{}` finds nothing", self.finder);
        let lines = || told.lines().chain(errors.lines());
        let sentence = sentence(lines());
        ensure!(!sentence.is_empty(), "the finder failed without a finding:\n{told}{errors}");
        // The whole trial, not the one crash of it: without the fault, operations are counted otherwise.
        let trial = lines().find_map(|line| line.trim().strip_prefix(REPLAY));
        let trial = trial.and_then(|options| options.split(" --crash").next()).map(words);
        Ok(Found { sentence: sentence.join("\n"), run: trial.unwrap_or(finder) })
    }
}

/// From where a finder says that something is broken to what replays it.
fn sentence<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let broken = lines.skip_while(|line| !BROKEN.iter().any(|word| line.contains(word)));
    let mut sentence: Vec<&str> = broken.take(MOST_LINES).collect();
    if let Some(last) = sentence.iter().position(|line| line.contains(REPLAY)) {
        sentence.truncate(last + 1);
    }
    sentence
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// What a finder is run by in that tree: `sim` and `models` are chores; `laws NAME SEEDS` is a test of the trials.
fn finder_command(tree: &Path, words: &[String], target: &Path) -> Result<Command> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = cargo(tree);
    command.env("CARGO_TARGET_DIR", target);
    match words.as_slice() {
        ["sim", ..] => _ = command.arg("xtask").args(words).arg("--no-shrink"),
        ["models", ..] => _ = command.arg("xtask").args(words),
        ["laws", name, seeds] => {
            let build =
                ["test", "--quiet", "--profile", "trial", "--package", "quod-trial", "--test", "laws"];
            command.args(build).arg(name).env("QUOD_SIM_SEEDS", seeds).env("RUST_BACKTRACE", "0");
        }
        _ => bail!("nothing is known that finds by `{}`", words.join(" ")),
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether what a finder names is there: a form of trials, or a test of that name, or whose name begins so.
    fn is_there(root: &Path, finder: &str) -> bool {
        let holds = |folder: &str, sought: &str| {
            let mut grep = Command::new("grep");
            grep.args(["--recursive", "--quiet", "--fixed-strings", sought, folder]).current_dir(root);
            grep.status().is_ok_and(|status| status.success())
        };
        match finder.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["sim", "--form", form, ..] => holds("crates/quod-trial/src/form.rs", &format!("=> \"{form}\"")),
            ["laws", name, ..] => holds("crates/quod-trial/tests/laws", &format!("fn {name}")),
            ["models", path] => {
                path.rsplit("::").next().is_some_and(|name| holds("crates/quod/src", &format!("fn {name}")))
            }
            _ => false,
        }
    }

    /// A patch that has gone stale would be found out only by the long run.
    #[test]
    fn every_fault_can_be_planted_and_names_its_finder() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("below the root");
        let place = tempfile::tempdir().expect("a place for the copy");
        for fault in read_all(&root.join(PATCHES)).expect("patches") {
            assert!(is_there(root, &fault.finder), "{}: there is no `{}`", fault.name, fault.finder);
            fault.plant(root, &place.path().join("tree")).unwrap_or_else(|error| panic!("{error:#}"));
        }
    }
}
