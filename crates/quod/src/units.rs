//! One type per unit, so that no bare number crosses a module.
//!
//! Role: where a byte lies on the virtual disk (`GuestOffset`), where it lies in a file ([`FileOffset`]), how many
//! clusters there are (`ClusterCount`), and which of the flushes of an open it was (`FlushNumber`).
//!
//! Absent on purpose: conversions between the two kinds of offset. Only a table entry knows that.

use std::fmt;

/// A byte position on the virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GuestOffset(pub(crate) u64);

/// A byte position in an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(pub u64);

/// A number of clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterCount(pub(crate) u64);

/// Which cluster of the virtual disk: guest offset divided by the cluster size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GuestCluster(pub(crate) u64);

/// Flushes of an open image, numbered in the order they begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlushNumber(pub(crate) u64);

impl FlushNumber {
    /// Before the first: who waits for it waits for none.
    pub(crate) const NONE: FlushNumber = FlushNumber(0);
    /// As if all had succeeded.
    pub(crate) const ALL: FlushNumber = FlushNumber(u64::MAX);

    pub(crate) fn next(self) -> Self {
        FlushNumber(self.0 + 1)
    }
}

impl GuestOffset {
    /// The position `bytes` further on; callers have bounded both by the disk's size.
    pub(crate) fn plus(self, bytes: u64) -> Self {
        GuestOffset(self.0 + bytes)
    }
}

impl FileOffset {
    /// The position `bytes` further on; callers have bounded both by the file's length.
    pub(crate) fn plus(self, bytes: u64) -> Self {
        FileOffset(self.0 + bytes)
    }
}

impl fmt::Display for GuestOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest offset {:#x}", self.0)
    }
}

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file offset {:#x}", self.0)
    }
}
