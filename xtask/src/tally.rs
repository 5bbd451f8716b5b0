//! Counts of tests, summed over test binaries.
//!
//! Role: reads the `test result:` lines that Rust's test harness prints, and prints the sum as one line.
//!
//! Invariant: a run in which no test ran is not a success.

use std::fmt;

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    /// Adds what `line` counts, if it is the closing line of a test binary.
    pub(crate) fn take(&mut self, line: &str) {
        if let Some(one) = parse(line) {
            self.add(one);
        }
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Whether tests ran and none failed.
    pub(crate) fn is_success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tests: {} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.51s`.
fn parse(line: &str) -> Option<Tally> {
    let counts = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok());
    Some(Tally { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.take(line));
        tally
    }

    #[test]
    fn counts_are_summed_over_binaries() {
        let sum = tally(&[
            "running 5 tests",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.51s",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s",
        ]);
        assert_eq!(sum.to_string(), "tests: 12 passed, 2 failed, 1 skipped");
        assert!(!sum.is_success());
    }

    #[test]
    fn a_line_that_only_looks_like_a_result_counts_nothing() {
        let sum = tally(&[
            "test result: perhaps",
            "the test result: ok. 5 passed; 0 failed; 0 ignored",
            "3 passed",
        ]);
        assert_eq!(sum, Tally::default());
    }

    #[test]
    fn no_test_at_all_is_no_success() {
        let none =
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s";
        assert!(!tally(&[none]).is_success());
    }
}
