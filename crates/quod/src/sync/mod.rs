//! Every primitive that the engine synchronises with, so that a model checker can take its place.
//!
//! Role: a normal build has the real ones, re-exported, and [`bytes_of`]: no cost and no other behaviour. Under `--cfg quod_shuttle` or
//! `--cfg quod_loom` they are those of the model checker, which then decides at each of them who runs next, and
//! `stand_in.rs` has what neither checker brings. The models are in `models/`; `cargo xtask models` builds and runs them.
//!
//! Invariant: what is shared between threads is shared through here.
//!
//! Absent on purpose: `Arc`, of whose count nothing is asked but that the last clone passes a turn on, and that the memory of a
//! slice with one clone serves again; the semaphore of `layer.rs`, which no model exhausts; and the counters of
//! `cache/stats.rs`, where a thread owns its stripe by a `static`,
//! which a model does not start afresh.

#[cfg(all(quod_loom, quod_shuttle))]
compile_error!("one model checker at a time");

#[cfg(any(quod_loom, quod_shuttle))]
mod stand_in;

#[cfg(not(any(quod_loom, quod_shuttle)))]
pub(crate) use {
    arc_swap::ArcSwapOption,
    event_listener::{Event, EventListener},
    std::sync::{Mutex, MutexGuard, OnceLock, atomic},
};

#[cfg(any(quod_loom, quod_shuttle))]
pub(crate) use stand_in::{ArcSwapOption, Event, EventListener, OnceLock, bytes_of};

#[cfg(quod_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};

#[cfg(quod_shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};

/// The memory of integers that nobody else sees, as bytes in little-endian order. `None` where they are not kept so.
#[cfg(not(any(quod_loom, quod_shuttle)))]
pub(crate) fn bytes_of(integers: &mut [atomic::AtomicU64]) -> Option<&mut [u8]> {
    cfg!(target_endian = "little").then(|| zerocopy::IntoBytes::as_mut_bytes(integers))
}
