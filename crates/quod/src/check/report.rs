//! What a check found.
//!
//! Role: counts for scripts, and the first findings as sentences for people.
//!
//! Absent on purpose: every finding. An image can hold more than memory.

/// Findings beyond this many are only counted.
const MAX_FINDINGS: usize = 100;

/// What a check found, and what it mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Where the file's whole clusters end, in bytes.
    pub image_end: u64,
    /// Clusters of the disk.
    pub total_clusters: u64,
    /// Those of them that have a data cluster.
    pub allocated_clusters: u64,
    /// Those of them that do not lie right behind the one before.
    pub fragmented_clusters: u64,
    /// Clusters of the file that nothing references: wasted space, no harm.
    pub leaks: u64,
    /// Entries that name what they must not, or what another one names.
    pub corruptions: u64,
    /// Those of the leaks that were given back.
    pub leaks_fixed: u64,
    /// Those of the corruptions that were mended.
    pub corruptions_fixed: u64,
    /// The first corruptions, a sentence each, with the place.
    pub findings: Vec<String>,
}

impl CheckReport {
    /// Corruptions that are still there.
    pub fn remaining_corruptions(&self) -> u64 {
        self.corruptions - self.corruptions_fixed
    }

    /// Leaks that are still there.
    pub fn remaining_leaks(&self) -> u64 {
        self.leaks - self.leaks_fixed
    }

    pub(super) fn corruption(&mut self, sentence: impl FnOnce() -> String) {
        self.corruptions += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(sentence());
        }
    }
}
