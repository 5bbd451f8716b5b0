//! What may go wrong, and how often.
//!
//! Role: [`Faults`] holds the odds that the simulated kernel throws its dice by; [`Fault`] is one failure, thrown or
//! planned.
//!
//! Absent on purpose: crashes (asked for by the test, see [`World::crash`](crate::World::crash)).

use std::io;
use std::ops::RangeInclusive;

/// What an operation does, as far as faults care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `read_at`.
    Read,
    /// `write_at`, `write_zeroes`, `punch`.
    Write,
    /// `set_len`.
    SetLen,
    /// `flush`.
    Flush,
    /// `extent`, `length`.
    Ask,
}

/// A failure of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO, this time. A write may have reached the disk in part.
    Io,
    /// EIO, now and for every later operation of the kind.
    IoForGood,
    /// ENOSPC. A write may have reached the disk in part; a flush has failed as by EIO.
    NoSpace,
}

impl Fault {
    pub(crate) fn error(self) -> io::Error {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        io::Error::from_raw_os_error(if self == Fault::NoSpace { ENOSPC } else { EIO })
    }
}

/// The odds, in one of a thousand, and the measure of what may go wrong.
#[derive(Clone, Debug)]
pub struct Faults {
    /// An operation is over before its future is first polled again: no delay at all.
    pub instant: u32,
    /// How often the kernel passes over an operation before it begins it, at most.
    pub delay: u32,
    /// A read fails.
    pub read_error: u32,
    /// A write or punch fails.
    pub write_error: u32,
    /// A change of length fails.
    pub length_error: u32,
    /// A flush fails.
    pub flush_error: u32,
    /// A question for an extent or the length fails.
    pub ask_error: u32,
    /// Of those failures: the device is gone for that kind of operation.
    pub for_good: u32,
    /// The file system becomes full at an operation.
    pub full: u32,
    /// For how many operations it stays full.
    pub full_for: RangeInclusive<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults::delays()
    }
}

impl Faults {
    /// Nothing fails and nothing is delayed: every operation is over at the first poll.
    pub fn none() -> Self {
        Faults { instant: 1000, delay: 0, ..Faults::delays() }
    }

    /// Nothing fails; operations are delayed and complete out of order.
    pub fn delays() -> Self {
        Faults {
            instant: 100,
            delay: 4,
            read_error: 0,
            write_error: 0,
            length_error: 0,
            flush_error: 0,
            ask_error: 0,
            for_good: 0,
            full: 0,
            full_for: 5..=60,
        }
    }

    /// Delays, and a file system that is full now and then.
    pub fn tight() -> Self {
        Faults { full: 15, ..Faults::delays() }
    }

    /// Delays, and everything fails now and then, some of it for good.
    pub fn rotten() -> Self {
        Faults {
            read_error: 5,
            write_error: 8,
            length_error: 40,
            flush_error: 20,
            ask_error: 5,
            for_good: 200,
            full: 5,
            ..Faults::delays()
        }
    }

    /// The same delays, and nothing fails.
    #[must_use]
    pub fn healthy(self) -> Self {
        Faults { instant: self.instant, delay: self.delay, ..Faults::delays() }
    }
}
