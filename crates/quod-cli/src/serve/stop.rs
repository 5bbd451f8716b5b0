//! Being told to stop, or how things stand.
//!
//! Role: turns SIGINT and SIGTERM into a future that becomes ready; says of SIGHUP that it does nothing, and has SIGUSR1
//! answered while there is something to tell.
//!
//! Invariant: a signal at any time after [`Stop::listen`] is remembered; later ones change nothing, so that a second
//! Ctrl-C does not leave an image open.
//!
//! Absent on purpose: work in signal handlers; a thread receives them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use event_listener::Event;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::ready;
use super::status::Status;
use crate::output;

/// Whether it is time to stop.
#[derive(Clone)]
pub(super) struct Stop {
    state: Arc<State>,
}

struct State {
    told: AtomicBool,
    changed: Event,
    /// While it serves.
    status: Mutex<Option<Status>>,
}

impl Stop {
    /// Receives signals from now on.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn listen() -> io::Result<Self> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])?;
        let state = State { told: AtomicBool::new(false), changed: Event::new(), status: Mutex::new(None) };
        let stop = Stop { state: Arc::new(state) };
        let told = stop.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                match signal {
                    // By the log, which waits for no reader: the next signal may be one that counts.
                    SIGHUP => tracing::warn!("SIGHUP: there is nothing to reopen; SIGTERM ends the server"),
                    SIGUSR1 => told.tell_status(),
                    _ => told.tell(),
                }
            }
        })?;
        Ok(stop)
    }

    fn tell(&self) {
        let first = !self.state.told.swap(true, Ordering::AcqRel);
        self.state.changed.notify(usize::MAX);
        if first {
            ready::tell_stopping();
        }
        // Last: nobody may be reading, and then this waits.
        output::warn_line(match first {
            true => "Stopping: finishing requests, then closing.",
            false => "Still stopping; this takes at most half a minute.",
        });
    }

    /// By the log, too.
    fn tell_status(&self) {
        match &*self.status() {
            Some(status) => status.tell(),
            None => tracing::warn!(target: super::ANSWER, "SIGUSR1: nothing is served at the moment"),
        }
    }

    /// Answers SIGUSR1 by `status` until that ends, which drops what it holds.
    pub(super) fn show(&self, status: Status) -> Shown<'_> {
        *self.status() = Some(status);
        Shown(self)
    }

    fn status(&self) -> MutexGuard<'_, Option<Status>> {
        self.state.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one has come.
    pub(super) fn was_told(&self) -> bool {
        self.state.told.load(Ordering::Acquire)
    }

    /// Waits until a signal has come.
    pub(super) async fn wait(&self) {
        while !self.state.told.load(Ordering::Acquire) {
            let changed = self.state.changed.listen();
            if self.state.told.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}

/// What SIGUSR1 tells, until this is dropped.
pub(super) struct Shown<'a>(&'a Stop);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        *self.0.status() = None;
    }
}
