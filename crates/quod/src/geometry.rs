//! The arithmetic of an image: which bits of a guest offset select what.
//!
//! Role: everything that follows from cluster_size, table_size and header_size alone
//! (`docs/spec/qed-format.md`, Geometry). Pure: no I/O, no image bytes.
//!
//! Invariant: a `Geometry` is legal: sizes are powers of two within the format's bounds.
//!
//! Absent on purpose: rounding anywhere else. Whoever needs a count of clusters asks here.

use std::ops::RangeInclusive;

use crate::units::{ClusterCount, FileOffset, GuestCluster, GuestOffset};

pub(crate) const MIN_CLUSTER_SIZE: u32 = 1 << 12;
pub(crate) const MAX_CLUSTER_SIZE: u32 = 1 << 26;
pub(crate) const MAX_TABLE_SIZE: u32 = 16;
/// The virtual size is a multiple of this many bytes.
pub(crate) const SECTOR: u64 = 512;
/// Bytes of one table entry.
pub(crate) const ENTRY: u64 = 8;
/// log2 of the entries of a slice: the unit that tables are read, kept and written in. No table is smaller.
pub(crate) const SLICE_ENTRIES_BITS: u32 = 9;
/// Bytes of a slice.
pub(crate) const SLICE_BYTES: u64 = ENTRY << SLICE_ENTRIES_BITS;
/// A file can not be longer: offsets are signed to the system.
pub(crate) const MAX_FILE_LENGTH: u64 = i64::MAX as u64;
/// A disk can not be larger: no client could name its end.
pub(crate) const MAX_IMAGE_SIZE: u64 = i64::MAX as u64 & !(SECTOR - 1);

/// The legal sizes of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    cluster_bits: u32,
    table_clusters_bits: u32,
    header_clusters: u32,
}

/// Where an entry lies, by slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlicePlace {
    /// Number of the slice among all of its level.
    pub(crate) index: u64,
    /// Where the slice begins in its table, in bytes.
    pub(crate) in_table: u64,
    /// The entry's place in the slice.
    pub(crate) entry: usize,
}

impl Geometry {
    /// Takes sizes as the header has them; `None` where the format forbids the cluster or the table size.
    pub(crate) fn new(cluster_size: u32, table_size: u32, header_size: u32) -> Option<Self> {
        let cluster =
            (MIN_CLUSTER_SIZE..=MAX_CLUSTER_SIZE).contains(&cluster_size) && cluster_size.is_power_of_two();
        let table = (1..=MAX_TABLE_SIZE).contains(&table_size) && table_size.is_power_of_two();
        (cluster && table && header_size > 0).then(|| Geometry {
            cluster_bits: cluster_size.trailing_zeros(),
            table_clusters_bits: table_size.trailing_zeros(),
            header_clusters: header_size,
        })
    }

    /// Bytes of one cluster.
    pub(crate) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Clusters of one table.
    pub(crate) fn table_clusters(&self) -> ClusterCount {
        ClusterCount(1 << self.table_clusters_bits)
    }

    /// Bytes of one table.
    pub(crate) fn table_bytes(&self) -> u64 {
        1 << self.table_bytes_bits()
    }

    fn table_bytes_bits(&self) -> u32 {
        self.cluster_bits + self.table_clusters_bits
    }

    /// log2 of the entries of one table.
    pub(crate) fn table_entries_bits(&self) -> u32 {
        self.table_bytes_bits() - ENTRY.trailing_zeros()
    }

    /// Where the header's clusters end and those that entries may name begin.
    pub(crate) fn header_end(&self) -> FileOffset {
        FileOffset(u64::from(self.header_clusters) << self.cluster_bits)
    }

    /// log2 of the guest bytes that one L1 entry covers.
    pub(crate) fn table_span_bits(&self) -> u32 {
        self.table_entries_bits() + self.cluster_bits
    }

    /// Largest virtual size in bytes that L1 can address; more than 64 bits for the largest geometries.
    pub(crate) fn max_image_size(&self) -> u128 {
        1u128 << (self.table_entries_bits() + self.table_span_bits())
    }

    /// The L1 entry that a guest offset goes through.
    pub(crate) fn l1_index(&self, at: GuestOffset) -> u64 {
        at.0 >> self.table_span_bits()
    }

    /// The first guest offset that an L1 entry covers.
    pub(crate) fn table_start(&self, l1_index: u64) -> GuestOffset {
        GuestOffset(l1_index << self.table_span_bits())
    }

    /// log2 of the guest bytes that one slice of L2 covers.
    fn slice_span_bits(&self) -> u32 {
        self.cluster_bits + SLICE_ENTRIES_BITS
    }

    /// The slices of L2 that the table of an L1 entry is made of.
    pub(crate) fn slices_of_table(&self, l1_index: u64) -> RangeInclusive<u64> {
        let bits = self.table_entries_bits() - SLICE_ENTRIES_BITS;
        let first = l1_index << bits;
        first..=first + ((1 << bits) - 1)
    }

    /// The slice of L2 that holds a guest offset's entry: its number among all slices of L2, its place in its table in
    /// bytes, and the entry's place in it.
    pub(crate) fn l2_slice(&self, at: GuestOffset) -> SlicePlace {
        let cluster = self.guest_cluster(at).0;
        let in_table = cluster & ((1 << self.table_entries_bits()) - 1);
        SlicePlace {
            index: cluster >> SLICE_ENTRIES_BITS,
            in_table: (in_table >> SLICE_ENTRIES_BITS) * SLICE_BYTES,
            entry: (cluster & ((1 << SLICE_ENTRIES_BITS) - 1)) as usize,
        }
    }

