//! Where images are: in local files, or in what other servers export.
//!
//! Role: [`Place`] is the storage of either, [`Places`] opens the one that a name stands for.
//!
//! Invariant: only the one name that a person gave is opened as a remote disk, never one that a header or a joined path
//! makes; and who serves an image over the network does not choose which files of this machine belong to it.
//!
//! Absent on purpose: making images elsewhere than in files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use quod::{BackingPolicy, Image};
use quod_remote::{NbdStorage, NbdUri};
use quod_storage::{
    Access, Alignment, AnyRange, Buffers, Existing, Extent, FileId, FileOpener, FileStorage, Held, Opener,
    Storage,
};

/// An open image in a local file or on a server.
pub(crate) type AnyDisk = Image<Place>;

/// The device number of remote disks.
const ELSEWHERE: u64 = u64::MAX;

/// The export that a name stands for, if its form is that of one.
pub(crate) fn remote_name(path: &Path) -> Option<&str> {
    path.to_str().filter(|name| NbdUri::is_one(name))
}

/// A name as the reference shows it.
pub(crate) fn shown(path: &Path) -> String {
    let uri = remote_name(path).and_then(|name| NbdUri::parse(name).ok());
    uri.map_or_else(|| path.display().to_string(), |uri| uri.to_string())
}

/// What the headers of an image of that name may bring in.
pub(crate) fn backing_policy(top: &Path) -> BackingPolicy {
    if remote_name(top).is_some() { BackingPolicy::Deny } else { BackingPolicy::Local }
}

/// Bytes in a local file or on a server.
#[derive(Clone)]
pub(crate) enum Place {
    File(FileStorage),
    Remote(AnyRange<NbdStorage>),
}

impl Storage for Place {
    async fn read_at(&self, at: u64, into: Buffers) -> io::Result<Buffers> {
        match self {
            Place::File(file) => file.read_at(at, into).await,
            Place::Remote(disk) => disk.read_at(at, into).await,
        }
    }

    fn read_now(&self, at: u64, into: &mut [u8]) -> Option<io::Result<()>> {
        match self {
            Place::File(file) => file.read_now(at, into),
            Place::Remote(disk) => disk.read_now(at, into),
        }
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        match self {
            Place::File(file) => file.write_at(at, from).await,
            Place::Remote(disk) => disk.write_at(at, from).await,
        }
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        match self {
            Place::File(file) => file.flush(held).await,
            Place::Remote(disk) => disk.flush(held).await,
        }
    }

    async fn set_len(&self, len: u64, held: Held) -> io::Result<()> {
        match self {
            Place::File(file) => file.set_len(len, held).await,
            Place::Remote(disk) => disk.set_len(len, held).await,
        }
    }

    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        match self {
            Place::File(file) => file.punch(at, len, held).await,
            Place::Remote(disk) => disk.punch(at, len, held).await,
        }
    }

    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        match self {
            Place::File(file) => file.write_zeroes(at, len, held).await,
            Place::Remote(disk) => disk.write_zeroes(at, len, held).await,
        }
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        match self {
            Place::File(file) => file.extent(at, len).await,
            Place::Remote(disk) => disk.extent(at, len).await,
        }
    }

    async fn length(&self) -> io::Result<u64> {
        match self {
            Place::File(file) => file.length().await,
            Place::Remote(disk) => disk.length().await,
        }
    }

    fn alignment(&self) -> Alignment {
        match self {
            Place::File(file) => file.alignment(),
            Place::Remote(disk) => disk.alignment(),
        }
    }
}

/// Opens files, and the one name as what it stands for.
#[derive(Clone)]
pub(crate) struct Places {
    given: PathBuf,
    /// All that is opened by the one name: some servers take one connection and end with it.
    disk: Arc<OnceLock<AnyRange<NbdStorage>>>,
}

impl Places {
    /// For a verb that a person gave `name` to.
    pub(crate) fn given(name: &Path) -> Self {
        Places { given: name.to_owned(), disk: Arc::default() }
    }

    /// The export, when `name` is the one that was given and is one.
    fn remote(&self, name: &Path) -> io::Result<Option<NbdUri>> {
        let Some(text) = remote_name(name) else { return Ok(None) };
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        if name != self.given {
            return Err(invalid("a name that no person gave is followed to local files only".to_owned()));
        }
        NbdUri::parse(text).map(Some).map_err(|error| invalid(error.to_string()))
    }

    fn connected(&self, uri: &NbdUri) -> io::Result<AnyRange<NbdStorage>> {
        if let Some(disk) = self.disk.get() {
            return Ok(disk.clone());
        }
        let disk = AnyRange::of(NbdStorage::connect(uri)?);
        Ok(self.disk.get_or_init(|| disk).clone())
    }
}

impl Opener for Places {
    type Storage = Place;

    async fn open(&self, name: &Path, access: Access) -> io::Result<Place> {
        let Some(uri) = self.remote(name)? else {
            return Ok(Place::File(FileOpener.open(name, access).await?));
        };
        let disk = self.connected(&uri)?;
        if access == Access::Write && disk.inner().is_read_only() {
            let sentence = "Permission denied: the server exports it read-only";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence));
        }
        Ok(Place::Remote(disk))
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<Place> {
        Ok(Place::File(FileOpener.create(name, existing).await?))
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        match self.remote(name)? {
            None => FileOpener.identify(name).await,
            Some(uri) => {
                let mut hasher = DefaultHasher::new();
                uri.to_string().hash(&mut hasher);
                Ok(FileId { device: ELSEWHERE, inode: hasher.finish() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_that_was_given_is_remote() {
        let given = Path::new("nbd+unix:///?socket=/run/a/disk");
        let places = Places::given(given);
        assert!(matches!(places.remote(given), Ok(Some(_))));
        assert!(matches!(places.remote(Path::new("disk.qed")), Ok(None)));
        // What joining a relative backing name to it would make.
        let joined = given.with_file_name("base.raw");
        assert!(places.remote(&joined).is_err());
        assert!(Places::given(Path::new("disk.qed")).remote(given).is_err());
    }
}
