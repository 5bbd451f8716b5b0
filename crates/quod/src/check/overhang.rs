//! Entries that name room past the end of the file.
//!
//! Role: finds them before the first allocation of an open. A file that was cut short has them, and fresh room would lie
//! where they point: bytes of one guest offset would show at another.
//!
//! Absent on purpose: everything else that may be wrong, which fails the requests that meet it; and entries past the
//! end of the disk, which growth clears.

use quod_storage::Storage;

use super::pieces::next_piece;
use crate::error::Result;
use crate::geometry::ENTRY;
use crate::layer::Qed;
use crate::table::{L2Entry, decode_l1};
use crate::units::{ClusterCount, FileOffset, GuestOffset};

/// Tells the first entry that names a cluster past the end of the file, in a sentence.
///
/// # Errors
/// A table cannot be read.
pub(crate) async fn overhang<S: Storage>(storage: &S, qed: &Qed) -> Result<Option<String>> {
    let geometry = qed.geometry;
    let tables = match qed.image_size() {
        0 => 0,
        size => geometry.l1_index(GuestOffset(size - 1)) + 1,
    };
    let mut at = 0;
    while let Some((place, piece)) = next_piece(storage, geometry, qed.l1_table, &mut at).await? {
        for (index, raw) in piece.into_iter().enumerate() {
            let place = place.plus(ENTRY * index as u64);
            let number = (place.0 - qed.l1_table.0) / ENTRY;
            let Some(table) = decode_l1(raw).filter(|_| number < tables) else { continue };
            if hangs_over(qed, table, geometry.table_clusters()) {
                return Ok(Some(sentence(place, table)));
            }
            if qed.valid().holds(table, geometry.table_clusters())
                && let Some(found) = overhang_of(storage, qed, number, table).await?
            {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The same for the L2 table that L1 entry `number` names.
async fn overhang_of<S: Storage>(
    storage: &S,
    qed: &Qed,
    number: u64,
    table: FileOffset,
) -> Result<Option<String>> {
    let geometry = qed.geometry;
    let clusters = geometry.clusters_for(qed.image_size() - geometry.table_start(number).0).0;
    let mut at = 0;
    while let Some((place, piece)) = next_piece(storage, geometry, table, &mut at).await? {
        for (index, raw) in piece.into_iter().enumerate() {
            let place = place.plus(ENTRY * index as u64);
            if let L2Entry::Data(data) = L2Entry::decode(raw)
                && (place.0 - table.0) / ENTRY < clusters
                && hangs_over(qed, data, ClusterCount(1))
            {
                return Ok(Some(sentence(place, data)));
            }
        }
    }
    Ok(None)
}

/// Whether fresh room could come to lie at `at`, where an entry of the file as it is names `clusters` clusters.
fn hangs_over(qed: &Qed, at: FileOffset, clusters: ClusterCount) -> bool {
    qed.geometry.is_cluster_start(at.0) && !qed.valid().ends_inside(at, clusters)
}

fn sentence(place: FileOffset, at: FileOffset) -> String {
    format!("the entry at {place} names a cluster at {at}, past the end of the file")
}
