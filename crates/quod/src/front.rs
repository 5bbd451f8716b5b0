//! The front of a QED file: the header, and the backing name behind it.
//!
//! Role: reads and judges it, and writes the header back. Everyone who opens an image file begins here: the chain, the
//! check, and who only looks.
//!
//! Invariant: nothing is allocated by a header field before it is bounded.
//!
//! Absent on purpose: tables, and the header of an image that requests run on (`need_check.rs`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use quod_storage::{Access, Alignment, Buffer, Held, Opener, Storage};

use crate::error::{Error, ErrorKind, Result};
use crate::geometry::SECTOR;
use crate::header::{HEADER_BYTES, Header};

/// What the first clusters of a QED file say.
pub(crate) struct Front {
    pub(crate) header: Header,
    /// The file's first bytes: the header and what follows it in its sectors.
    pub(crate) start: Vec<u8>,
    pub(crate) backing: Option<BackingName>,
    pub(crate) file_length: u64,
}

/// The backing file that a header names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackingName {
    /// As the header has it.
    pub name: OsString,
    /// Against the directory of the image that names it; `None` for a `protocol:` or `json:` name, which only QEMU
    /// knows.
    pub path: Option<PathBuf>,
    /// The file is raw, and must not be probed.
    pub raw: bool,
}

impl BackingName {
    /// The local file that a name in the header of `image` stands for; `None` for a `protocol:` or `json:` name.
    ///
    /// A relative name is looked up in the directory of the image. A name with a colon before its first slash is taken
    /// for a protocol, but for `file:`.
    pub fn local_path(image: &Path, name: &OsStr) -> Option<PathBuf> {
        let bytes = name.as_bytes();
        let told = bytes.strip_prefix(b"file:");
        let plain = told.unwrap_or(bytes);
        let first = plain.split(|&byte| byte == b'/').next();
        let is_protocol = told.is_none() && first.is_some_and(|first| first.contains(&b':'));
        let directory = image.parent().unwrap_or(Path::new(""));
        (!is_protocol).then(|| directory.join(OsStr::from_bytes(plain)))
    }

    fn decode(bytes: &[u8], raw: bool, image: &Path) -> Result<Self> {
        let name = OsStr::from_bytes(bytes);
        if bytes.contains(&0) {
            let sentence = format!("QED backing filename is invalid: {name:?} is not a file name");
            return Err(Error::new(ErrorKind::InvalidHeader, sentence));
        }
        Ok(BackingName { name: name.to_owned(), path: BackingName::local_path(image, name), raw })
    }
}

/// Opens one file, with errors that name it.
pub(crate) async fn open_file<O: Opener>(opener: &O, name: &Path, access: Access) -> Result<O::Storage> {
    let file = opener.open(name, access).await.map_err(|source| cannot_open(name, source))?;
    takes_any_request(&file).map_err(|error| error.in_image(name))?;
    Ok(file)
}

/// Refuses a storage that the guest's requests, which have any alignment, do not fit.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn takes_any_request<S: Storage>(storage: &S) -> Result<()> {
    match storage.alignment() {
        Alignment::ANY => Ok(()),
        Alignment { offset, memory } => {
            let sentence = format!(
                "the storage needs offsets in multiples of {offset} and memory aligned to {memory}; guests use any"
            );
            Err(Error::new(ErrorKind::InvalidArgument, sentence))
        }
    }
}

/// The error of a file that the system does not let us have.
pub(crate) fn cannot_open(name: &Path, source: io::Error) -> Error {
    Error::opening("the image cannot be opened", source).in_image(name)
}

/// Reads and judges the header and the backing name.
pub(crate) async fn read_front<S: Storage>(storage: &S, name: &Path) -> Result<Front> {
    let failed = |source| Error::io("the header cannot be read", source);
    let file_length = storage.length().await.map_err(failed)?;
    let wanted = file_length.min(SECTOR) as usize;
    let start = storage.read_at(0, Buffer::zeroed(wanted).into()).await.map_err(failed)?.into_single();
    let header = Header::decode(&start, file_length)?;
    let backing = match header.backing_name() {
        None => None,
        Some(range) => {
            let bytes = Buffer::zeroed(range.len as usize).into();
            let bytes = storage.read_at(range.at.0, bytes).await.map_err(failed)?.into_single();
            Some(BackingName::decode(&bytes, header.backing_is_raw(), name)?)
        }
    };
    Ok(Front { header, start: start.to_vec(), backing, file_length })
}

/// What goes before every other change of a file: unknown autoclear bits vouch for things that the change may upset.
pub(crate) async fn clear_autoclear<S: Storage>(storage: &S, front: &mut Front) -> Result<()> {
    if front.header.clear_autoclear() {
        write_header(storage, front).await?;
        flush(storage).await?;
    }
    Ok(())
}

/// Flushes a file that nobody else has yet.
pub(crate) async fn flush<S: Storage>(storage: &S) -> Result<()> {
    storage.flush(Held::NOTHING).await.map_err(|source| Error::io("the flush failed", source))
}

/// Writes the header over the old one.
pub(crate) async fn write_header<S: Storage>(storage: &S, front: &mut Front) -> Result<()> {
    front.start[..HEADER_BYTES].copy_from_slice(front.header.encode());
    let written = storage.write_at(0, Buffer::copy_of(&front.start).into()).await;
    written.map_err(|source| Error::io("the header cannot be written", source))?;
    Ok(())
}
