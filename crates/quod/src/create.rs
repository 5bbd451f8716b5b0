//! Making a new image.
//!
//! Role: an empty L1 and what of the header lies past its first sector, then a flush, then the sector that makes the file an
//! image, then a flush.
//!
//! Crash states: no image (no magic), or the whole empty image; in the place of another file that one, perhaps cut or
//! lengthened, until the first flush. A failure leaves an empty file.
//!
//! Absent on purpose: looking at the backing file. Whether it is there is for the caller to find out.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use quod_storage::{Buffer, Held, Opener, Storage};

use crate::error::{Error, ErrorKind, Result};
use crate::front::takes_any_request;
use crate::geometry::{Geometry, MAX_IMAGE_SIZE, SECTOR};
use crate::header::{HEADER_BYTES, Header, MAX_BACKING_NAME, NewHeader};
use crate::options::{CreateOptions, Format};
use crate::units::FileOffset;

pub(crate) async fn create<O: Opener>(opener: &O, name: &Path, options: &CreateOptions) -> Result<()> {
    let header = header_of(options)?;
    let made = opener.create(name, options.existing).await;
    let storage = made.map_err(|source| Error::opening("the file cannot be made", source))?;
    takes_any_request(&storage)?;
    let made = fill(&storage, &header, options).await;
    if made.is_err()
        && let Err(error) = storage.set_len(0, Held::NOTHING).await
    {
        // A file of zeroes that is no image yet; the first error is on its way to the caller.
        tracing::warn!(%error, name = %name.display(), "what was made of a failed image stays behind");
    }
    made
}

async fn fill<S: Storage>(storage: &S, header: &Header, options: &CreateOptions) -> Result<()> {
    let failed = |what: &'static str| move |source| Error::io(what, source);
    let length = header.l1_table().0 + header.geometry().table_bytes();
    storage.set_len(length, Held::NOTHING).await.map_err(failed("no room for the L1 table"))?;
    let mut start = vec![0; HEADER_BYTES];
    start.copy_from_slice(header.encode());
    start.extend(options.backing.iter().flat_map(|backing| backing.name.as_bytes().iter().copied()));
    start.resize(start.len().next_multiple_of(SECTOR as usize), 0);
    // The first sector makes it an image, so the rest of a long name comes before.
    let rest = start.split_off(SECTOR as usize);
    let no_header = failed("the header cannot be written");
    if !rest.is_empty() {
        storage.write_at(SECTOR, Buffer::copy_of(&rest).into()).await.map_err(no_header)?;
    }
    storage.flush(Held::NOTHING).await.map_err(failed("the flush failed"))?;
    storage.write_at(0, Buffer::copy_of(&start).into()).await.map_err(no_header)?;
    storage.flush(Held::NOTHING).await.map_err(failed("the flush failed"))
}

/// Judges the options before any file is touched.
fn header_of(options: &CreateOptions) -> Result<Header> {
    let invalid = |sentence: String| Err(Error::new(ErrorKind::InvalidArgument, sentence));
    let Some(geometry) = Geometry::new(options.cluster_size, options.table_size, 1) else {
        let (cluster, table) = (options.cluster_size, options.table_size);
        return invalid(if Geometry::new(cluster, 1, 1).is_none() {
            format!("QED cluster size is invalid: {cluster} (a power of two from 4 KiB to 64 MiB)")
        } else {
            format!("QED table size is invalid: {table} (1, 2, 4, 8 or 16)")
        });
    };
    let most = geometry.max_image_size().min(u128::from(MAX_IMAGE_SIZE));
    let size = options.size.checked_next_multiple_of(SECTOR).filter(|&size| u128::from(size) <= most);
    let Some(image_size) = size else {
        return invalid(format!(
            "QED image size is invalid: {} (at most {most} with these tables)",
            options.size
        ));
    };
    let backing = match &options.backing {
        None => None,
        Some(backing) if backing.name.is_empty() || backing.name.as_bytes().contains(&0) => {
            return invalid(format!(
                "QED backing filename is invalid: {:?} is not a file name",
                backing.name
            ));
        }
        Some(backing) => {
            let room = geometry.header_end().0 as usize - HEADER_BYTES;
            let len = backing.name.len();
            if len > room.min(MAX_BACKING_NAME as usize) {
                return invalid(format!("QED backing filename is invalid: {len} bytes are too long"));
            }
            Some((len as u32, backing.format == Format::Raw))
        }
    };
    let l1_table = geometry.header_end();
    Ok(Header::new(&NewHeader { geometry, image_size, l1_table: FileOffset(l1_table.0), backing }))
}
