//! Check and repair of the metadata of one image.
//!
//! Role: [`check`] reads every table and tells what is wrong; with [`Repair::Yes`] it does what a writable open of a dirty
//! image does (D12).
//!
//! Invariant: memory follows the clusters that are referenced, not what the header claims: tables are read without their
//! holes, a piece at a time. The set of referenced clusters is compressed: next to nothing for clusters that lie
//! together, but up to about a hundred bytes for one that lies alone.
//!
//! Absent on purpose: data. Nothing here reads a data cluster or opens a backing file.

mod overhang;
mod pieces;
mod repair;
mod report;
mod scan;

use std::path::Path;

use quod_storage::{Access, Opener, Storage};

use crate::error::{Error, ErrorKind, Result};
use crate::front::{self, Front};
pub(crate) use overhang::overhang;
pub use report::CheckReport;
use scan::{Mending, Scan};

/// Whether a check may change the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It only reads.
    No,
    /// It clears entries that name what they must not, cuts what is unreferenced at the end, and clears NEED_CHECK, in
    /// that order, each step durable before the next. Where two entries name one cluster, neither is cleared, tables in
    /// such a cluster are left alone, and the end and NEED_CHECK stay as they are.
    Yes,
}

/// Checks the tables of a QED image.
///
/// A report without corruption that was not fixed, after [`Repair::Yes`], means that the image is clean now.
///
/// # Errors
/// `NotQed`, `InvalidHeader`, `UnsupportedFeature`, `Locked`; `Io` when a table cannot be read; `InvalidArgument` for
/// [`Repair::Yes`] without [`Access::Write`].
///
/// # Cancellation
/// A repair may have been done in part; the next check begins again.
pub async fn check<O: Opener>(
    opener: &O,
    name: &Path,
    access: Access,
    repair: Repair,
) -> Result<CheckReport> {
    if repair == Repair::Yes && access != Access::Write {
        return Err(Error::new(ErrorKind::InvalidArgument, "a repair needs the image open for writing")
            .in_image(name));
    }
    let storage = front::open_file(opener, name, access).await?;
    let outcome = async {
        let mut front = front::read_front(&storage, name).await?;
        match repair {
            Repair::No => Scan::new(&storage, &front, Mending::No).run().await,
            Repair::Yes => repair::repair(&storage, &mut front).await,
        }
    };
    outcome.await.map(|scanned| scanned.report).map_err(|error: Error| error.in_image(name))
}

/// Repairs a dirty image that is about to be opened for writing.
///
/// # Errors
/// `Corrupt` when corruption remains: the image stays dirty; otherwise as [`check`].
pub(crate) async fn repair_on_open<S: Storage>(storage: &S, front: &mut Front) -> Result<()> {
    let scanned = repair::repair(storage, front).await?;
    let Some(obstacle) = scanned.obstacle else { return Ok(()) };
    Err(Error::new(
        ErrorKind::Corrupt,
        format!(
            "the image was not closed, and its repair leaves {} corruptions: {obstacle} ({SAVE})",
            scanned.report.remaining_corruptions()
        ),
    ))
}

/// Refuses an image that is about to be opened for writing, says it is clean, and yet was cut short: what its tables
/// name past its end would come to name what is written next.
///
/// # Errors
/// `Corrupt`, with the first corruption; `Io`.
pub(crate) async fn refuse_if_cut_short<S: Storage>(storage: &S, front: &Front) -> Result<()> {
    let scanned = Scan::new(storage, front, Mending::No).run().await?;
    let Some(first) = scanned.report.findings.first() else { return Ok(()) };
    let (cluster, length) = (front.header.geometry().cluster_size(), front.file_length);
    Err(Error::new(
        ErrorKind::Corrupt,
        format!(
            "{length} bytes are no whole number of {cluster}-byte clusters, and {first}: was the file cut short? ({SAVE}; \
             a repair gives up what is not there)"
        ),
    ))
}

/// Scans the file of an image that is open, and has its header now: the front, what was found, and where the last cluster
/// ends that an entry names.
///
/// # Errors
/// As [`check`].
pub(crate) async fn scan_open<S: Storage>(storage: &S, name: &Path) -> Result<(Front, CheckReport, u64)> {
    let front = front::read_front(storage, name).await?;
    let scanned = Scan::new(storage, &front, Mending::No).run().await?;
    Ok((front, scanned.report, scanned.referenced_end))
}

/// The way out of an image that cannot be opened for writing.
pub(crate) const SAVE: &str = "open it read-only to save what can be read";
