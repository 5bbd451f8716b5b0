//! Accepting clients, and handing them to event loops.
//!
//! Invariant: accepting goes on through want of descriptors and memory. Who is accepted is counted before its loop hears
//! of it.
//!
//! Absent on purpose: what becomes of a client (`clients.rs`).

use std::fs;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use async_channel::Sender;
use futures_lite::future::yield_now;
use rustix::process::{Resource, getrlimit};

use super::crowd::{Crowd, Place};
use super::listener::Door;
use super::warnings::Warnings;

/// Descriptors left for what is opened later and is not a connection; half of them all where there are few.
const OTHER_FILES: u64 = 64;

/// A client that was accepted.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) number: u64,
    pub(crate) stream: OwnedFd,
    pub(crate) place: Place,
}

/// Where clients come in. On one event loop.
pub(crate) struct Entrance {
    crowd: Arc<Crowd>,
    /// To each loop.
    loops: Vec<Sender<Newcomer>>,
    /// Warnings about clients that were let go.
    crowded: Warnings,
}

impl Entrance {
    /// Hands clients to `loops`, which are those of `crowd`.
    pub(crate) fn new(crowd: Arc<Crowd>, loops: Vec<Sender<Newcomer>>) -> Rc<Self> {
        Rc::new(Entrance { crowd, loops, crowded: Warnings::default() })
    }

    /// Accepts clients for ever.
    pub(crate) async fn accept(self: Rc<Self>, door: Door) {
        loop {
            // A crowd at the door does not hold up those who are in.
            yield_now().await;
            self.crowd.room().await;
            match door.accept() {
                Ok(stream) => self.welcome(stream),
                Err(error) => door.wait_after(error).await,
            }
        }
    }

    /// Hands a client to its loop, or lets it go.
    fn welcome(&self, stream: OwnedFd) {
        let Some(place) = self.crowd.admit() else {
            if let Some(suppressed) = self.crowded.admit() {
                let open = self.crowd.open();
                tracing::warn!(open, suppressed, "too many clients: one was let go");
            }
            return;
        };
        let newcomer = Newcomer { number: self.crowd.stats().accepted, stream, place };
        if self.loops[newcomer.place.at()].try_send(newcomer).is_err() {
            tracing::error!("an event loop is gone, and a client with it");
        }
    }
}

/// How many connections the limit of open files leaves room for.
pub(crate) fn spare_files() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // The images of many exports, and their backing files.
    let taken = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
    usize::try_from(spare_of(limit.saturating_sub(taken))).unwrap_or(usize::MAX)
}

/// How many of so many descriptors are for connections.
fn spare_of(left: u64) -> u64 {
    left - OTHER_FILES.min(left / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_of_open_files_leaves_room_for_clients() {
        for (left, spare) in [(0, 0), (1, 1), (50, 25), (128, 64), (1000, 936)] {
            assert_eq!(spare_of(left), spare);
        }
    }
}
