//! What is asked of a simulated file, and what comes back.
//!
//! Role: a [`Job`] is one call of the `Storage` trait; a [`Delivery`] is its answer on the way to the future.
//!
//! Absent on purpose: time and effects (`call.rs`).

use std::fmt;
use std::sync::Arc;

use quod_storage::{Buffers, Held};

use crate::fault::Kind;
use crate::slot::{Answer, Slot};

/// What is asked of a file.
pub(crate) enum Job {
    Read { at: u64, into: Buffers },
    Write { at: u64, from: Buffers },
    Zero { at: u64, len: u64, keep: bool, held: Held },
    SetLen { len: u64, held: Held },
    Flush { held: Held },
    Extent { at: u64, len: u64 },
    Length,
}

/// An answer on its way to whoever waits for it, and what its operation held.
pub(crate) struct Delivery {
    pub(crate) file: usize,
    pub(crate) kind: Kind,
    pub(crate) slot: Arc<Slot>,
    pub(crate) answer: Answer,
    pub(crate) held: Held,
}

impl Job {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Job::Read { .. } => Kind::Read,
            Job::Write { .. } | Job::Zero { .. } => Kind::Write,
            Job::SetLen { .. } => Kind::SetLen,
            Job::Flush { .. } => Kind::Flush,
            Job::Extent { .. } | Job::Length => Kind::Ask,
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Job::Read { at, into } => write!(f, "read {} at {at:#x}", into.len()),
            Job::Write { at, from } => write!(f, "write {} at {at:#x}", from.len()),
            Job::Zero { at, len, keep, .. } => {
                write!(f, "{} {len} at {at:#x}", if *keep { "write zeroes" } else { "punch" })
            }
            Job::SetLen { len, .. } => write!(f, "set length {len:#x}"),
            Job::Flush { .. } => f.write_str("flush"),
            Job::Extent { at, .. } => write!(f, "extent at {at:#x}"),
            Job::Length => f.write_str("length"),
        }
    }
}
