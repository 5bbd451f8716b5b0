//! Table entries: 64-bit values to meaning and back.
//!
//! Role: the one place that knows the sentinels (`docs/spec/qed-format.md`, Entries), and judges whether an offset is one
//! that an entry may name. Pure.
//!
//! Absent on purpose: raw 0 and 1 anywhere else.

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use crate::geometry::Geometry;
use crate::units::{ClusterCount, FileOffset};

const UNALLOCATED: u64 = 0;
const ZERO: u64 = 1;

/// What an L2 entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum L2Entry {
    /// Reads come from the backing file; zeroes where there is none.
    Unallocated,
    /// Reads as zeroes, whatever lies below.
    Zero,
    /// The cluster's bytes lie here.
    Data(FileOffset),
}

impl L2Entry {
    pub(crate) fn decode(raw: u64) -> Self {
        match raw {
            UNALLOCATED => L2Entry::Unallocated,
            ZERO => L2Entry::Zero,
            at => L2Entry::Data(FileOffset(at)),
        }
    }

    pub(crate) fn encode(self) -> u64 {
        match self {
            L2Entry::Unallocated => UNALLOCATED,
            L2Entry::Zero => ZERO,
            L2Entry::Data(at) => at.0,
        }
    }
}

/// What an L1 entry says: the place of an L2 table, or nothing. The value 1 has no meaning there and is an offset
/// like any other, an invalid one.
pub(crate) fn decode_l1(raw: u64) -> Option<FileOffset> {
    (raw != UNALLOCATED).then_some(FileOffset(raw))
}

/// Which file offsets an entry may name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValidRange {
    pub(crate) geometry: Geometry,
    pub(crate) file_length: u64,
}

impl ValidRange {
    /// Whether `clusters` clusters may lie at `at`: aligned, past the header, inside the file.
    pub(crate) fn holds(&self, at: FileOffset, clusters: ClusterCount) -> bool {
        self.geometry.is_cluster_start(at.0)
            && at >= self.geometry.header_end()
            && self.ends_inside(at, clusters)
    }

    /// Whether `clusters` clusters from `at` on end inside the file.
    pub(crate) fn ends_inside(&self, at: FileOffset, clusters: ClusterCount) -> bool {
        at.0.checked_add(self.geometry.bytes_of(clusters)).is_some_and(|end| end <= self.file_length)
    }
}

/// Decodes the bytes of a run of entries.
///
/// # Panics
/// When the length is not a multiple of eight: it is ours.
pub(crate) fn entries(bytes: &[u8]) -> impl ExactSizeIterator<Item = u64> + '_ {
    in_place(bytes).iter().map(|entry| entry.get())
}

/// As [`entries`], where they are.
pub(crate) fn in_place(bytes: &[u8]) -> &[U64] {
    <[U64]>::ref_from_bytes(bytes).expect("whole entries")
}

/// Encodes a run of entries into bytes of the same length.
///
/// # Panics
/// When the lengths differ: they are ours.
pub(crate) fn encode_entries(entries: impl ExactSizeIterator<Item = u64>, into: &mut [u8]) {
    assert_eq!(entries.len() * size_of::<U64>(), into.len(), "room for every entry");
    for (slot, entry) in into.chunks_exact_mut(size_of::<U64>()).zip(entries) {
        slot.copy_from_slice(U64::new(entry).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_are_decoded_at_the_edge() {
        for entry in [L2Entry::Unallocated, L2Entry::Zero, L2Entry::Data(FileOffset(65536))] {
            assert_eq!(L2Entry::decode(entry.encode()), entry);
        }
        assert_eq!(decode_l1(0), None);
        assert_eq!(decode_l1(1), Some(FileOffset(1)));
    }

    #[test]
    fn an_entry_names_whole_clusters_past_the_header_and_inside_the_file() {
        let valid = ValidRange { geometry: Geometry::new(4096, 2, 2).unwrap(), file_length: 10 * 4096 + 5 };
        let (one, two) = (ClusterCount(1), ClusterCount(2));
        assert!(valid.holds(FileOffset(2 * 4096), one));
        assert!(valid.holds(FileOffset(9 * 4096), one));
        assert!(!valid.holds(FileOffset(4096), one), "inside the header");
        assert!(!valid.holds(FileOffset(2 * 4096 + 512), one), "unaligned");
        assert!(!valid.holds(FileOffset(10 * 4096), one), "the trailing part is no cluster");
        assert!(!valid.holds(FileOffset(9 * 4096), two), "a table needs all its clusters");
        assert!(!valid.holds(FileOffset(!4095), two), "overflow");
    }

    #[test]
    fn entries_are_little_endian() {
        let mut bytes = [0; 16];
        encode_entries([0x0102u64, u64::MAX].into_iter(), &mut bytes);
        assert_eq!(bytes[..2], [2, 1]);
        assert_eq!(entries(&bytes).collect::<Vec<_>>(), [0x0102, u64::MAX]);
    }
}
