//! What a file is by its first bytes, and a guest that would like it to be something else.
//!
//! Role: tells formats apart, and keeps a raw disk raw whose format was told that way: a guest that wrote an image header
//! there would choose, at the next open, which files of the host it reads as its backing file.
//!
//! Invariant: no write through a [`Guard`] makes the first sector begin as another format does.
//!
//! Absent on purpose: footers, and formats that nobody opens by guessing.

use quod_storage::{Buffer, Storage};

use crate::error::{Error, ErrorKind, Result};
use crate::geometry::SECTOR;
use crate::header::has_magic;
use crate::options::Format;
use crate::strays::Strays;
use crate::turn::{Turn, TurnGuard};

/// Virtual disk formats that must not be taken for raw, by their first bytes.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
];

/// The name of the format that bytes begin as; `None` for a raw disk.
fn named(start: &[u8]) -> Option<&'static str> {
    if has_magic(start) {
        return Some("qed");
    }
    FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, name)| *name)
}

async fn first_sector<S: Storage>(storage: &S) -> Result<Buffer> {
    let failed = |source| Error::io("the file cannot be read", source);
    let len = storage.length().await.map_err(failed)?.min(SECTOR) as usize;
    Ok(storage.read_at(0, Buffer::zeroed(len).into()).await.map_err(failed)?.into_single())
}

/// QED by its magic, raw otherwise.
///
/// # Errors
/// `UnsupportedFeature` for another virtual disk format, `Io`.
pub(crate) async fn format_of<S: Storage>(storage: &S) -> Result<Format> {
    match named(&first_sector(storage).await?) {
        None => Ok(Format::Raw),
        Some("qed") => Ok(Format::Qed),
        Some(format) => {
            let way_out = "name the format to use it all the same, or convert it with qemu-img first";
            Err(Error::new(
                ErrorKind::UnsupportedFeature,
                format!("this looks like a {format} image ({way_out})"),
            ))
        }
    }
}

/// What a request does to a range of the disk.
#[derive(Clone, Copy)]
pub(crate) enum Change<'a> {
    Bytes(&'a [u8]),
    /// So many zeroes.
    Zeroes(u64),
}

/// Watches over the first sector of a raw disk.
#[derive(Default)]
pub(crate) struct Guard {
    /// One change of the first sector at a time: two harmless ones may be harmful together.
    turn: Turn,
}

impl Guard {
    /// Lets a change of the disk from `at` on through. What is returned is to be kept until it is done.
    ///
    /// # Errors
    /// `ReadOnly` when the disk would look like another format afterwards; `Io`.
    pub(crate) async fn admit<S: Storage>(
        &self,
        storage: &S,
        strays: &Strays,
        at: u64,
        change: Change<'_>,
    ) -> Result<Option<TurnGuard>> {
        if at >= SECTOR {
            return Ok(None);
        }
        let turn = self.turn.take().await;
        strays.landed(&(0..SECTOR)).await;
        let mut start = [0; SECTOR as usize];
        let now = first_sector(storage).await?;
        start[..now.len()].copy_from_slice(&now);
        let rest = &mut start[at as usize..];
        match change {
            Change::Bytes(bytes) => {
                let len = rest.len().min(bytes.len());
                rest[..len].copy_from_slice(&bytes[..len]);
            }
            Change::Zeroes(len) => {
                let len = rest.len().min(usize::try_from(len).unwrap_or(usize::MAX));
                rest[..len].fill(0);
            }
        }
        match named(&start) {
            None => Ok(Some(turn)),
            Some(format) => Err(Error::new(
                ErrorKind::ReadOnly,
                format!(
                    "a write that makes this raw disk look like a {format} image is refused: nobody has said that the \
                     disk is raw (name its format to allow it)"
                ),
            )),
        }
    }
}
