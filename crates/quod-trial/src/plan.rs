//! Names of trials and of crashes.
//!
//! Role: a [`Plan`] is all that it takes to run a trial again, and is told as the arguments that do so.
//!
//! Invariant: what a plan prints parses to the same plan.
//!
//! Absent on purpose: running it (`trial.rs`).

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use crate::case::Case;
use crate::form::Form;

/// A moment, and one choice of what the medium holds after a power cut then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Count of operations begun and ended until then.
    pub tick: u64,
    /// Seed of the choice.
    pub survivors: u64,
}

/// Which requests of a trial are carried out, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept(pub Vec<usize>);

/// A trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the disk goes through.
    pub form: Form,
    /// Of everything else.
    pub seed: u64,
    /// All requests, or some of them.
    pub kept: Option<Kept>,
    /// How many choices of what survived are examined for each crash.
    pub choices: u32,
    /// Of all crashes, only this one is examined.
    pub only: Option<CrashPoint>,
    /// Tells every operation and request on standard error.
    pub traced: bool,
}

impl Plan {
    /// A whole trial.
    pub fn new(form: Form, seed: u64, choices: u32) -> Self {
        Plan { form, seed, kept: None, choices, only: None, traced: false }
    }

    /// The disk that it is about.
    pub fn case(&self) -> Case {
        self.form.case(self.seed)
    }

    /// Whether that request is carried out.
    pub(crate) fn keeps(&self, request: usize) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.0.contains(&request))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--form {} --seed {}", self.form.name(), self.seed)?;
        if let Some(kept) = &self.kept {
            write!(f, " --keep {kept}")?;
        }
        if let Some(CrashPoint { tick, survivors }) = self.only {
            write!(f, " --crash {tick}:{survivors}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crash at tick {} with survivors {}", self.tick, self.survivors)
    }
}

impl FromStr for CrashPoint {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (tick, survivors) = text.split_once(':').context("a crash is written TICK:SURVIVORS")?;
        Ok(CrashPoint { tick: tick.parse()?, survivors: survivors.parse()? })
    }
}

impl fmt::Display for Kept {
    /// As runs: `0-4,9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (number, run) in self.0.chunk_by(|one, next| one + 1 == *next).enumerate() {
            let comma = if number == 0 { "" } else { "," };
            match run {
                [only] => write!(f, "{comma}{only}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl FromStr for Kept {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(Kept(Vec::new()));
        }
        let mut kept = Vec::new();
        for run in text.split(',') {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let (first, last): (usize, usize) = (first.parse()?, last.parse()?);
            ensure!(first <= last, "{run} is no range: it goes backwards");
            ensure!(last < 100_000, "no trial has so many requests: {last}");
            kept.extend(first..=last);
        }
        Ok(Kept(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_tells_the_arguments_that_replay_it() {
        let only = Some(CrashPoint { tick: 12, survivors: 99 });
        let kept = Some(Kept(vec![0, 1, 2, 7, 9, 10]));
        let plan = Plan { kept, only, ..Plan::new(Form::Tight, 5, 4) };
        assert_eq!(plan.to_string(), "--form tight --seed 5 --keep 0-2,7,9-10 --crash 12:99");
        assert_eq!("0-2,7,9-10".parse::<Kept>().unwrap(), plan.kept.unwrap());
        assert_eq!("12:99".parse::<CrashPoint>().unwrap(), plan.only.unwrap());
        assert_eq!("none".parse::<Kept>().unwrap().to_string(), "none");
        assert!("5-".parse::<Kept>().is_err() && "9-3".parse::<Kept>().is_err());
        assert!("7".parse::<CrashPoint>().is_err());
    }
}
