//! The word that the server is shutting down.
//!
//! Invariant: once said it stays said, and everybody who waits for it hears it, on any event loop.

use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::{Event, listener};

/// Said once by the server, heard by every connection.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    said: AtomicBool,
    heard: Event,
}

impl Closing {
    /// Says it.
    pub(crate) fn say(&self) {
        self.said.store(true, Ordering::Release);
        self.heard.notify(usize::MAX);
    }

    /// Whether it was said.
    pub(crate) fn is_said(&self) -> bool {
        self.said.load(Ordering::Acquire)
    }

    /// Waits until it is said.
    pub(crate) async fn wait(&self) {
        while !self.is_said() {
            listener!(self.heard => heard);
            // It may have been said before there was anybody to hear it.
            if !self.is_said() {
                heard.await;
            }
        }
    }
}
