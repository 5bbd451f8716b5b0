//! Reads of what is in the page cache.
//!
//! Role: [`read`] reads without a wait for the disk, and tells when that cannot be. A read that is told not to wait takes the
//! kernel longer (`preadv2`, beside `pread`: a seventh of a small read), so a thread whose reads have long found all they
//! wanted leaves them untold, until it had to wait.
//!
//! Invariant: at most [`LOOKED_AFTER`] reads wait for the disk before all are told again, and then [`TRUSTED_AFTER`] in a row
//! have to find all.
//!
//! Absent on purpose: which reads come here (`loop_file.rs`).

use std::cell::Cell;
use std::fs::File;
use std::io;

use nix::sys::resource::{UsageWho, getrusage};

use crate::calls;

/// After so many reads in a row that found all they wanted, the next are trusted to. However hits and misses are mixed, the
/// waits for a disk of 100 microseconds then take a hundredth of the time.
const TRUSTED_AFTER: u64 = 1 << 12;

/// After so many reads that are trusted, it is looked whether the thread has waited; the look takes a third of a read.
const LOOKED_AFTER: u64 = 32;

/// What the reads of a thread have found of late.
struct Streak {
    /// Reads in a row that found all they wanted, or were trusted to.
    reads: Cell<u64>,
    /// How often the thread had waited when that was looked at last.
    waits: Cell<i64>,
}

thread_local! {
    static STREAK: Streak = const { Streak::new() };
}

impl Streak {
    const fn new() -> Self {
        Streak { reads: Cell::new(0), waits: Cell::new(0) }
    }

    /// Whether the next read is trusted to find all it wants. `waits` tells how often the thread has waited so far, for
    /// whatever it was.
    fn is_trusted(&self, waits: impl FnOnce() -> io::Result<i64>) -> io::Result<bool> {
        let reads = self.reads.get();
        if reads >= TRUSTED_AFTER && reads.is_multiple_of(LOOKED_AFTER) {
            let before = self.waits.replace(waits()?);
            if reads > TRUSTED_AFTER && before != self.waits.get() {
                self.reads.set(0);
            }
        }
        Ok(self.reads.get() >= TRUSTED_AFTER)
    }

    fn note(&self, found: bool) {
        self.reads.set(if found { self.reads.get() + 1 } else { 0 });
    }
}

/// Fills `into` from `at` if all of it is in memory, and tells whether it was. Where the reads of this thread have long found
/// all they wanted, it may wait for the disk instead.
///
/// # Errors
/// What the system says; `Unsupported` where it cannot tell what is in memory.
pub(crate) fn read(file: &File, at: u64, into: &mut [u8]) -> io::Result<bool> {
    STREAK.with(|streak| {
        let found = match streak.is_trusted(waits)? {
            true => calls::read_once(file, at, into)?,
            false => calls::read_cached(file, at, into)?,
        };
        streak.note(found);
        Ok(found)
    })
}

/// How often this thread has waited for anything.
fn waits() -> io::Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_THREAD)?.voluntary_context_switches())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk whose reads, where they are not told not to, are waited for.
    #[derive(Default)]
    struct Thread {
        waits: Cell<i64>,
        looks: Cell<u64>,
    }

    impl Thread {
        /// Reads so many times what is in the page cache or is not; how often that was told not to wait.
        fn read(&self, streak: &Streak, count: u64, is_cached: bool) -> u64 {
            let read = || {
                let waits = || {
                    self.looks.set(self.looks.get() + 1);
                    Ok(self.waits.get())
                };
                let is_trusted = streak.is_trusted(waits).expect("waits");
                self.waits.set(self.waits.get() + i64::from(is_trusted && !is_cached));
                streak.note(is_cached || is_trusted);
                u64::from(!is_trusted)
            };
            (0..count).map(|_| read()).sum()
        }
    }

    #[test]
    fn reads_that_long_found_all_are_told_no_more() {
        let (streak, thread) = (Streak::new(), Thread { waits: Cell::new(77), ..Thread::default() });
        assert_eq!(thread.read(&streak, TRUSTED_AFTER, true), TRUSTED_AFTER);
        assert_eq!(thread.looks.get(), 0, "which costs nothing more");
        assert_eq!(thread.read(&streak, 100_000, true), 0);
        assert_eq!(thread.looks.get(), 100_000 / LOOKED_AFTER);
    }

    #[test]
    fn few_wait_where_nothing_is_found_any_more_and_then_none() {
        for extra in 0..2 * LOOKED_AFTER {
            let (streak, thread) = (Streak::new(), Thread::default());
            thread.read(&streak, TRUSTED_AFTER + extra, true);
            let told = thread.read(&streak, 1000, false);
            assert!((1..=LOOKED_AFTER).contains(&(1000 - told)), "{} waited, after {extra}", 1000 - told);
            assert_eq!(thread.read(&streak, TRUSTED_AFTER, true), TRUSTED_AFTER, "it takes as long again");
            assert_eq!(thread.read(&streak, 1, true), 0);
        }
    }

    #[test]
    fn a_wait_among_others_ends_the_trust() {
        let (streak, thread) = (Streak::new(), Thread::default());
        thread.read(&streak, TRUSTED_AFTER + 5, true);
        assert_eq!(thread.read(&streak, 1, false), 0);
        assert!(thread.read(&streak, TRUSTED_AFTER, true) > TRUSTED_AFTER - LOOKED_AFTER);
    }

    #[test]
    fn one_that_finds_nothing_before_it_is_trusted_begins_the_count_anew() {
        let (streak, thread) = (Streak::new(), Thread::default());
        thread.read(&streak, TRUSTED_AFTER - 1, true);
        assert_eq!(thread.read(&streak, 1, false), 1);
        assert_eq!(thread.read(&streak, TRUSTED_AFTER, true), TRUSTED_AFTER);
    }

    #[test]
    fn a_thread_that_sleeps_has_waited() {
        let before = waits().expect("waits");
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(waits().expect("waits") > before);
    }
}
