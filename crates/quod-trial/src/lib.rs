//! The engine in the simulated world: one seed, one trial; a crash after every storage operation.
//!
//! Role: a [`Plan`] names a trial; [`run`] carries it out and examines what each crash leaves; [`shrink`] makes a
//! failing plan small. The laws that hold for every trial stand in `examine.rs`, `guest.rs`, `compare.rs`,
//! `life.rs` and `layout.rs`.
//!
//! Invariant: a plan replays to the same operations and the same crashes. A broken law panics with a sentence: tests
//! fail by it, and a campaign catches it and tells which plan it was.
//!
//! Absent on purpose: the fault model (`quod-sim`), and faults in the engine itself: those that the trials are known to
//! find lie as patches in `crates/quod/faults/`.

mod ask;
mod base;
mod case;
mod compare;
mod examine;
mod form;
mod guest;
mod layout;
mod life;
mod oracle;
mod plan;
mod qemu;
mod shrink;
mod tally;
mod trial;

pub use ask::{Ask, Asks};
pub use case::{Case, Disk, disk};
pub use compare::validate;
pub use examine::{Examiner, kill_and_reopen, spawn};
pub use form::{Dropped, FORMS, Form};
pub use guest::{Guest, close, open};
pub use layout::{Leaks, assert_closed};
pub use oracle::Oracle;
pub use plan::{CrashPoint, Kept, Plan};
pub use qemu::prepare;
pub use shrink::shrink;
pub use tally::{Tally, report};
pub use trial::{Finding, run};
