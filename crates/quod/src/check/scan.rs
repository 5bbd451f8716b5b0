//! Reads every table of an image and judges every entry.
//!
//! Role: one pass over L1 and the L2 tables it names. Invalid entries are cleared on the way when that is wished.
//!
//! Invariants: each cluster is entered into the set of referenced ones once; whoever names it again is corrupt. A table
//! in clusters that something else names as well is never written to: it may be data, or another table.
//!
//! Absent on purpose: flushes and the header (`repair.rs`).

use std::ops::Range;

use quod_storage::{Buffer, Storage};
use roaring::RoaringTreemap;

use super::pieces::Tables;
use super::report::CheckReport;
use crate::error::{Error, Result};
use crate::front::Front;
use crate::geometry::{ENTRY, Geometry};
use crate::table::{L2Entry, ValidRange, decode_l1, encode_entries};
use crate::units::{ClusterCount, FileOffset};

pub(super) struct Scan<'a, S> {
    storage: &'a S,
    tables: Tables<'a, S>,
    geometry: Geometry,
    valid: ValidRange,
    l1_table: FileOffset,
    mending: Mending,
    referenced: RoaringTreemap,
    twice: RoaringTreemap,
    obstacle: Option<String>,
    report: CheckReport,
    /// Where the data cluster before this one, under the same table, ended.
    last_end: Option<u64>,
}

/// Whether invalid entries are cleared.
pub(super) enum Mending {
    No,
    /// Yes, but for tables that lie in clusters which an earlier pass found to be referenced twice.
    AllBut(RoaringTreemap),
}

/// What a pass over the tables found.
pub(super) struct Scanned {
    pub(super) report: CheckReport,
    /// Clusters that more than one entry names.
    pub(super) twice: RoaringTreemap,
    /// The first of the findings that clearing entries cannot mend: one about a cluster referenced twice.
    pub(super) obstacle: Option<String>,
    /// Where the last referenced cluster ends, in bytes.
    pub(super) referenced_end: u64,
}

/// What becomes of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Sound,
    /// It names room that it must not; clearing it mends it.
    Invalid,
}

impl<'a, S: Storage> Scan<'a, S> {
    pub(super) fn new(storage: &'a S, front: &Front, mending: Mending) -> Self {
        let geometry = front.header.geometry();
        let report = CheckReport {
            image_end: geometry.whole_clusters(front.file_length),
            total_clusters: geometry.clusters_for(front.header.image_size()).0,
            ..CheckReport::default()
        };
        Scan {
            storage,
            tables: Tables::of(storage, geometry),
            geometry,
            valid: ValidRange { geometry, file_length: front.file_length },
            l1_table: front.header.l1_table(),
            mending,
            referenced: RoaringTreemap::new(),
            twice: RoaringTreemap::new(),
            obstacle: None,
            report,
            last_end: None,
        }
    }

    /// Reads every table.
    ///
    /// # Errors
    /// A table cannot be read, or an entry cannot be cleared.
    pub(super) async fn run(mut self) -> Result<Scanned> {
        self.reference(self.l1_table, self.geometry.table_clusters());
        let mut at = 0;
        while let Some((piece_at, mut piece)) = self.tables.next_piece(self.l1_table, &mut at).await? {
            let mut cleared = 0;
            for (index, entry) in piece.iter_mut().enumerate() {
                let Some(table) = decode_l1(*entry) else { continue };
                let place = piece_at.plus(ENTRY * index as u64);
                if self.judge_l1(place, table).await? == Verdict::Invalid {
                    *entry = L2Entry::Unallocated.encode();
                    cleared += 1;
                }
            }
            self.put_back(piece_at, piece, cleared).await?;
        }
        Ok(self.sum_up())
    }

