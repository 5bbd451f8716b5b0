//! A gate: many may be inside, until somebody closes it and waits for the last one to leave.
//!
//! Role: updates of metadata go through it; clearing NEED_CHECK closes it (D9).
//!
//! Invariants: nobody enters a gate that is closed or closing; one closes it at a time. A gate that is shut stays so. A
//! waiter is woken only by a change, never by another waiter.
//!
//! Absent on purpose: fairness between those who wait.

use std::sync::{Arc, PoisonError};

use crate::sync::{Event, Mutex, MutexGuard};

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Event,
}

#[derive(Default)]
struct State {
    inside: usize,
    closed: bool,
    shut: bool,
}

/// The gate.
#[derive(Default)]
pub(crate) struct Gate(Arc<Shared>);

/// Whoever is inside, until it is dropped.
pub(crate) struct Inside(Arc<Shared>);

/// Keeps the gate closed, until it is dropped.
pub(crate) struct Closed(Arc<Shared>);

impl Gate {
    /// Waits until the gate is open, and goes in; `None` when it will not open again. Cancel-safe.
    pub(crate) async fn enter(&self) -> Option<Inside> {
        loop {
            let changed = self.0.changed.listen();
            {
                let mut state = self.0.lock();
                if state.shut {
                    return None;
                }
                if !state.closed {
                    state.inside += 1;
                    return Some(Inside(Arc::clone(&self.0)));
                }
            }
            changed.await;
        }
    }

    /// Whether nobody is inside, and nobody keeps it closed for a while.
    pub(crate) fn is_free(&self) -> bool {
        let state = self.0.lock();
        state.inside == 0 && !state.closed
    }

    /// Sees to it that nobody goes in any more.
    pub(crate) fn shut(&self) {
        self.0.lock().shut = true;
        self.0.changed.notify(usize::MAX);
    }

    /// Closes the gate and waits until nobody is inside. Cancel-safe: a dropped wait opens it again.
    pub(crate) async fn close(&self) -> Closed {
        let closed = loop {
            let changed = self.0.changed.listen();
            {
                let mut state = self.0.lock();
                if !state.closed {
                    state.closed = true;
                    break Closed(Arc::clone(&self.0));
                }
            }
            changed.await;
        };
        loop {
            let changed = self.0.changed.listen();
            if self.0.lock().inside == 0 {
                return closed;
            }
            changed.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.inside -= 1;
        let last = state.inside == 0 && state.closed;
        drop(state);
        if last {
            self.0.changed.notify(usize::MAX);
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.lock().closed = false;
        self.0.changed.notify(usize::MAX);
    }
}
