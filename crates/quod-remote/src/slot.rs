//! Where a reply is put for the future that waits for it.
//!
//! Role: [`Slot`] is filled once, by any thread, and awaited once.
//!
//! Invariant: an outcome that nobody takes is given back to whoever must know of it: [`Slot::fill`] returns it when the
//! future is gone already, and [`Waiting`] hands it to its `unclaimed` when it goes with the outcome still inside.
//!
//! Absent on purpose: a runtime.

use std::sync::{Arc, Mutex};

use event_listener::Event;

use crate::lock;

enum State<T> {
    Empty,
    Full(T),
    /// Taken, or nobody waits any more.
    Over,
}

/// Room for one outcome.
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    filled: Event,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Slot { state: Mutex::new(State::Empty), filled: Event::new() })
    }

    /// Puts the outcome in and wakes who waits; gives it back when nobody does.
    pub(crate) fn fill(&self, outcome: T) -> Option<T> {
        {
            let mut state = lock(&self.state);
            if matches!(*state, State::Over) {
                return Some(outcome);
            }
            *state = State::Full(outcome);
        }
        self.filled.notify(usize::MAX);
        None
    }

    fn take(&self) -> Option<T> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Over) {
            State::Full(outcome) => Some(outcome),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Says that nobody waits any more; gives what is inside.
    fn abandon(&self) -> Option<T> {
        match std::mem::replace(&mut *lock(&self.state), State::Over) {
            State::Full(outcome) => Some(outcome),
            State::Empty | State::Over => None,
        }
    }
}

/// The right to the outcome of a slot.
pub(crate) struct Waiting<T, F: FnMut(T)> {
    slot: Arc<Slot<T>>,
    unclaimed: F,
}

impl<T, F: FnMut(T)> Waiting<T, F> {
    /// Waits for `slot`; should this be dropped with the outcome inside, `unclaimed` gets it.
    pub(crate) fn on(slot: Arc<Slot<T>>, unclaimed: F) -> Self {
        Waiting { slot, unclaimed }
    }

    /// Waits.
    pub(crate) async fn outcome(self) -> T {
        loop {
            if let Some(outcome) = self.slot.take() {
                return outcome;
            }
            let filled = self.slot.filled.listen();
            if let Some(outcome) = self.slot.take() {
                return outcome;
            }
            filled.await;
        }
    }
}

impl<T, F: FnMut(T)> Drop for Waiting<T, F> {
    fn drop(&mut self) {
        if let Some(outcome) = self.slot.abandon() {
            (self.unclaimed)(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn an_outcome_is_had_by_exactly_one() {
        let unclaimed = Cell::new(0);
        let slot = Slot::new();
        let waiting = Waiting::on(Arc::clone(&slot), |outcome| unclaimed.set(outcome));
        let mut future = Box::pin(waiting.outcome());
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(&mut future).poll(&mut context).is_pending());
        assert_eq!(slot.fill(5), None);
        drop(future);
        assert_eq!(unclaimed.get(), 5);
        assert_eq!(slot.fill(6), Some(6));

        let slot = Slot::new();
        assert_eq!(slot.fill(7), None);
        let waiting = Waiting::on(slot, |outcome| unclaimed.set(outcome));
        assert_eq!(futures_lite::future::block_on(waiting.outcome()), 7);
        assert_eq!(unclaimed.get(), 5);
    }
}
