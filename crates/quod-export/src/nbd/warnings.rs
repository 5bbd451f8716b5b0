//! Warnings that a client can cause.
//!
//! Role: lets one through a second, and counts the others, so that a client cannot fill the disk that the log is on.
//!
//! Absent on purpose: what they say.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long it is quiet after a warning.
const QUIET: Duration = Duration::from_secs(1);

/// Warnings of one kind.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    last: Cell<Option<Instant>>,
    suppressed: Cell<u64>,
}

impl Warnings {
    /// Whether a warning is to be logged now, and with how many that were not since the last one, if there were any.
    pub(crate) fn admit(&self) -> Option<Option<u64>> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<Option<u64>> {
        if self.last.get().is_some_and(|last| now.duration_since(last) < QUIET) {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.last.set(Some(now));
        Some(Some(self.suppressed.take()).filter(|&suppressed| suppressed > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_is_logged_and_the_others_are_counted() {
        let warnings = Warnings::default();
        let begun = Instant::now();
        assert_eq!(warnings.admit_at(begun), Some(None));
        for _ in 0..100 {
            assert_eq!(warnings.admit_at(begun + QUIET / 2), None);
        }
        assert_eq!(warnings.admit_at(begun + QUIET), Some(Some(100)));
        assert_eq!(warnings.admit_at(begun + 2 * QUIET), Some(None));
    }
}
