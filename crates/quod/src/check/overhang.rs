//! Entries that name room past the end of the file.
//!
//! Role: finds them before the first allocation of an open. A file that was cut short has them, and fresh room would lie
//! where they point: bytes of one guest offset would show at another, and no repair could tell whose they are.
//!
//! Absent on purpose: everything else that may be wrong, which fails the requests that meet it. So does a table that
//! cannot be read: it leads nobody anywhere.

use quod_storage::Storage;

use super::pieces::Tables;
use crate::error::Result;
use crate::geometry::ENTRY;
use crate::layer::Qed;
use crate::table::{L2Entry, decode_l1};
use crate::units::{ClusterCount, FileOffset};

/// Tells the first entry that names a cluster past the end of the file, in a sentence.
///
/// # Errors
/// The L1 table cannot be read.
pub(crate) async fn overhang<S: Storage>(storage: &S, qed: &Qed) -> Result<Option<String>> {
    let clusters = qed.geometry.table_clusters();
    let mut tables = Tables::of(storage, qed.geometry);
    let mut at = 0;
    while let Some((place, piece)) = tables.next_piece(qed.l1_table, &mut at).await? {
        for (index, raw) in piece.into_iter().enumerate() {
            let Some(table) = decode_l1(raw) else { continue };
            if hangs_over(qed, table, clusters) {
                return Ok(Some(sentence(place, index, table)));
            }
            if !qed.valid().holds(table, clusters) {
                continue;
            }
            match overhang_of(&mut tables, qed, table).await {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => tracing::warn!(%error, "not looked through"),
            }
        }
    }
    Ok(None)
}

/// The same for one L2 table.
async fn overhang_of<S: Storage>(
    tables: &mut Tables<'_, S>,
    qed: &Qed,
    table: FileOffset,
) -> Result<Option<String>> {
    let mut at = 0;
    while let Some((place, piece)) = tables.next_piece(table, &mut at).await? {
        for (index, raw) in piece.into_iter().enumerate() {
            match L2Entry::decode(raw) {
                L2Entry::Data(data) if hangs_over(qed, data, ClusterCount(1)) => {
                    return Ok(Some(sentence(place, index, data)));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

/// Whether fresh room could come to lie at `at`, where an entry of the file as it is names `clusters` clusters.
fn hangs_over(qed: &Qed, at: FileOffset, clusters: ClusterCount) -> bool {
    qed.geometry.is_cluster_start(at.0) && !qed.valid().ends_inside(at, clusters)
}

fn sentence(place: FileOffset, index: usize, at: FileOffset) -> String {
    let entry = place.plus(ENTRY * index as u64);
    format!("the entry at {entry} names a cluster at {at}, past the end of the file")
}