    async fn judge_l1(&mut self, place: FileOffset, table: FileOffset) -> Result<Verdict> {
        let clusters = self.geometry.table_clusters();
        if !self.valid.holds(table, clusters) {
            self.report.corruption(|| format!("the L1 entry at {place} names no table: {:#x}", table.0));
            return Ok(Verdict::Invalid);
        }
        if !self.reference(table, clusters) {
            self.named_twice(|| {
                format!("the L1 entry at {place} names a table at {table} that is in use already")
            });
            return Ok(Verdict::Sound);
        }
        self.scan_table(table).await?;
        Ok(Verdict::Sound)
    }

    async fn scan_table(&mut self, table: FileOffset) -> Result<()> {
        self.last_end = None;
        let mut at = 0;
        while let Some((piece_at, mut piece)) = self.tables.next_piece(table, &mut at).await? {
            let mut cleared = 0;
            for (index, entry) in piece.iter_mut().enumerate() {
                let L2Entry::Data(data) = L2Entry::decode(*entry) else { continue };
                if self.judge_l2(piece_at.plus(ENTRY * index as u64), data) == Verdict::Invalid {
                    *entry = L2Entry::Unallocated.encode();
                    cleared += 1;
                }
            }
            self.put_back(piece_at, piece, cleared).await?;
        }
        Ok(())
    }

    fn judge_l2(&mut self, place: FileOffset, data: FileOffset) -> Verdict {
        if !self.valid.holds(data, ClusterCount(1)) {
            self.report.corruption(|| format!("the L2 entry at {place} names no cluster: {:#x}", data.0));
            return Verdict::Invalid;
        }
        self.report.allocated_clusters += 1;
        if self.last_end.is_some_and(|end| end != data.0) {
            self.report.fragmented_clusters += 1;
        }
        self.last_end = Some(data.0 + self.geometry.cluster_size());
        if !self.reference(data, ClusterCount(1)) {
            self.named_twice(|| {
                format!("the L2 entry at {place} names the cluster at {data} that is in use already")
            });
        }
        Verdict::Sound
    }

    /// Enters clusters into the set; false when one was there already.
    fn reference(&mut self, at: FileOffset, clusters: ClusterCount) -> bool {
        let mut fresh = true;
        for cluster in self.clusters(at, clusters) {
            if !self.referenced.insert(cluster) {
                self.twice.insert(cluster);
                fresh = false;
            }
        }
        fresh
    }

    /// Numbers of clusters of the file.
    fn clusters(&self, at: FileOffset, clusters: ClusterCount) -> Range<u64> {
        let first = at.0 / self.geometry.cluster_size();
        first..first + clusters.0
    }

    fn named_twice(&mut self, sentence: impl Fn() -> String) {
        if self.obstacle.is_none() {
            self.obstacle = Some(sentence());
        }
        self.report.corruption(sentence);
    }

    /// Writes a piece with cleared entries over the old one. Crash states: each entry as it was, or cleared.
    async fn put_back(&mut self, at: FileOffset, piece: Vec<u64>, cleared: u64) -> Result<()> {
        let Mending::AllBut(disputed) = &self.mending else { return Ok(()) };
        let end = at.plus(ENTRY * piece.len() as u64);
        let clusters = self.geometry.clusters_for(end.0 - self.geometry.whole_clusters(at.0));
        if cleared == 0 || self.clusters(at, clusters).any(|cluster| disputed.contains(cluster)) {
            return Ok(());
        }
        let mut bytes = Buffer::zeroed(piece.len() * ENTRY as usize);
        encode_entries(piece.into_iter(), &mut bytes);
        let written = self.storage.write_at(at.0, bytes.into()).await;
        written.map_err(|source| Error::io(format!("the table at {at} cannot be mended"), source))?;
        self.report.corruptions_fixed += cleared;
        Ok(())
    }

    fn sum_up(mut self) -> Scanned {
        let cluster = self.geometry.cluster_size();
        let header = self.geometry.header_end().0 / cluster;
        let all = self.report.image_end / cluster;
        self.report.leaks = all - header - self.referenced.len();
        let last = self.referenced.max().expect("the L1 table at least is referenced");
        let Scan { report, twice, obstacle, .. } = self;
        Scanned { report, twice, obstacle, referenced_end: (last + 1) * cluster }
    }
}
