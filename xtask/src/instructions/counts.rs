//! Counts beside the numbers that were accepted.
//!
//! Invariant: judging is a function of both alone. What they were counted with explains a difference, and excuses none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::Command;

use anyhow::Result;
use serde::Deserialize;

use super::{NUMBERS, REQUESTS};
use crate::compare::output;
use crate::compare::page::rate;

/// How much of a number a count may differ from it unnoticed.
const TOLERANCE: f64 = 0.05;

/// Instructions by bench.
pub(super) type Counts = BTreeMap<String, u64>;

/// What the file of numbers holds.
#[derive(Deserialize)]
pub(super) struct Accepted {
    pub(super) taken: Taken,
    instructions: Counts,
}

/// What counts depend on besides our code.
#[derive(Deserialize, PartialEq, Eq)]
pub(super) struct Taken {
    rustc: String,
    libc: String,
    valgrind: String,
}

impl Taken {
    /// What there is on this machine.
    pub(super) fn here() -> Result<Self> {
        let first_line = |program: &str| -> Result<String> {
            let told = output(Command::new(program).arg("--version"))?;
            Ok(told.lines().next().unwrap_or_default().to_owned())
        };
        Ok(Taken { rustc: first_line("rustc")?, libc: first_line("ldd")?, valgrind: first_line("valgrind")? })
    }

    /// Where another one is not the same.
    pub(super) fn differences(&self, here: &Taken) -> Vec<String> {
        let pairs = [
            ("rustc", &self.rustc, &here.rustc),
            ("libc", &self.libc, &here.libc),
            ("valgrind", &self.valgrind, &here.valgrind),
        ];
        let differ = pairs.into_iter().filter(|(_, then, now)| then != now);
        differ.map(|(what, then, now)| format!("{what} was `{then}` and is `{now}`")).collect()
    }
}

/// The file of numbers.
pub(super) fn text(taken: &Taken, counts: &Counts) -> String {
    let mut text = format!(
        "# Instructions of {} requests each. `cargo xtask instructions` counts them again, in CI too, and fails when one\n\
         # has grown by more than {} %; with --accept it writes this file. What costs more has its reason in the commit.\n\n",
        rate(REQUESTS as f64),
        TOLERANCE * 100.0
    );
    let Taken { rustc, libc, valgrind } = taken;
    text +=
        &format!("[taken]\nrustc = {rustc:?}\nlibc = {libc:?}\nvalgrind = {valgrind:?}\n\n[instructions]\n");
    for (name, count) in counts {
        text += &format!("{name} = {}\n", rate(*count as f64).replace(',', "_"));
    }
    text
}

/// Every bench with its number and its count.
pub(super) struct Judged {
    lines: Vec<String>,
    pub(super) failed: bool,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Holds counts against the numbers.
pub(super) fn judge(accepted: &Accepted, counts: &Counts) -> Judged {
    let names: BTreeSet<&String> = accepted.instructions.keys().chain(counts.keys()).collect();
    let mut judged = Judged { lines: Vec::new(), failed: false };
    for name in names {
        let number = accepted.instructions.get(name).copied();
        let count = counts.get(name).copied();
        let (Some(number), Some(count)) = (number, count) else {
            let what =
                if number.is_none() { "has no number yet" } else { "has a number, and was not counted" };
            judged.lines.push(format!("FAILED: {name} {what} ({NUMBERS})"));
            judged.failed = true;
            continue;
        };
        let share = count as f64 / number as f64;
        let [then, now] = [number, count].map(|count| rate(count as f64));
        let told = format!("{then} -> {now} instructions of {} requests", rate(REQUESTS as f64));
        let percent = (share - 1.0).abs() * 100.0;
        judged.lines.push(if share > 1.0 + TOLERANCE {
            judged.failed = true;
            format!("FAILED: {name} grew by {percent:.1} %: {told}")
        } else if share < 1.0 - TOLERANCE {
            // Or it could grow again by as much, unnoticed.
            judged.failed = true;
            format!("FAILED: {name} shrank by {percent:.1} %: {told}; keep that by --accept")
        } else {
            format!("{name}: {told}")
        });
    }
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rustc: &str) -> Taken {
        Taken { rustc: rustc.into(), libc: "ldd 2.36".into(), valgrind: "valgrind-3.19.0".into() }
    }

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    fn judge_counts(number: u64, count: u64) -> Judged {
        let accepted = Accepted { taken: taken("a"), instructions: counts(&[("hit", number)]) };
        judge(&accepted, &counts(&[("hit", count)]))
    }

    #[test]
    fn what_grew_by_more_than_a_twentieth_fails_with_both_numbers() {
        assert!(!judge_counts(100_000, 105_000).failed);
        let judged = judge_counts(100_000, 105_100);
        assert!(judged.failed);
        assert_eq!(
            judged.to_string(),
            "FAILED: hit grew by 5.1 %: 100,000 -> 105,100 instructions of 1,000 requests\n"
        );
    }

    #[test]
    fn what_shrank_is_to_be_kept() {
        let judged = judge_counts(100_000, 90_000);
        assert!(judged.failed && judged.to_string().contains("shrank by 10.0 %"), "{judged}");
        assert_eq!(judge_counts(9, 9).to_string(), "hit: 9 -> 9 instructions of 1,000 requests\n");
    }

    #[test]
    fn a_count_and_a_number_need_each_other() {
        let accepted = Accepted { taken: taken("a"), instructions: counts(&[("gone", 1)]) };
        let judged = judge(&accepted, &counts(&[("new", 1)]));
        assert!(judged.failed);
        assert_eq!(judged.lines.len(), 2);
        assert!(judged.lines[0].contains("gone has a number, and was not counted"));
        assert!(judged.lines[1].contains("new has no number yet"));
    }

    #[test]
    fn the_file_holds_what_was_written_to_it() {
        let written = counts(&[("read_hit", 1_234_567), ("cache_hit", 89)]);
        let text = text(&taken("rustc 1.95.0 (\"x\")"), &written);
        assert!(text.contains("read_hit = 1_234_567\n"), "{text}");
        let read: Accepted = toml::from_str(&text).unwrap();
        assert_eq!(read.instructions, written);
        assert!(read.taken == taken("rustc 1.95.0 (\"x\")"));
        assert_eq!(read.taken.differences(&taken("b")), ["rustc was `rustc 1.95.0 (\"x\")` and is `b`"]);
    }
}
