//! What a campaign has seen.
//!
//! Role: counts trials, crash points and images, by form and by geometry; images are told apart by hash.
//!
//! Invariant: sums are of the images themselves: one that two forms have met counts once.
//!
//! Absent on purpose: verdicts: a broken law is a panic.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

/// Counts of some trials.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Tally {
    trials: u64,
    crash_points: u64,
    examined: u64,
    distinct: HashSet<u64>,
}

impl Tally {
    /// A trial has begun.
    pub(crate) fn trial(&mut self) {
        self.trials += 1;
    }

    /// A moment at which the power was cut.
    pub(crate) fn crash_point(&mut self) {
        self.crash_points += 1;
    }

    /// What a crash has left.
    pub(crate) fn image(&mut self, digest: u64) {
        self.examined += 1;
        self.distinct.insert(digest);
    }

    /// Trials that were begun.
    pub fn trials(&self) -> u64 {
        self.trials
    }

    /// Post-crash images that differ.
    pub fn distinct(&self) -> u64 {
        self.distinct.len() as u64
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Tally) {
        self.trials += other.trials;
        self.crash_points += other.crash_points;
        self.examined += other.examined;
        self.distinct.extend(&other.distinct);
    }
}

/// A table of tallies by name, closed by their sum.
pub fn report(heading: &str, tallies: &BTreeMap<String, Tally>) -> String {
    let mut sum = Tally::default();
    tallies.values().for_each(|tally| sum.add(tally));
    let width = tallies.keys().map(String::len).max().unwrap_or(0).max(heading.len());
    let mut table = format!("{heading:width$}    trials  crash points  images examined  distinct images\n");
    for (name, tally) in tallies.iter().map(|(name, tally)| (name.as_str(), tally)).chain([("sum", &sum)]) {
        let Tally { trials, crash_points, examined, distinct } = tally;
        let distinct = distinct.len();
        writeln!(table, "{name:width$}  {trials:8}  {crash_points:12}  {examined:15}  {distinct:15}")
            .expect("a string takes all");
    }
    table
}
