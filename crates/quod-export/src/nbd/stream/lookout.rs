//! Looks out for what a client sends next, a little before the thread sleeps.
//!
//! Role: a thread that sleeps takes tens of microseconds to wake, in a virtual machine most of all. A client that asks for one
//! thing after another takes no longer to ask again, so for [`AWAKE`] it is looked for, while all else of the event loop goes on.
//!
//! Invariants: of a thread's connections one at a time is looked out for. After a look-out in vain the next waits sleep at
//! once, twice as many each time, so that who is slow or idle costs next to nothing. Where there is one processor, nobody is
//! looked out for: the client needs it.
//!
//! Absent on purpose: waiting (`mod.rs`), and for whom it is worth it (`transmission/`).

use std::cell::Cell;
use std::io;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;

/// How long a look-out takes at most.
const AWAKE: Duration = Duration::from_micros(50);

/// So many waits at most sleep at once after a look-out in vain.
const MOST_SKIPPED: u32 = 1023;

thread_local! {
    static IS_TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// Whether there is more than one processor.
static HAS_COMPANY: LazyLock<bool> =
    LazyLock::new(|| thread::available_parallelism().is_ok_and(|processors| processors.get() > 1));

/// What looking out for a client has come to so far.
#[derive(Debug)]
pub(super) struct Lookout {
    has_company: bool,
    /// Waits that are to sleep at once.
    skip: Cell<u32>,
    /// How many those were after the last look-out, which was in vain; 0 when it was not.
    skipped: Cell<u32>,
}

/// The right to look out, of one connection of a thread.
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        (!IS_TAKEN.replace(true)).then(|| Turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        IS_TAKEN.set(false);
    }
}

impl Lookout {
    pub(super) fn new() -> Self {
        Lookout::beside(*HAS_COMPANY)
    }

    fn beside(has_company: bool) -> Self {
        Lookout { has_company, skip: Cell::new(0), skipped: Cell::new(0) }
    }

    /// Tells whether `has_come` soon said so; false also where it was not asked. May be dropped at any time.
    ///
    /// # Errors
    /// What `has_come` says.
    pub(super) async fn look(&self, has_come: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
        let mut end = None;
        let is_over = || {
            let now = Instant::now();
            now >= *end.get_or_insert(now + AWAKE)
        };
        self.look_until(is_over, has_come).await
    }

    async fn look_until(
        &self,
        mut is_over: impl FnMut() -> bool,
        mut has_come: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<bool> {
        if self.skip.get() > 0 {
            self.skip.set(self.skip.get() - 1);
            return Ok(false);
        }
        let turn = if self.has_company { Turn::take() } else { None };
        let Some(_turn) = turn else { return Ok(false) };
        while !has_come()? {
            if is_over() {
                let skip = (2 * self.skipped.get() + 1).min(MOST_SKIPPED);
                self.skip.set(skip);
                self.skipped.set(skip);
                return Ok(false);
            }
            // The client may want this processor.
            thread::yield_now();
            yield_now().await;
        }
        self.skipped.set(0);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    /// Waits for a client that comes when it has been asked for so many times, or has not by then.
    async fn wait(lookout: &Lookout, comes_at: Option<u32>) -> (bool, u32) {
        let (mut asked, mut looks) = (0, 0);
        let is_over = || {
            looks += 1;
            looks == 5
        };
        let has_come = || {
            asked += 1;
            Ok(Some(asked) == comes_at)
        };
        let came = lookout.look_until(is_over, has_come).await.expect("no error");
        (came, asked)
    }

    /// Waits so many times for a client that never sends anything; how often it was looked out for.
    fn wait_in_vain(lookout: &Lookout, waits: u32) -> usize {
        (0..waits).filter(|_| block_on(wait(lookout, None)) == (false, 5)).count()
    }

    #[test]
    fn what_comes_soon_is_seen() {
        let lookout = Lookout::beside(true);
        for at in [1, 3, 5, 1] {
            assert_eq!(block_on(wait(&lookout, Some(at))), (true, at));
        }
        assert_eq!(block_on(wait(&lookout, Some(6))), (false, 5), "too late");
        assert_eq!(block_on(wait(&lookout, Some(1))), (false, 0), "and not asked for at once");
    }

    #[test]
    fn who_keeps_still_is_looked_out_for_ever_more_seldom() {
        let lookout = Lookout::beside(true);
        // Between them 1, 3 and 7 waits are skipped, and so on.
        assert_eq!(wait_in_vain(&lookout, 1 + 1 + 1 + 3 + 1), 3);
        assert_eq!(wait_in_vain(&lookout, 2000), 7);
        assert_eq!(wait_in_vain(&lookout, 10 * (MOST_SKIPPED + 1)), 10, "never given up");
        while !block_on(wait(&lookout, Some(1))).0 {}
        assert_eq!(wait_in_vain(&lookout, 1 + 1 + 1), 2, "one that came makes good all before");
    }

    #[test]
    fn one_at_a_time_is_looked_out_for() {
        let (one, other) = (Lookout::beside(true), Lookout::beside(true));
        let mut look = Box::pin(one.look_until(|| false, || Ok(false)));
        assert!(block_on(poll_once(&mut look)).is_none(), "it goes on");
        assert_eq!(wait_in_vain(&other, 5), 0);
        drop(look);
        assert_eq!(
            wait_in_vain(&other, 1),
            1,
            "the turn is free again, and nothing is held against who had none"
        );
    }

    #[test]
    fn a_look_ends_by_the_clock() {
        assert!(!block_on(Lookout::beside(true).look(|| Ok(false))).expect("no error"));
    }

    #[test]
    fn on_one_processor_nobody_is_looked_out_for() {
        assert_eq!(wait_in_vain(&Lookout::beside(false), 5), 0);
    }

    #[test]
    fn a_failure_is_the_callers() {
        let failed = block_on(Lookout::beside(true).look(|| Err(io::ErrorKind::NotConnected.into())));
        assert_eq!(failed.expect_err("it failed").kind(), io::ErrorKind::NotConnected);
        assert_eq!(wait_in_vain(&Lookout::beside(true), 1), 1, "and the turn is free");
    }
}
