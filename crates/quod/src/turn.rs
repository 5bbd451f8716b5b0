//! Turns: the right to a step that others must not take at the same time, also across I/O.
//!
//! Role: a [`Turn`] is taken for one metadata operation. The guard goes with the operation as its
//! [`Held`](quod_storage::Held), so a dropped future passes the turn on only when the kernel is done (rule D13).
//!
//! Absent on purpose: data behind the turn. State that must be read without waiting lies beside it, in a lock of
//! its own that no I/O runs under.

use std::sync::Arc;

use async_lock::{Mutex, MutexGuardArc};

/// A right that one request has at a time.
#[derive(Default)]
pub(crate) struct Turn(Arc<Mutex<()>>);

/// The right, until the last clone is dropped.
pub(crate) type TurnGuard = Arc<MutexGuardArc<()>>;

impl Turn {
    /// Waits for the turn. Cancel-safe: a dropped wait takes nothing.
    pub(crate) async fn take(&self) -> TurnGuard {
        Arc::new(self.0.lock_arc().await)
    }
}