    /// The slice of L1 that holds a guest offset's entry.
    pub(crate) fn l1_slice(&self, at: GuestOffset) -> SlicePlace {
        let l1_index = self.l1_index(at);
        let index = l1_index >> SLICE_ENTRIES_BITS;
        let entry = (l1_index & ((1 << SLICE_ENTRIES_BITS) - 1)) as usize;
        SlicePlace { index, in_table: index * SLICE_BYTES, entry }
    }

    /// Bytes from a guest offset to the end of what its L1 entry covers.
    pub(crate) fn left_in_table(&self, at: GuestOffset) -> u64 {
        let span = 1u64 << self.table_span_bits();
        span - (at.0 & (span - 1))
    }

    /// Bytes from a guest offset to the end of what its slice of L2 covers.
    pub(crate) fn left_in_slice(&self, at: GuestOffset) -> u64 {
        self.left_in_slices(at, 1)
    }

    /// Bytes from a guest offset to the end of what `slices` slices of L2 cover, of which its own is the first.
    pub(crate) fn left_in_slices(&self, at: GuestOffset, slices: u64) -> u64 {
        let bits = self.slice_span_bits();
        (slices << bits) - (at.0 & ((1 << bits) - 1))
    }

    /// The cluster of the disk that a guest offset lies in.
    pub(crate) fn guest_cluster(&self, at: GuestOffset) -> GuestCluster {
        GuestCluster(at.0 >> self.cluster_bits)
    }

    /// Where a cluster of the disk begins.
    pub(crate) fn cluster_start(&self, cluster: GuestCluster) -> GuestOffset {
        GuestOffset(cluster.0 << self.cluster_bits)
    }

    /// Byte within its cluster.
    pub(crate) fn in_cluster(&self, at: GuestOffset) -> u64 {
        at.0 & (self.cluster_size() - 1)
    }

    /// Clusters that hold `bytes`, the last one perhaps in part.
    pub(crate) fn clusters_for(&self, bytes: u64) -> ClusterCount {
        ClusterCount(bytes.div_ceil(self.cluster_size()))
    }

    /// Bytes of that many clusters.
    ///
    /// # Panics
    /// When they exceed 64 bits; counts come from lengths that fit.
    pub(crate) fn bytes_of(&self, clusters: ClusterCount) -> u64 {
        clusters
            .0
            .checked_mul(self.cluster_size())
            .expect("a count of clusters that came from a length in bytes")
    }

    /// The length without a trailing partial cluster.
    pub(crate) fn whole_clusters(&self, length: u64) -> u64 {
        length & !(self.cluster_size() - 1)
    }

    /// Whether a file offset is where a cluster begins.
    pub(crate) fn is_cluster_start(&self, at: u64) -> bool {
        at & (self.cluster_size() - 1) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_geometry_is_the_one_the_format_page_tells() {
        let geometry = Geometry::new(65536, 4, 1).unwrap();
        assert_eq!(geometry.table_bytes(), 256 << 10);
        assert_eq!(1u64 << geometry.table_entries_bits(), 32768);
        assert_eq!(1u64 << geometry.table_span_bits(), 2 << 30);
        assert_eq!(geometry.max_image_size(), 64 << 40);
    }

    #[test]
    fn the_largest_geometry_needs_128_bits() {
        let geometry = Geometry::new(1 << 26, 16, 1).unwrap();
        assert_eq!(geometry.table_bytes(), 1 << 30);
        assert_eq!(geometry.max_image_size(), 1 << 80);
        assert_eq!(geometry.l1_index(GuestOffset(u64::MAX)), (1 << (64 - 53)) - 1);
    }

    #[test]
    fn the_smallest_geometry_ends_at_a_gibibyte() {
        assert_eq!(Geometry::new(4096, 1, 1).unwrap().max_image_size(), 1 << 30);
    }

    #[test]
    fn sizes_outside_the_format_are_no_geometry() {
        for (cluster, table, header) in [
            (2048, 4, 1),
            (1 << 27, 4, 1),
            (65537, 4, 1),
            (0, 4, 1),
            (65536, 0, 1),
            (65536, 3, 1),
            (65536, 32, 1),
            (65536, 4, 0),
        ] {
            assert_eq!(Geometry::new(cluster, table, header), None, "{cluster} {table} {header}");
        }
    }

    #[test]
    fn every_table_is_whole_slices() {
        let smallest = Geometry::new(4096, 1, 1).unwrap();
        assert_eq!(smallest.table_bytes(), SLICE_BYTES);
        let geometry = Geometry::new(65536, 4, 1).unwrap();
        let place = geometry.l2_slice(GuestOffset((2 << 30) + (33 << 20)));
        assert_eq!(place, SlicePlace { index: 65, in_table: SLICE_BYTES, entry: 16 });
    }

    #[test]
    fn an_offset_is_the_sum_of_its_parts() {
        let geometry = Geometry::new(4096, 2, 1).unwrap();
        let at = GuestOffset(0x1234_5678);
        let cluster = geometry.guest_cluster(at);
        assert_eq!(geometry.cluster_start(cluster).plus(geometry.in_cluster(at)), at);
        assert_eq!(geometry.l1_index(at), at.0 / (1024 * 4096));
        assert_eq!(geometry.clusters_for(4097), ClusterCount(2));
        assert_eq!(geometry.whole_clusters(8191), 4096);
    }
}
