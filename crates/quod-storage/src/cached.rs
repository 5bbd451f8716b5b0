//! Reads of what is in the page cache, without a wait for the disk.
//!
//! Role: [`read`] reads what is there, and says when something is not. A read that is not to wait (`preadv2`) takes the kernel
//! a seventh longer than one that may (`pread`). So where the reads of a thread have found all they wanted for long, the next
//! ones may wait; when it is seen that one did, none may for as long again.
//!
//! Invariants: in a row of reads that may wait, at most [`LOOKED_AFTER`] do. None may while the thread has operations on the
//! ring: the disk is busy then, and who waits for them would wait for this, too. What fails when it may wait is left to the
//! ring, which says why.
//!
//! Absent on purpose: which reads come here (`loop_file.rs`).

use std::cell::Cell;
use std::fs::File;
use std::io;

use nix::sys::resource::{UsageWho, getrusage};

use crate::{calls, ring};

/// After so many reads in a row that found all they wanted, the next may wait.
const TRUSTED_AFTER: u64 = 1 << 12;

/// After so many of those it is looked whether the thread has waited. That takes as long as a third of a read of 4 KiB.
const LOOKED_AFTER: u64 = 16;

/// What the reads of a thread have found of late, in all files together.
struct Streak {
    /// Reads in a row that found all they wanted, those that may have waited for it among them.
    reads: Cell<u64>,
    /// How often the thread had waited when that was looked at last.
    waits: Cell<Option<i64>>,
}

thread_local! {
    static STREAK: Streak = const { Streak::new() };
}

impl Streak {
    const fn new() -> Self {
        Streak { reads: Cell::new(0), waits: Cell::new(None) }
    }

    /// Makes a read, which is told whether it may wait and tells whether it found all it wanted. `waits` says how often the
    /// thread has waited so far, for whatever it was; `None` when nobody knows.
    fn read(
        &self,
        is_quiet: bool,
        waits: impl FnOnce() -> Option<i64>,
        read: impl FnOnce(bool) -> io::Result<bool>,
    ) -> io::Result<bool> {
        // Asked in any case: no look may be missed.
        let outcome = read(self.is_trusted(waits) && is_quiet);
        let found = matches!(outcome, Ok(true));
        self.reads.set(if found { self.reads.get() + 1 } else { 0 });
        outcome
    }

    fn is_trusted(&self, waits: impl FnOnce() -> Option<i64>) -> bool {
        let reads = self.reads.get();
        if reads >= TRUSTED_AFTER && reads.is_multiple_of(LOOKED_AFTER) {
            let now = waits();
            let before = self.waits.replace(now);
            if now.is_none() || reads > TRUSTED_AFTER && now != before {
                self.reads.set(0);
            }
        }
        self.reads.get() >= TRUSTED_AFTER
    }
}

/// Fills `into` from `at` if all of it is in memory, or is expected to be; tells whether it was.
///
/// # Errors
/// What the system says of a read that was not to wait; `Unsupported` where it cannot tell what is in memory.
pub(crate) fn read(file: &File, at: u64, into: &mut [u8]) -> io::Result<bool> {
    STREAK.with(|streak| {
        streak.read(ring::is_quiet(), waits, |may_wait| match may_wait {
            true => Ok(matches!(calls::read_once(file, at, into), Ok(true))),
            false => calls::read_cached(file, at, into),
        })
    })
}

