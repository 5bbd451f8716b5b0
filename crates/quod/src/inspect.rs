//! Looking at a file without opening the disk in it.
//!
//! Role: what a header says, and which format a file is.
//!
//! Invariant: opens the one file it was asked about, and nothing that its header names.

use std::path::Path;

use quod_storage::{Access, Opener};

use crate::error::Result;
use crate::front::{self, BackingName};
use crate::options::Format;
use crate::probe::format_of;
use crate::units::FileOffset;

/// What the header of a QED image says, and the length of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Virtual size in bytes.
    pub size: u64,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Clusters of a table.
    pub table_size: u32,
    /// File offset of the L1 table in bytes.
    pub l1_table_offset: u64,
    /// NEED_CHECK is set: the image is in use, or was not closed.
    pub dirty: bool,
    /// What it stands on.
    pub backing: Option<BackingName>,
    /// Length of the file in bytes.
    pub file_length: u64,
}

/// Reads the header of a QED image, and opens nothing else.
///
/// # Errors
/// `NotQed`, `InvalidHeader`, `UnsupportedFeature`, `Locked`, `Io`.
///
/// # Cancellation
/// Changes nothing.
pub async fn inspect<O: Opener>(opener: &O, name: &Path, access: Access) -> Result<ImageInfo> {
    let file = front::open_file(opener, name, access).await?;
    let front = front::read_front(&file, name).await.map_err(|error| error.in_image(name))?;
    let geometry = front.header.geometry();
    let FileOffset(l1_table_offset) = front.header.l1_table();
    Ok(ImageInfo {
        size: front.header.image_size(),
        cluster_size: geometry.cluster_size(),
        table_size: geometry.table_clusters().0 as u32,
        l1_table_offset,
        dirty: front.header.needs_check(),
        backing: front.backing,
        file_length: front.file_length,
    })
}

/// Tells the format of a file by its first bytes: QED by its magic, raw otherwise.
///
/// # Errors
/// `UnsupportedFeature` for another virtual disk format that is known by its magic, `Io`.
///
/// # Cancellation
/// Changes nothing.
pub async fn probe<O: Opener>(opener: &O, name: &Path) -> Result<Format> {
    let file = front::open_file(opener, name, Access::ReadShared).await?;
    format_of(&file).await.map_err(|error| error.in_image(name))
}
