//! Opening the images that a verb was told about.
//!
//! Role: resolves name, format and sharing once, opens, and words what stands in the way as the reference tools do.
//!
//! Invariant: a name from a header is followed to local files only, and that of a remote image to none.
//!
//! Absent on purpose: what a header says about backing files (`chain.rs`).

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use quod::cache::SlicePool;
use quod::{CacheBudget, CommitPolicy, DEFAULT_CACHE_BYTES, Error, ErrorKind, Format, Image, OpenOptions};
use quod_language::parse_size;
use quod_storage::{Access, Opener};

use crate::place::{self, AnyDisk, Places};

/// The one image that a verb is about.
#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// The format of FILE: qed or raw; told by its first bytes when not given
    #[arg(short, long, value_name = "FMT")]
    pub(crate) format: Option<String>,
    /// Let another process have FILE open for writing; what is read may change underneath
    #[arg(short = 'U', long)]
    pub(crate) force_share: bool,
    /// The image file, or an export: nbd://HOST/NAME, nbd+unix:///NAME?socket=PATH, and nbds for TLS
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

impl Source {
    /// The image, to be read.
    pub(crate) fn target(&self) -> Target<'_> {
        Target::for_reading(&self.file, self.format.as_deref(), self.force_share)
    }
}

/// How an image is used once it is open.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Tuning {
    /// When a first write's table entry reaches FILE: before the write completes (through), or with others at the next flush
    /// (grouped), which a killed process loses; grouped over a backing file and through without one when not given
    #[arg(long, value_name = "POLICY", value_enum)]
    commit: Option<Commit>,
    /// Bytes that the table cache may take, for all images that are open together and their backing files, with a suffix
    /// or without; 12.5 MiB for each image when not given
    #[arg(long, value_name = "BYTES")]
    cache_size: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Commit {
    Through,
    Grouped,
}

impl Tuning {
    /// What was given, for an image that shares its table cache with no other.
    ///
    /// # Errors
    /// `Invalid cache size specified: ...`
    pub(crate) fn alone(&self) -> anyhow::Result<Tuned> {
        let bytes = self.cache_bytes()?.unwrap_or(DEFAULT_CACHE_BYTES);
        Ok(Tuned { commit: self.commit_policy(), cache: CacheBudget::Own(bytes) })
    }

    /// What was given, for so many images that share one.
    ///
    /// # Errors
    /// `Invalid cache size specified: ...`
    pub(crate) fn together(&self, images: usize) -> anyhow::Result<Tuned> {
        let bytes = self.cache_bytes()?.unwrap_or(DEFAULT_CACHE_BYTES.saturating_mul(images));
        Ok(Tuned { commit: self.commit_policy(), cache: CacheBudget::Shared(SlicePool::new(bytes)) })
    }

    fn commit_policy(&self) -> Option<CommitPolicy> {
        self.commit.map(|commit| match commit {
            Commit::Through => CommitPolicy::Through,
            Commit::Grouped => CommitPolicy::Grouped,
        })
    }

    fn cache_bytes(&self) -> anyhow::Result<Option<usize>> {
        let Some(text) = &self.cache_size else { return Ok(None) };
        let bytes = parse_size(text).ok().and_then(|bytes| usize::try_from(bytes).ok());
        bytes.map(Some).ok_or_else(|| anyhow!("Invalid cache size specified: '{text}'."))
    }
}

/// How images are used, checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tuned {
    commit: Option<CommitPolicy>,
    cache: CacheBudget,
}

/// An image that is to be opened.
pub(crate) struct Target<'a> {
    pub(crate) path: &'a Path,
    pub(crate) format: Option<&'a str>,
    pub(crate) access: Access,
    /// Opens it, every time.
    pub(crate) places: Places,
}

impl<'a> Target<'a> {
    /// One whose name a person gave.
    pub(crate) fn new(path: &'a Path, format: Option<&'a str>, access: Access) -> Self {
        Target { path, format, access, places: Places::given(path) }
    }

    pub(crate) fn for_reading(path: &'a Path, format: Option<&'a str>, shared: bool) -> Self {
        Target::new(path, format, if shared { Access::ReadShared } else { Access::Read })
    }

    /// The same, or one that lies below it: a local file whatever its name looks like.
    pub(crate) fn or_below<'b>(&self, path: &'b Path, format: Option<&'b str>) -> Target<'b> {
        Target { path, format, access: self.access, places: self.places.clone() }
    }

    /// Tells the format: what was asked for, or what the first bytes say.
    ///
    /// # Errors
    /// The format is not ours, or the file cannot be read.
    pub(crate) async fn format(&self) -> anyhow::Result<Format> {
        let told = match self.format {
            Some(name) => format_named(name).ok_or_else(|| format!("Unknown driver '{name}'")),
            None => quod::probe(&self.places, self.path).await.map_err(|error| sentence(self.path, &error)),
        };
        told.map_err(|why| anyhow!("Could not open '{}': {why}", self.path.display()))
    }

