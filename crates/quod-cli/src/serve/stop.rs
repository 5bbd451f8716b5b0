//! Being told to stop.
//!
//! Role: turns SIGINT and SIGTERM into a future that becomes ready; says of SIGHUP that it does nothing.
//!
//! Invariant: a signal at any time after [`Stop::listen`] is remembered; later ones change nothing, so that a second
//! Ctrl-C does not leave an image open.
//!
//! Absent on purpose: work in signal handlers; a thread receives them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use event_listener::Event;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::ready;
use crate::output;

/// Whether it is time to stop.
#[derive(Clone)]
pub(super) struct Stop {
    state: Arc<State>,
}

struct State {
    told: AtomicBool,
    changed: Event,
}

impl Stop {
    /// Receives signals from now on.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn listen() -> io::Result<Self> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let stop = Stop { state: Arc::new(State { told: AtomicBool::new(false), changed: Event::new() }) };
        let told = stop.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                match signal {
                    // By the log, which waits for no reader: the next signal may be one that counts.
                    SIGHUP => tracing::warn!("SIGHUP: there is nothing to reopen; SIGTERM ends the server"),
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
