//! Opening a chain: headers to layers, names to files.
//!
//! Role: opens the image, then the backing file that its header names, and so on down, in a loop. Where the image is to
//! be written to, it is made fit for that first: repaired when it is dirty (D12), its trailing partial cluster
//! cut, unknown autoclear bits cleared.
//!
//! Invariants: no name from a header is opened that the caller has not allowed; a file is in a chain once; nothing is
//! allocated by a header field before it is bounded.
//!
//! Absent on purpose: other people's formats.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quod_storage::{Access, Held, Opener, Storage};

use crate::allocate::FileEnd;
use crate::cache::{KeptShare, SlicePool};
use crate::check;
use crate::error::{Error, ErrorKind, Result};
use crate::front::{BackingName, Front, cannot_open, clear_autoclear, flush, open_file, read_front};
use crate::geometry::MAX_IMAGE_SIZE;
use crate::layer::{Layer, LayerKind, Qed, QedWriter};
use crate::need_check::NeedCheck;
use crate::options::{BackingPolicy, CommitPolicy, Format, OpenOptions};
use crate::pending::Pending;
use crate::probe::{self, Guard};
use crate::sync::OnceLock;
use crate::sync::atomic::AtomicU64;

/// More images than this in one chain are a mistake or an attack: each costs a file descriptor.
const MAX_DEPTH: usize = 200;

/// Copies from a backing file may take this many MiB at a time.
const COPY_BUDGET: usize = 64;

/// A chain, ready for requests.
pub(crate) struct Opened<S> {
    pub(crate) layers: Vec<Layer>,
    pub(crate) storages: Vec<S>,
    pub(crate) writer: Option<QedWriter>,
    /// For a raw image that is open for writing and was told to be raw by its first bytes.
    pub(crate) guard: Option<Guard>,
}

/// Opens an image and its backing files.
pub(crate) async fn open<O: Opener>(
    opener: &O,
    top: &Path,
    options: &OpenOptions,
) -> Result<Opened<O::Storage>> {
    let mut opened = Opened { layers: Vec::new(), storages: Vec::new(), writer: None, guard: None };
    let pool = options.cache.pool();
    let mut seen = HashSet::new();
    let mut next = Some((top.to_owned(), options.format));
    while let Some((name, format)) = next {
        let depth = opened.layers.len();
        let access = if depth == 0 { options.access } else { below(options.access) };
        let outcome = async {
            let id = opener.identify(&name).await.map_err(|source| cannot_open(&name, source))?;
            if !seen.insert(id) {
                let sentence = format!("Backing file '{}' creates an infinite loop.", name.display());
                return Err(Error::new(ErrorKind::BackingLoop, sentence));
            }
            if depth == MAX_DEPTH {
                return Err(Error::new(
                    ErrorKind::BackingLoop,
                    format!("more than {MAX_DEPTH} images in a chain"),
                ));
            }
            add_layer(opener, &name, format, access, options, &pool, &mut opened).await
        };
        next = outcome
            .await
            .map_err(|error| if depth == 0 { error } else { unavailable(&name, error).in_image(top) })?;
    }
    Ok(opened)
}

/// How the files below a writable image are opened: for reading.
fn below(top: Access) -> Access {
    match top {
        Access::Write => Access::Read,
        other => other,
    }
}

/// An error of a backing file, as the image on top of it sees it. Loops and refusals keep their kind.
fn unavailable(name: &Path, error: Error) -> Error {
    match error.kind() {
        ErrorKind::BackingLoop
        | ErrorKind::BackingDenied
        | ErrorKind::BackingUnavailable
        | ErrorKind::Locked => error,
        _ => {
            let error = error.in_image(name);
            Error::new(ErrorKind::BackingUnavailable, format!("Could not open backing file: {error}"))
        }
    }
}

