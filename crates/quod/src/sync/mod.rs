//! Every primitive that the engine synchronises with, so that a model checker can take its place.
//!
//! Role: a normal build has the real ones, re-exported: no cost and no other behaviour. Under `--cfg quod_shuttle` or
//! `--cfg quod_loom` they are those of the model checker, which then decides at each of them who runs next, and
//! `stand_in.rs` has what neither checker brings. The models are in `models/`; `cargo xtask models` builds and runs them.
//!
//! Invariant: what is shared between threads is shared through here.
//!
//! Absent on purpose: `Arc`, of whose count nothing is asked but that the last clone passes a turn on; the semaphore of
//! `layer.rs`, which no model exhausts; and the counters of `cache/stats.rs`, where a thread owns its stripe by a `static`, which
//! a model does not start afresh.

#[cfg(all(quod_loom, quod_shuttle))]
compile_error!("one model checker at a time");

#[cfg(any(quod_loom, quod_shuttle))]
mod stand_in;

#[cfg(not(any(quod_loom, quod_shuttle)))]
pub(crate) use {
    event_listener::{Event, EventListener},
    std::sync::{Mutex, MutexGuard, OnceLock, atomic},
};

#[cfg(any(quod_loom, quod_shuttle))]
pub(crate) use stand_in::{Event, EventListener, OnceLock};

#[cfg(quod_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};

#[cfg(quod_shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};

/// A word of memory that any thread may look at, whatever is kept there. Between two of them no schedule has to change: readers look
/// at words between looks at primitives, and the kernels have all interleavings.
#[cfg(not(quod_loom))]
pub(crate) type Word = std::sync::atomic::AtomicU64;
#[cfg(quod_loom)]
pub(crate) type Word = atomic::AtomicU64;

/// So many times some words that are 0; those of many the system has not to provide before they are used.
#[cfg(not(quod_loom))]
pub(crate) fn zeroed_lines<const WORDS: usize>(count: usize) -> Box<[[Word; WORDS]]> {
    zerocopy::FromZeros::new_box_zeroed_with_elems(count)
        .expect("memory for slices, of a cache whose budget is known")
}
#[cfg(quod_loom)]
pub(crate) fn zeroed_lines<const WORDS: usize>(count: usize) -> Box<[[Word; WORDS]]> {
    (0..count).map(|_| std::array::from_fn(|_| Word::new(0))).collect()
}

/// Waits a moment for a thread that is at work.
pub(crate) fn spin() {
    #[cfg(quod_loom)]
    loom::thread::yield_now();
    #[cfg(quod_shuttle)]
    shuttle::thread::yield_now();
    #[cfg(not(any(quod_loom, quod_shuttle)))]
    std::hint::spin_loop();
}