/// How often this thread has waited for anything.
fn waits() -> Option<i64> {
    getrusage(UsageWho::RUSAGE_THREAD).ok().map(|usage| usage.voluntary_context_switches())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// A thread that reads, and how often it did which.
    struct Thread {
        streak: Streak,
        is_quiet: bool,
        knows_waits: bool,
        waits: Cell<i64>,
        looks: Cell<u64>,
    }

    /// What a read meets.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Meets {
        PageCache,
        Disk,
        BrokenDisk,
    }
    use Meets::{BrokenDisk, Disk, PageCache};

    impl Thread {
        fn new() -> Self {
            let (waits, looks) = (Cell::new(77), Cell::new(0));
            Thread { streak: Streak::new(), is_quiet: true, knows_waits: true, waits, looks }
        }

        /// Reads so many times; how many reads might have waited.
        fn read(&self, count: u64, meets: Meets) -> u64 {
            let mut trusted = 0;
            for _ in 0..count {
                let look = || {
                    self.looks.set(self.looks.get() + 1);
                    self.knows_waits.then_some(self.waits.get())
                };
                let read = |may_wait| {
                    trusted += u64::from(may_wait);
                    if may_wait && meets != PageCache {
                        self.waits.set(self.waits.get() + 1);
                    }
                    match meets {
                        PageCache => Ok(true),
                        Disk => Ok(may_wait),
                        BrokenDisk => Err(io::ErrorKind::Other.into()),
                    }
                };
                let outcome = self.streak.read(self.is_quiet, look, read);
                assert_eq!(outcome.is_err(), meets == BrokenDisk);
            }
            trusted
        }
    }

    #[test]
    fn reads_that_long_found_all_may_wait() {
        let thread = Thread::new();
        assert_eq!(thread.read(TRUSTED_AFTER, PageCache), 0);
        assert_eq!(thread.looks.get(), 0, "which costs nothing more");
        assert_eq!(thread.read(100_000, PageCache), 100_000);
        assert_eq!(thread.looks.get(), 100_000 / LOOKED_AFTER);
    }

    #[test]
    fn few_wait_where_nothing_is_found_any_more_and_then_none() {
        for extra in 0..2 * LOOKED_AFTER {
            for (meets, most) in [(Disk, LOOKED_AFTER), (BrokenDisk, 1)] {
                let thread = Thread::new();
                thread.read(TRUSTED_AFTER + extra, PageCache);
                let waited = thread.read(1000, meets);
                assert!((1..=most).contains(&waited), "{waited} waited, after {extra}");
                assert_eq!(thread.read(TRUSTED_AFTER, PageCache), 0, "it takes as long again");
                assert_eq!(thread.read(1, PageCache), 1);
            }
        }
    }

    #[test]
    fn a_wait_among_others_is_seen() {
        let thread = Thread::new();
        thread.read(TRUSTED_AFTER + 5, PageCache);
        assert_eq!(thread.read(1, Disk), 1);
        assert!(thread.read(TRUSTED_AFTER, PageCache) < LOOKED_AFTER);
    }

    #[test]
    fn one_that_finds_nothing_begins_the_count_anew() {
        for meets in [Disk, BrokenDisk] {
            let thread = Thread::new();
            thread.read(TRUSTED_AFTER - 1, PageCache);
            assert_eq!(thread.read(1, meets), 0);
            assert_eq!(thread.read(TRUSTED_AFTER, PageCache), 0);
        }
    }

    #[test]
    fn none_may_wait_while_the_ring_is_at_work_or_nobody_knows_who_waits() {
        let mut thread = Thread::new();
        thread.is_quiet = false;
        assert_eq!(thread.read(3 * TRUSTED_AFTER, PageCache), 0);
        thread.is_quiet = true;
        assert_eq!(thread.read(100, PageCache), 100, "what was found meanwhile counts");
        thread.knows_waits = false;
        assert!(thread.read(3 * TRUSTED_AFTER, PageCache) < LOOKED_AFTER);
    }

    /// A file that can be read, but not without a wait.
    #[test]
    fn what_may_wait_is_a_plain_read() {
        let file = File::open("/proc/version").expect("a file of the kernel");
        let read = |at| {
            let mut into = [0; 5];
            read(&file, at, &mut into).map(|found| (found, into))
        };
        assert_eq!(read(0).expect_err("it cannot tell").kind(), io::ErrorKind::Unsupported);
        STREAK.with(|streak| streak.reads.set(TRUSTED_AFTER));
        assert_eq!(read(0).expect("a read"), (true, *b"Linux"));
        STREAK.with(|streak| assert_eq!(streak.reads.get(), TRUSTED_AFTER + 1));
        assert!(!read(1 << 20).expect("left to the ring").0, "past the end");
        assert_eq!(read(0).expect_err("it cannot tell").kind(), io::ErrorKind::Unsupported);
        STREAK.with(|streak| streak.reads.set(TRUSTED_AFTER));
        ring::while_busy(|| {
            assert_eq!(read(0).expect_err("it cannot tell").kind(), io::ErrorKind::Unsupported);
        });
    }

    #[test]
    fn after_a_wait_no_read_may_wait() {
        let file = File::open("/proc/version").expect("a file of the kernel");
        let read = || read(&file, 0, &mut [0; 5]);
        STREAK.with(|streak| streak.reads.set(TRUSTED_AFTER));
        assert!(read().expect("a read"));
        thread::sleep(Duration::from_millis(1));
        let more = (0..=LOOKED_AFTER).take_while(|_| read().is_ok()).count() as u64;
        assert_eq!(more, LOOKED_AFTER - 1, "which is when it is looked");
        STREAK.with(|streak| assert_eq!(streak.reads.get(), 0));
    }

    #[test]
    fn what_fails_where_it_may_wait_is_left_to_the_ring() {
        let directory = File::open("/proc").expect("a directory of the kernel");
        let read = || read(&directory, 0, &mut [0; 5]);
        STREAK.with(|streak| streak.reads.set(TRUSTED_AFTER));
        assert!(!read().expect("no error yet"));
        read().expect_err("a directory cannot be read");
    }

    #[test]
    fn a_thread_that_sleeps_has_waited_and_no_other() {
        let before = waits().expect("it is known");
        thread::sleep(Duration::from_millis(1));
        assert!(waits().expect("it is known") > before);

        let is_over = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                (0..10).for_each(|_| thread::sleep(Duration::from_millis(2)));
                is_over.store(true, Ordering::Release);
            }
        });
        let before = waits();
        while !is_over.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        assert_eq!(waits(), before);
        other.join().expect("no panic");
    }
}
