//! Flushes on an event loop, whose futures may be dropped.
//!
//! Role: [`Flushes`] lets one begin after the other; what is begun goes on to its end, and what came of it is told to who
//! waits, or kept for the next.
//!
//! Invariant: when a flush fails whose future was dropped, the next one fails.
//!
//! Absent on purpose: the call itself.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use async_lock::MutexGuardArc;
use compio::runtime::spawn;
use event_listener::{Event, listener};

use crate::Held;

/// The flushes of a file, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    turn: Arc<async_lock::Mutex<()>>,
    /// Why one failed that nobody waited for any more.
    owed: Mutex<Option<io::Error>>,
}

impl Flushes {
    /// Waits until no other is under way.
    pub(crate) async fn turn(self: &Arc<Self>) -> Turn {
        Turn { alone: self.turn.lock_arc().await, flushes: Arc::clone(self) }
    }

    /// Why one failed that nobody waited for.
    pub(crate) fn take_owed(&self) -> Option<io::Error> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn owe(&self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            *self.owed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

/// The right to flush.
pub(crate) struct Turn {
    alone: MutexGuardArc<()>,
    flushes: Arc<Flushes>,
}

impl Turn {
    /// Begins a flush on the event loop of this thread. It goes on to its end by itself.
    pub(crate) fn begin(self, flush: impl Future<Output = io::Result<()>> + 'static, held: Held) -> Waiter {
        let flight = Arc::<Flight>::default();
        let landing = Landing {
            outcome: Err(io::Error::other("a flush was cut off with its event loop")),
            flight: Arc::clone(&flight),
            flushes: Arc::clone(&self.flushes),
            _held: held,
            _alone: self.alone,
        };
        spawn(async move { landing.with(flush.await) }).detach();
        Waiter { flight, flushes: self.flushes }
    }
}

/// One flush.
#[derive(Debug, Default)]
struct Flight {
    state: Mutex<State>,
    landed: Event,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    UnderWay,
    Over(io::Result<()>),
    /// Its outcome was taken, or nobody waits for it.
    Unwatched,
}

impl Flight {
    fn change(&self, to: State) -> State {
        mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), to)
    }
}

/// What happens when a flush is over, or its event loop is. Holds what is to be held until then.
struct Landing {
    outcome: io::Result<()>,
    flight: Arc<Flight>,
    flushes: Arc<Flushes>,
    _held: Held,
    _alone: MutexGuardArc<()>,
}

impl Landing {
    fn with(mut self, outcome: io::Result<()>) {
        self.outcome = outcome;
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let outcome = mem::replace(&mut self.outcome, Ok(()));
        let mut state = self.flight.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Unwatched => self.flushes.owe(outcome),
            State::UnderWay | State::Over(_) => *state = State::Over(outcome),
        }
        drop(state);
        self.flight.landed.notify(1);
    }
}

/// Who waits for a flush.
pub(crate) struct Waiter {
    flight: Arc<Flight>,
    flushes: Arc<Flushes>,
}

impl Waiter {
    /// What came of it.
    pub(crate) async fn over(self) -> io::Result<()> {
        loop {
            listener!(self.flight.landed => landed);
            match self.flight.change(State::UnderWay) {
                State::Over(outcome) => {
                    self.flight.change(State::Unwatched);
                    return outcome;
                }
                State::UnderWay | State::Unwatched => landed.await,
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let State::Over(outcome) = self.flight.change(State::Unwatched) {
            self.flushes.owe(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;
    use std::rc::Rc;

    use compio::driver::ProactorBuilder;
    use futures_lite::future::{poll_once, yield_now};

    use super::*;
    use crate::run_event_loop;

    fn failure() -> io::Result<()> {
        Err(io::Error::other("the disk is gone"))
    }

    fn on_a_loop<T>(test: impl Future<Output = T>) -> T {
        run_event_loop(1, ProactorBuilder::new(), test).expect("an event loop")
    }

    #[test]
    fn who_waits_is_told_and_nobody_else() {
        on_a_loop(async {
            let flushes = Arc::<Flushes>::default();
            let waiter = flushes.turn().await.begin(async { failure() }, Held::NOTHING);
            assert_eq!(waiter.over().await.unwrap_err().to_string(), "the disk is gone");
            assert!(flushes.take_owed().is_none(), "it was told once");
        });
    }

    #[test]
    fn a_failure_that_nobody_waits_for_is_the_next_one_s() {
        on_a_loop(async {
            let flushes = Arc::<Flushes>::default();
            for lets_it_begin in [false, true] {
                let over = Rc::new(Cell::new(false));
                let flush = {
                    let over = Rc::clone(&over);
                    async move {
                        yield_now().await;
                        over.set(true);
                        failure()
                    }
                };
                let mut waiting = Box::pin(flushes.turn().await.begin(flush, Held::NOTHING).over());
                if lets_it_begin {
                    assert!(poll_once(&mut waiting).await.is_none(), "it is under way");
                }
                drop(waiting);
                assert!(poll_once(flushes.turn()).await.is_none(), "no other begins beside it");
                drop(flushes.turn().await);
                assert!(over.get(), "it went on to its end");
                assert_eq!(flushes.take_owed().expect("it is owed").to_string(), "the disk is gone");
            }
        });
    }

    #[test]
    fn a_failure_that_came_before_its_waiter_was_dropped_is_owed_too() {
        on_a_loop(async {
            let flushes = Arc::<Flushes>::default();
            let waiter = flushes.turn().await.begin(async { failure() }, Held::NOTHING);
            drop(flushes.turn().await);
            drop(waiter);
            assert!(flushes.take_owed().is_some());
        });
    }

    #[test]
    fn what_ends_with_its_event_loop_has_failed_and_lets_go() {
        let (flushes, memory) = (Arc::<Flushes>::default(), Arc::new([0_u8; 16]));
        let waiter = on_a_loop(async {
            let held = Held::new(Arc::clone(&memory));
            flushes.turn().await.begin(pending(), held)
        });
        let over = futures_lite::future::block_on(waiter.over());
        assert!(over.unwrap_err().to_string().contains("its event loop"));
        assert_eq!(Arc::strong_count(&memory), 1);
        assert!(futures_lite::future::block_on(poll_once(flushes.turn())).is_some(), "the next may begin");
    }
}