/// Opens one layer; returns the name and, where it is known, the format of the next.
async fn add_layer<O: Opener>(
    opener: &O,
    name: &Path,
    format: Option<Format>,
    access: Access,
    options: &OpenOptions,
    pool: &Arc<SlicePool>,
    opened: &mut Opened<O::Storage>,
) -> Result<Option<(PathBuf, Option<Format>)>> {
    let storage = open_file(opener, name, access).await?;
    let blame = |error: Error| error.in_image(name);
    let (format, told) = match format {
        Some(format) => (format, true),
        None => (probe::format_of(&storage).await.map_err(blame)?, false),
    };
    if format == Format::Raw {
        opened.guard = (!told && access == Access::Write).then(Guard::default);
        let length = storage.length().await.map_err(|source| cannot_open(name, source))?;
        if length > MAX_IMAGE_SIZE {
            let sentence = format!("{length} bytes are more than a disk can have, {MAX_IMAGE_SIZE}");
            return Err(blame(Error::new(ErrorKind::InvalidArgument, sentence)));
        }
        opened.layers.push(Layer::new(name, LayerKind::Raw(AtomicU64::new(length))));
        opened.storages.push(storage);
        return Ok(None);
    }
    let mut front = read_front(&storage, name).await.map_err(blame)?;
    let next = match &front.backing {
        None => None,
        Some(_) if options.backing == BackingPolicy::Deny => {
            let sentence = "the image has a backing file, and opening that was not allowed";
            return Err(blame(Error::new(ErrorKind::BackingDenied, sentence)));
        }
        Some(BackingName { path: Some(path), raw, .. }) => Some((path.clone(), raw.then_some(Format::Raw))),
        Some(BackingName { name: backing, .. }) => {
            let sentence = format!(
                "Could not open backing file: '{}' is not a local file; rebase the image",
                backing.display()
            );
            return Err(blame(Error::new(ErrorKind::BackingUnavailable, sentence)));
        }
    };
    if access == Access::Write {
        let looked_through = make_writable(&storage, &mut front).await.map_err(blame)?;
        opened.writer = Some(writer(&front, looked_through, options, pool));
    }
    let qed = Qed::new(&front.header, front.file_length, access == Access::Write, pool);
    opened.layers.push(Layer::new(name, LayerKind::Qed(Box::new(qed))));
    opened.storages.push(storage);
    Ok(next)
}

/// Makes a file fit for writing: no dirty image, no partial cluster at its end, no autoclear bit, all of it durable. Tells
/// whether every entry was looked at on the way, and found good.
async fn make_writable<S: Storage>(storage: &S, front: &mut Front) -> Result<bool> {
    let mut looked_through = front.header.needs_check();
    if looked_through {
        check::repair_on_open(storage, front).await?;
    }
    let whole = front.header.geometry().whole_clusters(front.file_length);
    if whole != front.file_length {
        // No close leaves it so (D14).
        check::refuse_if_cut_short(storage, front).await?;
        looked_through = true;
        clear_autoclear(storage, front).await?;
        let cut = storage.set_len(whole, Held::NOTHING).await;
        cut.map_err(|source| Error::io("the partial cluster at the end cannot be cut", source))?;
        flush(storage).await?;
        front.file_length = whole;
    }
    clear_autoclear(storage, front).await?;
    Ok(looked_through)
}

fn writer(front: &Front, looked_through: bool, options: &OpenOptions, pool: &Arc<SlicePool>) -> QedWriter {
    let unordered = front.backing.is_none();
    let by_backing = if unordered { CommitPolicy::Through } else { CommitPolicy::Grouped };
    let policy = options.commit.unwrap_or(by_backing);
    // Where a crash leaves room behind the last entry in any case: NEED_CHECK tells of it, or it was of what was pending.
    let grows_ahead = unordered || policy == CommitPolicy::Grouped;
    QedWriter {
        end: FileEnd::new(front.header.geometry(), front.file_length, grows_ahead),
        need_check: NeedCheck::new(front.header.clone(), front.start.clone(), unordered),
        overhang: if looked_through { OnceLock::from(None) } else { OnceLock::new() },
        vetting: Default::default(),
        tables_cleared: AtomicU64::new(0),
        clusters: Default::default(),
        tables: Default::default(),
        policy,
        pending: Pending::new(
            options.pending,
            (policy == CommitPolicy::Grouped).then(|| KeptShare::of(pool)),
        ),
        copies: Arc::new(async_lock::Semaphore::new(COPY_BUDGET)),
    }
}
