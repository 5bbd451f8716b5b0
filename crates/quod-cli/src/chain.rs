//! The images of a backing chain, by name.
//!
//! Role: reads the header of an image and, when asked, of every image below it: for `info --backing-chain`, and for
//! `create`, which must not overwrite what it stands on.
//!
//! Invariant: every file is read once and closed before the next is opened; loops end with an error.
//!
//! Absent on purpose: opening a chain for I/O; the engine does that.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use quod::{Format, ImageInfo};
use quod_storage::{Opener, Storage};

use crate::open::{Target, could_not_open, system_sentence};
use crate::place;

/// More images than this in one chain are a mistake or an attack.
const MAX_LAYERS: usize = 200;

/// One image of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// Length of the file in bytes.
    pub(crate) file_length: u64,
    /// Bytes that it takes on the file system; a server does not tell.
    pub(crate) room: Option<u64>,
    /// What the header says; raw images have none.
    pub(crate) header: Option<ImageInfo>,
}

impl Layer {
    /// Reads what one image says of itself, and opens nothing else.
    pub(crate) async fn read(target: &Target<'_>) -> anyhow::Result<Layer> {
        let format = target.format().await?;
        let path = target.path;
        let (file_length, header) = match format {
            Format::Raw => (raw_length(target).await?, None),
            Format::Qed => {
                let info = quod::inspect(&target.places, path, target.access).await;
                let info = info.map_err(|error| anyhow!(could_not_open(path, &error)))?;
                (info.file_length, Some(info))
            }
        };
        let room = match place::remote_name(path) {
            Some(_) => None,
            None => {
                let metadata = fs::metadata(path);
                Some(metadata.with_context(|| format!("Could not stat '{}'", path.display()))?.blocks() * 512)
            }
        };
        Ok(Layer { path: path.to_owned(), format, file_length, room, header })
    }

    /// Whether a server has it.
    pub(crate) fn is_remote(&self) -> bool {
        self.room.is_none()
    }

    /// Virtual size in bytes; a raw image ends with a whole sector.
    pub(crate) fn size(&self) -> u64 {
        match &self.header {
            Some(header) => header.size,
            None => self.file_length.next_multiple_of(512),
        }
    }

    /// Name and, where the header tells it, format of the backing file.
    fn below(&self) -> anyhow::Result<Option<(PathBuf, Option<&'static str>)>> {
        let Some(backing) = self.header.as_ref().and_then(|header| header.backing.as_ref()) else {
            return Ok(None);
        };
        match &backing.path {
            _ if self.is_remote() => bail!(
                "Could not open '{}': a server does not choose files of this machine, as '{}' would",
                backing.name.display(),
                place::shown(&self.path)
            ),
            Some(path) => Ok(Some((path.clone(), backing.raw.then_some("raw")))),
            None => bail!(
                "Could not open '{}': not a local file; local files are all that quod opens by a name in '{}'",
                backing.name.display(),
                self.path.display()
            ),
        }
    }
}

async fn raw_length(target: &Target<'_>) -> anyhow::Result<u64> {
    let length = async { target.places.open(target.path, target.access).await?.length().await };
    let told = length.await;
    told.map_err(|error| anyhow!("Could not open '{}': {}", target.path.display(), system_sentence(&error)))
}

/// Reads the image and every image below it, top first.
pub(crate) async fn layers(top: &Target<'_>) -> anyhow::Result<Vec<Layer>> {
    let mut layers = Vec::new();
    let mut seen = HashSet::new();
    let mut next = Some((top.path.to_owned(), top.format));
    while let Some((path, format)) = next {
        let layer = Layer::read(&top.or_below(&path, format)).await?;
        let id = top.places.identify(&path).await?;
        if !seen.insert(id) {
            bail!("Backing file '{}' creates an infinite loop.", path.display());
        }
        if layers.len() == MAX_LAYERS {
            bail!("The chain of '{}' has more than {MAX_LAYERS} images", top.path.display());
        }
        next = layer.below()?;
        layers.push(layer);
    }
    Ok(layers)
}
