//! Looks out for what a client sends next, a little before the thread sleeps.
//!
//! Role: a thread that sleeps takes tens of microseconds to wake, in a virtual machine most of all. A client that asks for one
//! thing after another takes no longer to ask again, so for [`AWAKE`] it is looked for, again and again between what else the
//! event loop does.
//!
//! Invariants: a client is looked out for while it is alone on its thread, and the thread has its processor to itself, as far as
//! is known (`watch.rs`). After a look-out in vain the next waits sleep at once, twice as many each time, so that
//! who is slow or idle costs next to nothing.
//!
//! Absent on purpose: waiting (`mod.rs`), and for how many requests at a time it is worth it (`transmission/`).

use std::cell::Cell;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;

use super::watch::{Asker, Watch};

/// How long a look-out takes at most, where nobody else wants the processor.
const AWAKE: Duration = Duration::from_micros(50);
const _: () = assert!(AWAKE.as_micros() <= 100, "a processor is not for waiting");

/// So many waits at most sleep at once after a look-out in vain. Even, as all those numbers are: after an odd one each look-out
/// would meet the same one of two waits, always the slow one perhaps of a client that is slow every other time.
const MOST_SKIPPED: u32 = 1022;

/// What a look-out came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Something has come.
    Something,
    /// Nothing has, in all the time.
    Nothing,
    /// There was no look-out.
    NotLooked,
}

/// What looking out for a client has come to so far.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    asker: Asker,
    /// Waits that are to sleep at once.
    skip: Cell<u32>,
    /// How many those were after the last look-out, which was in vain; 0 when it was not.
    skipped: Cell<u32>,
}

impl Lookout {
    /// Asks `has_come` again and again, for a while, where that is worth it. May be dropped at any time.
    ///
    /// # Errors
    /// What `has_come` says.
    pub(super) async fn look(&self, has_come: impl FnMut() -> io::Result<bool>) -> io::Result<Sight> {
        if !self.is_due(|| Watch::of_thread(|watch| watch.may_look())) {
            return Ok(Sight::NotLooked);
        }
        let mut end = None;
        let is_over = || {
            let now = Instant::now();
            now >= *end.get_or_insert(now + AWAKE)
        };
        self.look_until(is_over, has_come).await
    }

    /// Counts a wait for the client.
    pub(super) fn note_wait(&self) {
        Watch::of_thread(|watch| watch.note(&self.asker));
    }

    /// Whether this is a wait to look out in.
    fn is_due(&self, may_look: impl FnOnce() -> bool) -> bool {
        if self.skip.get() > 0 {
            self.skip.set(self.skip.get() - 1);
            return false;
        }
        Watch::of_thread(|watch| watch.is_alone(&self.asker)) && may_look()
    }

