//! What can go wrong, for callers to branch on and people to read.
//!
//! Role: an [`Error`] has a kind to branch on, a sentence that names the place, and the system's error beneath it.
//!
//! Absent on purpose: a variant per message, and silence: nothing in the engine turns an error into success.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in the engine that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may want to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file is not a QED image at all.
    NotQed,
    /// A header field is outside what the format allows.
    InvalidHeader,
    /// The image uses a feature that this version does not know.
    UnsupportedFeature,
    /// A table entry names a place that it must not name, or one cluster is referenced twice.
    Corrupt,
    /// The request reaches past the end of the disk, or the caller's argument is not possible.
    InvalidArgument,
    /// The image was opened read-only, or the write would change what the file is taken for.
    ReadOnly,
    /// The image names a backing file, and the caller has not allowed to open it.
    BackingDenied,
    /// The backing file cannot be opened.
    BackingUnavailable,
    /// The backing chain comes back to an image that is already in it, or is too deep.
    BackingLoop,
    /// Another process uses the image.
    Locked,
    /// No room is left; the image is unharmed, and the request may be tried again once there is room.
    NoSpace,
    /// An earlier flush or metadata write failed: nothing more can be promised, so writes are refused.
    Latched,
    /// The image was closed.
    Closed,
    /// The system said no.
    Io,
}

/// A failed operation of the engine.
pub struct Error(Box<Failure>);

/// In a box: a result is moved about with each request, and few fail.
struct Failure {
    kind: ErrorKind,
    message: String,
    image: Option<PathBuf>,
    source: Option<io::Error>,
}

impl Error {
    /// Makes an error of that kind, told by `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Failure { kind, message: message.into(), image: None, source: None }))
    }

    /// Wraps what the system said while the engine was doing `what`.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                ErrorKind::NoSpace
            }
            _ => ErrorKind::Io,
        };
        Error(Box::new(Failure { kind, message: what.into(), image: None, source: Some(source) }))
    }

    /// The same failure, but one that more room does not mend: a kernel that had no room for what it was to flush has
    /// let go of it.
    pub(crate) fn for_good(self) -> Self {
        self.of_kind(ErrorKind::Io)
    }

    fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Wraps what the system said when a file was to be opened or made: busy means locked, there.
    pub(crate) fn opening(what: impl Into<String>, source: io::Error) -> Self {
        let locked = source.kind() == io::ErrorKind::ResourceBusy;
        let error = Error::io(what, source);
        if locked { error.of_kind(ErrorKind::Locked) } else { error }
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Corrupt, message)
    }

    /// Names the image that it happened in, unless it is named already.
    #[must_use]
    pub fn in_image(mut self, image: &Path) -> Self {
        self.0.image.get_or_insert_with(|| image.to_owned());
        self
    }

    /// What happened, to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The image that it happened in, where that is known.
    pub fn image(&self) -> Option<&Path> {
        self.0.image.as_deref()
    }

    /// What the system said, where it was the system that failed.
    pub fn io_error(&self) -> Option<&io::Error> {
        self.0.source.as_ref()
    }

    /// What happened in a sentence, without the image's name and without the system's error.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { kind, message, image, source } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("message", message)
            .field("image", image)
            .field("source", source)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(image) = &self.0.image {
            write!(f, "{}: ", image.display())?;
        }
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The system's sentence is part of Display; what lies beneath it is the next link.
        self.0.source.as_ref().and_then(|source| source.get_ref()).and_then(std::error::Error::source)
    }
}
