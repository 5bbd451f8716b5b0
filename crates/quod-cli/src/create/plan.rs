//! What a new image will be.
//!
//! Role: puts the options together, looks at the backing file, and words the plan as the reference does.
//!
//! Invariant: when there is a plan, names and formats are known and the backing file could be opened (unless that was
//! not wanted).
//!
//! Absent on purpose: making anything.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use quod::{BackingName, Format};
use quod_storage::{FileOpener, Opener};

use super::options::FormatOptions;
use crate::chain;
use crate::open::{Target, format_named, name_of};

const CLUSTER_SIZE: u32 = 65536;

const OVER_ITSELF: &str = "Error: Trying to create an image with the same filename as the backing file";

/// A new image.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) file: &'a Path,
    pub(super) format: Format,
    pub(super) size: u64,
    pub(super) backing: Option<(OsString, Format)>,
    /// As it was asked for; without a backing file it means nothing.
    backing_format: Option<String>,
    pub(super) cluster_size: u32,
    pub(super) table_size: Option<u32>,
}

impl<'a> Plan<'a> {
    /// Puts the options together.
    ///
    /// # Errors
    /// `FILE: ...`
    pub(super) fn make(file: &'a Path, options: FormatOptions, trusting: bool) -> anyhow::Result<Self> {
        let blame = |why: anyhow::Error| anyhow!("{}: {why:#}", file.display());
        let backing = match &options.backing_file {
            Some(name) => Some(Backing::named(file, name, options.backing_format.as_deref()).map_err(blame)?),
            None => None,
        };
        let backing_size = match &backing {
            Some(backing) if !trusting => Some(backing.size(file).map_err(blame)?),
            _ => None,
        };
        let Some(size) = options.size.or(backing_size) else {
            return Err(blame(anyhow!("Image creation needs a size parameter")));
        };
        Ok(Plan {
            file,
            format: if options.raw { Format::Raw } else { Format::Qed },
            size,
            backing: backing.map(|backing| (backing.name, backing.format)),
            backing_format: options.backing_format,
            cluster_size: number("cluster_size", options.cluster_size)
                .map_err(blame)?
                .unwrap_or(CLUSTER_SIZE),
            table_size: number("table_size", options.table_size).map_err(blame)?,
        })
    }
}

fn number(name: &str, value: Option<u64>) -> anyhow::Result<Option<u32>> {
    let narrow = |value: u64| {
        u32::try_from(value)
            .map_err(|_too_large| anyhow!("QED {} is invalid: {value}", name.replace('_', " ")))
    };
    value.map(narrow).transpose()
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Formatting '{}', fmt={} size={}", self.file.display(), name_of(self.format), self.size)?;
        if self.format == Format::Raw {
            return Ok(());
        }
        if let Some((name, _)) = &self.backing {
            write!(f, " backing_file={}", name.display())?;
        }
        if let Some(format) = &self.backing_format {
            write!(f, " backing_fmt={format}")?;
        }
        write!(f, " cluster_size={}", self.cluster_size)?;
        match self.table_size {
            Some(table_size) => write!(f, " table_size={table_size}"),
            None => Ok(()),
        }
    }
}

/// The backing file of a new image.
struct Backing {
    /// As the header will have it.
    name: OsString,
    /// Where it is, seen from here.
    path: PathBuf,
    format: Format,
}

impl Backing {
    fn named(image: &Path, name: &OsStr, format: Option<&str>) -> anyhow::Result<Self> {
        if name.is_empty() {
            bail!("Expected backing file name, got empty string");
        }
        let Some(path) = BackingName::local_path(image, name) else {
            let name = name.display();
            bail!("Could not open '{name}': not a local file (for a file of that name write './{name}')");
        };
        if path == image || Path::new(name) == image {
            bail!(OVER_ITSELF);
        }
        let Some(format) = format else {
            let target = Target::for_reading(image, None, false).or_below(&path, None);
            let detected = match quod::block_on(target.format()) {
                Ok(format) => format!("\nDetected format of {}.", name_of(format)),
                Err(_unreadable) => String::new(),
            };
            bail!("Backing file specified without backing format (-F qed or -F raw){detected}");
        };
        let Some(format) = format_named(format) else {
            bail!("Unknown driver '{format}'\nCould not open backing image.");
        };
        Ok(Backing { name: name.to_owned(), path, format })
    }

    /// Opens it and tells its size in bytes.
    ///
    /// # Errors
    /// It cannot be opened, or the new image would overwrite it or one that it needs.
    fn size(&self, image: &Path) -> anyhow::Result<u64> {
        let target = Target::for_reading(image, None, false).or_below(&self.path, Some(name_of(self.format)));
        quod::block_on(async {
            let opened =
                target.open().await.map_err(|why| anyhow!("{why:#}\nCould not open backing image."))?;
            let Ok(new) = FileOpener.identify(image).await else { return Ok(opened.size()) };
            for layer in chain::layers(&target).await? {
                if FileOpener.identify(&layer.path).await? == new {
                    bail!(OVER_ITSELF);
                }
            }
            Ok(opened.size())
        })
    }
}