    /// Opens the image and its backing files.
    ///
    /// # Errors
    /// `Could not open 'FILE': ...`
    pub(crate) async fn open(&self) -> anyhow::Result<AnyDisk> {
        self.open_tuned(&Tuned::default()).await
    }

    /// As [`open`](Target::open), to be used in another way than usual.
    ///
    /// # Errors
    /// `Could not open 'FILE': ...`
    pub(crate) async fn open_tuned(&self, tuned: &Tuned) -> anyhow::Result<AnyDisk> {
        self.open_by(&self.places, tuned).await
    }

    /// As [`open`](Target::open), but in a local file.
    ///
    /// # Errors
    /// `Could not open 'FILE': ...`
    pub(crate) async fn open_file<O: Opener>(
        &self,
        opener: &O,
        tuned: &Tuned,
    ) -> anyhow::Result<Image<O::Storage>>
    where
        O::Storage: Clone,
    {
        if place::remote_name(self.path).is_some() {
            bail!("Could not open '{}': it must be a local file here", self.path.display());
        }
        self.open_by(opener, tuned).await
    }

    async fn open_by<O: Opener>(&self, opener: &O, tuned: &Tuned) -> anyhow::Result<Image<O::Storage>>
    where
        O::Storage: Clone,
    {
        let mut options = OpenOptions::new(self.access);
        options.format = match self.format {
            Some(_) => Some(self.format().await?),
            None => None,
        };
        options.backing = place::backing_policy(self.path);
        options.commit = tuned.commit;
        options.cache = tuned.cache.clone();
        match Image::open(opener, self.path, &options).await {
            Ok(disk) => Ok(disk),
            Err(error) => bail!(could_not_open(self.path, &error)),
        }
    }
}

/// The format of that name, if it is one of ours.
pub(crate) fn format_named(name: &str) -> Option<Format> {
    match name {
        "qed" => Some(Format::Qed),
        "raw" => Some(Format::Raw),
        _ => None,
    }
}

/// The name that the tools know a format by.
pub(crate) fn name_of(format: Format) -> &'static str {
    match format {
        Format::Qed => "qed",
        Format::Raw => "raw",
    }
}

/// `Could not open 'FILE': ...`
pub(crate) fn could_not_open(path: &Path, error: &Error) -> String {
    format!("Could not open '{}': {}", path.display(), sentence(path, error))
}

/// What went wrong, without the name of the image that the reader knows it is about.
pub(crate) fn sentence(path: &Path, error: &Error) -> String {
    let whole = without_number(&error.to_string()).to_owned();
    if error.image().is_some_and(|image| image != path) {
        return whole;
    }
    let named = format!("{}: ", path.display());
    let plain = whole.strip_prefix(&named).unwrap_or(&whole);
    plain.strip_prefix("the image cannot be opened: ").unwrap_or(plain).to_owned()
}

/// The system's word for what a request failed with: `Input/output error`.
pub(crate) fn errno_sentence(error: &Error) -> String {
    if let Some(system) = error.io_error().filter(|system| system.raw_os_error().is_some()) {
        return system_sentence(system);
    }
    let word = match error.kind() {
        ErrorKind::Corrupt | ErrorKind::InvalidHeader => "Invalid argument",
        ErrorKind::NoSpace => "No space left on device",
        ErrorKind::ReadOnly => "Operation not permitted",
        _ => "Input/output error",
    };
    word.to_owned()
}

/// A system error's sentence without its number.
pub(crate) fn system_sentence(error: &io::Error) -> String {
    without_number(&error.to_string()).to_owned()
}

/// A sentence that ends with a system error, without its number.
pub(crate) fn without_number(text: &str) -> &str {
    match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => &text[..at],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_once_and_without_its_number() {
        let path = Path::new("a.qed");
        let missing =
            || Error::io("the image cannot be opened", io::Error::from_raw_os_error(2)).in_image(path);
        assert_eq!(could_not_open(path, &missing()), "Could not open 'a.qed': No such file or directory");
        let other = Path::new("b.qed");
        assert!(could_not_open(other, &missing()).starts_with("Could not open 'b.qed': a.qed: "));
    }

    #[test]
    fn a_failed_request_is_told_by_the_systems_word() {
        let full = Error::io("data at 0x1000 cannot be written", io::Error::from_raw_os_error(28));
        assert_eq!(errno_sentence(&full), "No space left on device");
        assert_eq!(errno_sentence(&Error::new(ErrorKind::Corrupt, "an entry")), "Invalid argument");
        assert_eq!(errno_sentence(&Error::new(ErrorKind::Closed, "closed")), "Input/output error");
    }
}
