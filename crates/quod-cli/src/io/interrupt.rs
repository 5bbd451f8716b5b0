//! Being interrupted.
//!
//! Role: closes the open image when a signal ends the command, so that nothing that was answered stays pending.
//!
//! Invariants: the image that [`Interrupt::watch`] was told of is closed before the signal takes its effect, or it is told
//! why not; a close of the session's own comes to its end first, and what it has to tell is told. After [`PATIENCE`] the
//! signal takes its effect whatever the storage does.
//!
//! Absent on purpose: waiting for requests that run. A request that still has to allocate fails, as after any close.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::place::AnyDisk;
use crate::{output, signals};

/// How long storage that does not answer may keep a signal from its effect.
const PATIENCE: Duration = Duration::from_secs(30);

/// After so long it is told that a close is under way.
const SILENCE: Duration = Duration::from_secs(1);

/// What is to be closed when a signal comes.
pub(super) struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    disk: Option<AnyDisk>,
    /// The session closes its image, or tells what came of that.
    is_closing: bool,
    /// A signal has come.
    is_ending: bool,
}

impl Interrupt {
    /// Receives signals from now on.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let mut signals = Signals::new(signals::that_end_a_command())?;
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                told.lock().is_ending = true;
                // Where there is no thread for it, the close takes what it takes.
                let _bounded: bool = thread::Builder::new().spawn(move || lose_patience(signal)).is_ok();
                told.close();
                end_by(signal);
            }
        })?;
        Ok(Interrupt { shared })
    }

    /// Closes that image when a signal comes.
    pub(super) fn watch(&self, disk: &AnyDisk) {
        self.shared.lock().disk = Some(disk.clone());
    }

    /// The session closes its image. Signals wait until [`told`](Interrupt::told).
    pub(super) fn closing(&self) {
        let mut state = self.shared.running();
        state.is_closing = true;
        state.disk = None;
    }

    /// What came of a close has been told.
    pub(super) fn told(&self) {
        self.shared.running().is_closing = false;
        self.shared.changed.notify_all();
    }

    /// Does not come back once a signal has come: what fails by its close is nobody's to tell.
    pub(super) fn stand_still(&self) {
        drop(self.shared.running());
    }
}

impl Shared {
    /// Closes the image that nobody else closes.
    fn close(&self) {
        let mut state = self.lock();
        while state.is_closing {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let disk = state.disk.take();
        drop(state);
        if let Some(Err(error)) = disk.map(|disk| quod::block_on(disk.close())) {
            output::warn_line(&format!("not closed in order: {error}"));
        }
    }

    /// The state while no signal has come, unless the session is closing.
    fn running(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.is_ending && !state.is_closing {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the signal have its effect when the close takes too long.
fn lose_patience(signal: i32) {
    thread::sleep(SILENCE);
    output::warn_line("Closing; this takes at most half a minute.");
    thread::sleep(PATIENCE - SILENCE);
    output::warn_line("not closed in half a minute");
    end_by(signal);
}

fn end_by(signal: i32) {
    if let Err(error) = emulate_default_handler(signal) {
        output::warn_line(&format!("the signal cannot take its effect: {error}"));
    }
}
