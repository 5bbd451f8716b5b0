//! Disks that other servers export, as storage.
//!
//! Role: [`NbdUri`] names an export, [`NbdStorage`] is one, over TCP, a Unix socket, or TLS on either.
//!
//! Invariant: a server is as little trusted as a client of ours: whatever it sends, every request ends with its bytes or
//! with an error that says why, nothing is sized by a number of its before that was bounded, and bytes land nowhere but
//! where they were asked for.
//!
//! Absent on purpose: a runtime. One thread a connection receives; futures send for themselves. Reconnecting, several
//! connections to one export, and TLS by pre-shared keys, which rustls does not have.

mod blocks;
mod certificates;
mod connect;
mod covered;
mod dispatch;
mod error;
mod link;
mod receiver;
mod reply;
mod slot;
mod socket;
mod storage;
mod uri;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use error::UriError;
pub use storage::NbdStorage;
pub use uri::{DEFAULT_PORT, NbdUri, Place, TlsNames};

/// Locks; what a thread that panicked left is whole, since no guard is held across anything that can panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