    async fn look_until(
        &self,
        mut is_over: impl FnMut() -> bool,
        mut has_come: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<Sight> {
        while !has_come()? {
            if is_over() {
                let skip = (2 * self.skipped.get() + 2).min(MOST_SKIPPED);
                self.skip.set(skip);
                self.skipped.set(skip);
                return Ok(Sight::Nothing);
            }
            // The client may want this processor.
            thread::yield_now();
            yield_now().await;
        }
        self.skipped.set(0);
        self.note_wait();
        Ok(Sight::Something)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    /// For a client that is alone on its thread.
    fn alone() -> Lookout {
        let lookout = Lookout::default();
        while !Watch::of_thread(|watch| watch.is_alone(&lookout.asker)) {
            lookout.note_wait();
        }
        lookout
    }

    /// Waits for a client that comes when it has been asked for so many times, or has not by then.
    async fn wait(lookout: &Lookout, comes_at: Option<u32>) -> (Sight, u32) {
        let (sight, asked) = look(lookout, comes_at).await;
        if sight != Sight::Something {
            lookout.note_wait();
        }
        (sight, asked)
    }

    async fn look(lookout: &Lookout, comes_at: Option<u32>) -> (Sight, u32) {
        if !lookout.is_due(|| true) {
            return (Sight::NotLooked, 0);
        }
        let (mut asked, mut looks) = (0, 0);
        let is_over = || {
            looks += 1;
            looks == 5
        };
        let has_come = || {
            asked += 1;
            Ok(Some(asked) == comes_at)
        };
        let sight = lookout.look_until(is_over, has_come).await.expect("no error");
        (sight, asked)
    }

    /// Waits so many times for a client that never sends anything; how often it was looked out for.
    fn wait_in_vain(lookout: &Lookout, waits: u32) -> usize {
        (0..waits).filter(|_| block_on(wait(lookout, None)) == (Sight::Nothing, 5)).count()
    }

    #[test]
    fn what_comes_soon_is_seen() {
        let lookout = alone();
        for at in [1, 3, 5, 1] {
            assert_eq!(block_on(wait(&lookout, Some(at))), (Sight::Something, at));
        }
        assert_eq!(block_on(wait(&lookout, Some(6))), (Sight::Nothing, 5), "too late");
        assert_eq!(block_on(wait(&lookout, Some(1))), (Sight::NotLooked, 0), "and not asked for at once");
    }

    #[test]
    fn who_keeps_still_is_looked_out_for_ever_more_seldom() {
        let lookout = alone();
        // Between them 2, 6 and 14 waits are skipped, and so on.
        assert_eq!(wait_in_vain(&lookout, 1 + 2 + 1 + 6 + 1), 3);
        assert_eq!(wait_in_vain(&lookout, 2000), 6);
        assert_eq!(wait_in_vain(&lookout, 10 * (MOST_SKIPPED + 1)), 10, "never given up");
        while block_on(wait(&lookout, Some(1))).0 != Sight::Something {}
        assert_eq!(wait_in_vain(&lookout, 1 + 2 + 1), 2, "one that came makes good all before");
    }

    #[test]
    fn who_is_slow_every_other_time_is_met_when_quick() {
        let lookout = alone();
        let met = |wait_no: u32| {
            let comes_at = wait_no.is_multiple_of(2).then_some(1);
            block_on(wait(&lookout, comes_at)).0 == Sight::Something
        };
        assert!((0..100).filter(|wait_no| met(*wait_no)).count() > 20);
    }

    #[test]
    fn while_two_ask_nobody_is_looked_out_for() {
        let [one, other] = [Lookout::default(), Lookout::default()];
        assert_eq!((0..100).map(|_| wait_in_vain(&one, 1) + wait_in_vain(&other, 1)).sum::<usize>(), 0);
        assert_eq!(
            (0..100).map(|_| wait_in_vain(&one, 1)).find(|looks| *looks > 0),
            Some(1),
            "it is alone again"
        );
    }

    #[test]
    fn a_wait_in_a_rest_is_not_looked_at() {
        let lookout = alone();
        assert!(!lookout.is_due(|| false) && lookout.is_due(|| true));
    }

    #[test]
    fn a_look_gives_others_their_turns_and_ends_by_the_clock() {
        let lookout = alone();
        let mut look = Box::pin(lookout.look_until(|| false, || Ok(false)));
        for _ in 0..3 {
            assert!(block_on(poll_once(&mut look)).is_none(), "it goes on");
        }
        drop(look);
        let mut asked = 0;
        let look = lookout.look(|| {
            asked += 1;
            Ok(false)
        });
        let sight = block_on(look).expect("no error");
        assert!(
            matches!(sight, Sight::Nothing if asked > 0) || matches!(sight, Sight::NotLooked if asked == 0)
        );
    }

    #[test]
    fn a_failure_is_the_callers() {
        let lookout = alone();
        let failed = block_on(lookout.look_until(|| false, || Err(io::ErrorKind::NotConnected.into())));
        assert_eq!(failed.expect_err("it failed").kind(), io::ErrorKind::NotConnected);
        assert_eq!(wait_in_vain(&lookout, 1), 1, "and the next wait is looked at");
    }
}
