//! The word that the server is shutting down.
//!
//! Invariant: once said it stays said, and everybody who waits for it hears it.

use std::cell::Cell;

use event_listener::{Event, listener};

/// Said once by the server, heard by every connection.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    said: Cell<bool>,
    heard: Event,
}

impl Closing {
    /// Says it.
    pub(crate) fn say(&self) {
        self.said.set(true);
        self.heard.notify(usize::MAX);
    }

    /// Whether it was said.
    pub(crate) fn is_said(&self) -> bool {
        self.said.get()
    }

    /// Waits until it is said.
    pub(crate) async fn wait(&self) {
        while !self.said.get() {
            listener!(self.heard => heard);
            heard.await;
        }
    }
}
