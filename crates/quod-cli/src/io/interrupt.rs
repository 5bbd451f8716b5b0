//! Being interrupted.
//!
//! Role: closes the open image when a signal ends the command, so that nothing that was answered stays pending.
//!
//! Invariant: the image that [`Interrupt::watch`] was told of is closed before the signal takes its effect, or its failure is
//! told; a close that is under way comes to its end first.
//!
//! Absent on purpose: waiting for requests that run. A request that still has to allocate fails, as after any close.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::output;
use crate::place::AnyDisk;

/// What is to be closed when a signal comes.
pub(super) struct Interrupt {
    disk: Arc<Mutex<Option<AnyDisk>>>,
}

impl Interrupt {
    /// Receives signals from now on.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let disk = Arc::new(Mutex::new(None));
        let watched = Arc::clone(&disk);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                end_by(signal, &watched);
            }
        })?;
        Ok(Interrupt { disk })
    }

    /// Closes that image when a signal comes.
    pub(super) fn watch(&self, disk: &AnyDisk) {
        *lock(&self.disk) = Some(disk.clone());
    }

    /// The image is going to be closed by the caller, who keeps signals away until the guard is dropped.
    pub(super) fn closing(&self) -> impl Drop {
        let mut disk = lock(&self.disk);
        *disk = None;
        disk
    }
}

fn end_by(signal: i32, watched: &Mutex<Option<AnyDisk>>) {
    // Kept: nobody opens another one any more.
    let mut watched = lock(watched);
    if let Some(disk) = watched.take()
        && let Err(error) = quod::block_on(disk.close())
    {
        output::warn_line(&format!("not closed in order: {error}"));
    }
    if let Err(error) = emulate_default_handler(signal) {
        output::warn_line(&format!("the signal cannot take its effect: {error}"));
    }
}

fn lock(disk: &Mutex<Option<AnyDisk>>) -> MutexGuard<'_, Option<AnyDisk>> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}
