//! What libFuzzer says while it runs.
//!
//! Role: keeps the last counts, and the last words in case they are needed.
//!
//! Absent on purpose: its exit status.

use std::collections::VecDeque;
use std::fmt;

/// So many of the last lines are kept.
const LAST_WORDS: usize = 60;

/// Counts of one run.
#[derive(Debug, Default)]
pub(super) struct Progress {
    inputs: u64,
    edges: u64,
    last: VecDeque<String>,
}

impl Progress {
    /// Takes in a line: `#4096 NEW cov: 812 ft: 1200 …`, of many processes `#4096: cov: 812 ft: …`.
    pub(super) fn take(&mut self, line: &str) {
        let counts = line.strip_prefix('#').and_then(|rest| {
            let (inputs, rest) = rest.split_once(|sign: char| !sign.is_ascii_digit())?;
            let edges = rest.split_once("cov: ")?.1.split(' ').next()?;
            Some((inputs.parse().ok()?, edges.parse().ok()?))
        });
        match counts {
            Some((inputs, edges)) => (self.inputs, self.edges) = (inputs, edges),
            None => {
                if self.last.len() == LAST_WORDS {
                    self.last.pop_front();
                }
                self.last.push_back(line.to_owned());
            }
        }
    }

    /// Whether inputs were run.
    pub(super) fn has_run(&self) -> bool {
        self.inputs > 0
    }

    /// What it said last.
    pub(super) fn last_words(&self) -> String {
        self.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} inputs, {} edges covered", self.inputs, self.edges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_counts_are_told() {
        let mut progress = Progress::default();
        progress.take("INFO: seed corpus: files: 80 min: 300b max: 400b");
        assert!(!progress.has_run());
        progress.take("#64\tINITED cov: 1350 ft: 2533 corp: 33/39Kb exec/s: 0 rss: 31Mb");
        progress.take("#4096: cov: 1402 ft: 2600 corp: 40 exec/s: 812 oom/timeout/crash: 0/0/0 time: 5s");
        progress.take("==77== ERROR: libFuzzer: deadly signal");
        assert_eq!(progress.to_string(), "4096 inputs, 1402 edges covered");
        assert!(progress.has_run() && progress.last_words().ends_with("deadly signal"));
    }
}
