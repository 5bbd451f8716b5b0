//! The chain below: what unallocated means.
//!
//! Role: walks the layers of a chain, top first, until one of them has the bytes, and says where they lie. A flat
//! list and a loop, not recursion.
//!
//! Invariant: a run never crosses the end of a layer that was asked for it: past its end a layer reads as zeroes,
//! whatever lies below it.
//!
//! Absent on purpose: opening (`chain.rs`), and data: readers read, copiers copy.

use std::io;

use quod_storage::{Buffer, Extent, ExtentKind, Storage};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::layer::{LayerKind, Qed};
use crate::lookup::Mapping;
use crate::sync::atomic::Ordering;
use crate::table::L2Entry;
use crate::units::{FileOffset, GuestOffset};

/// What a run of guest bytes reads as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The bytes of this layer's file, from that place on.
    File { depth: usize, at: FileOffset },
    /// Zeroes, by this layer's zero marker.
    ZeroMarker { depth: usize },
    /// Zeroes: no layer has the bytes, or they lie past the end of the one below this.
    Nothing { depth: usize },
}

/// A run of guest bytes with one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) source: Source,
    /// Bytes; never 0.
    pub(crate) len: u64,
}

impl Run {
    /// What a layer says about it; `None` when it is for the layer below to say.
    fn of(depth: usize, mapping: Mapping) -> Option<Self> {
        let source = match mapping.entry {
            L2Entry::Data(at) => Source::File { depth, at },
            L2Entry::Zero => Source::ZeroMarker { depth },
            L2Entry::Unallocated => return None,
        };
        Some(Run { source, len: mapping.len })
    }
}

/// Where a look-up without a wait ends: the layer that has to be asked, and for how many bytes.
struct Missing<'a> {
    depth: usize,
    qed: &'a Qed,
    len: u64,
}

fn cannot_read(at: FileOffset, source: io::Error) -> Error {
    Error::io(format!("data at {at} cannot be read"), source)
}

impl<S: Storage> Image<S> {
    /// Says where up to `len` bytes from `at` lie, asking layer `depth` first, then those below it.
    ///
    /// # Errors
    /// A layer's table is corrupt or cannot be read.
    pub(crate) async fn resolve(&self, mut depth: usize, at: GuestOffset, mut len: u64) -> Result<Run> {
        loop {
            let here = |_, qed: &Qed, at, len| qed.lookup_here(at, len);
            let missing = match self.resolve_by(depth, at, len, here) {
                Ok(run) => return Ok(run),
                Err(missing) => missing,
            };
            let layer = &self.layers()[missing.depth];
            // In a box: the futures of those who find everything in the cache stay small.
            let found = Box::pin(missing.qed.survey(self.storage(missing.depth), at, missing.len)).await;
            let mapping = layer.blame(found)?;
            match Run::of(missing.depth, mapping) {
                Some(run) => return Ok(run),
                None => (depth, len) = (missing.depth + 1, mapping.len),
            }
        }
    }

    /// As [`resolve`](Image::resolve), as far as `look_up` knows; the first layer of which it does not, otherwise.
    #[inline]
    fn resolve_by(
        &self,
        depth: usize,
        at: GuestOffset,
        mut len: u64,
        look_up: impl Fn(usize, &Qed, GuestOffset, u64) -> Option<Mapping>,
    ) -> Result<Run, Missing<'_>> {
        for (depth, layer) in self.layers().iter().enumerate().skip(depth) {
            let left = layer.size().saturating_sub(at.0);
            if left == 0 {
                // It is the layer above that has nothing there.
                return Ok(Run { source: Source::Nothing { depth: depth.saturating_sub(1) }, len });
            }
            len = len.min(left);
            let qed = match &layer.kind {
                LayerKind::Raw(_) => {
                    return Ok(Run { source: Source::File { depth, at: FileOffset(at.0) }, len });
                }
                LayerKind::Qed(qed) => qed,
            };
            let mapping = look_up(depth, qed, at, len).ok_or(Missing { depth, qed, len })?;
            if let Some(run) = Run::of(depth, mapping) {
                return Ok(run);
            }
            len = mapping.len;
        }
        Ok(Run { source: Source::Nothing { depth: self.layers().len() - 1 }, len })
    }

    /// Fills as much of a buffer with guest bytes from `at`, asking layer `depth` first, as needs no wait; tells how much.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn fill_now(&self, depth: usize, at: GuestOffset, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let look_up = |depth, qed: &Qed, at, len| qed.lookup_now(self.storage(depth), at, len);
            let at = at.plus(done as u64);
            let Ok(run) = self.resolve_by(depth, at, rest.len() as u64, look_up) else { break };
            let piece = &mut rest[..run.len as usize];
            match run.source {
                Source::File { depth, at } => match self.read_file_now(depth, at, piece) {
                    Some(outcome) => outcome?,
                    None => break,
                },
                Source::ZeroMarker { .. } | Source::Nothing { .. } => piece.fill(0),
            }
            done += run.len as usize;
        }
        Ok(done)
    }

    /// Fills a buffer with guest bytes from `at`, asking layer `depth` first.
    ///
    /// # Errors
    /// As [`resolve`](Image::resolve), or a file cannot be read.
    pub(crate) async fn fill(&self, depth: usize, at: GuestOffset, mut into: Buffer) -> Result<Buffer> {
        let done = self.fill_now(depth, at, &mut into)?;
        self.fill_rest(depth, at, into, done).await
    }

    /// As [`fill`](Image::fill), of whose buffer the first `done` bytes are there, and what follows has to be waited for.
    ///
    /// # Errors
    /// As [`fill`](Image::fill).
    pub(crate) async fn fill_rest(
        &self,
        depth: usize,
        at: GuestOffset,
        mut rest: Buffer,
        done: usize,
    ) -> Result<Buffer> {
        let mut filled = rest.split_to(done);
        while !rest.is_empty() {
            let here = at.plus(filled.len() as u64);
            let run = self.resolve(depth, here, rest.len() as u64).await?;
            let mut piece = rest.split_to(run.len as usize);
            match run.source {
                Source::File { depth, at } => piece = self.read_file(depth, at, piece).await?,
                Source::ZeroMarker { .. } | Source::Nothing { .. } => piece.fill(0),
            }
            filled.join(piece);
            let more = self.fill_now(depth, at.plus(filled.len() as u64), &mut rest)?;
            filled.join(rest.split_to(more));
        }
        Ok(filled)
    }

    /// As [`read_file`](Image::read_file), where that needs no wait.
    #[inline]
    fn read_file_now(&self, depth: usize, at: FileOffset, into: &mut [u8]) -> Option<Result<()>> {
        let layer = &self.layers()[depth];
        if let LayerKind::Raw(length) = &layer.kind
            && at.0 + into.len() as u64 > length.load(Ordering::Acquire)
        {
            return None;
        }
        let outcome = self.storage(depth).read_now(at.0, into)?;
        Some(outcome.map_err(|source| cannot_read(at, source).in_image(&layer.name)))
    }

    /// Reads a layer's file.
    async fn read_file(&self, depth: usize, at: FileOffset, mut into: Buffer) -> Result<Buffer> {
        let layer = &self.layers()[depth];
        let mut past_end = None;
        if let LayerKind::Raw(length) = &layer.kind {
            // A raw file may end within its last sector.
            let left = length.load(Ordering::Acquire).saturating_sub(at.0);
            if left == 0 {
                into.fill(0);
                return Ok(into);
            }
            if left < into.len() as u64 {
                let head = into.split_to(left as usize);
                into.fill(0);
                past_end = Some(std::mem::replace(&mut into, head));
            }
        }
        let read = self.storage(depth).read_at(at.0, into.into()).await;
        let mut read = read.map_err(|source| cannot_read(at, source).in_image(&layer.name))?.into_single();
        if let Some(zeroes) = past_end {
            read.join(zeroes);
        }
        Ok(read)
    }

    /// How many of up to `len` guest bytes from `at` are known to read as zeroes from layer `depth` down. 0 when the
    /// first of them may be something else.
    ///
    /// # Errors
    /// As [`resolve`](Image::resolve).
    pub(crate) async fn known_zeroes(&self, depth: usize, at: GuestOffset, len: u64) -> Result<u64> {
        let mut zeroes = 0;
        while zeroes < len {
            let run = self.content(depth, at.plus(zeroes), len - zeroes).await?;
            if run.kind == ExtentKind::Data {
                break;
            }
            zeroes += run.len;
        }
        Ok(zeroes)
    }

    /// A run of up to `len` guest bytes from `at` that are known to read as zeroes, or may be something else, from
    /// layer `depth` down.
    ///
    /// # Errors
    /// As [`resolve`](Image::resolve).
    pub(crate) async fn content(&self, depth: usize, at: GuestOffset, len: u64) -> Result<Extent> {
        let run = self.resolve(depth, at, len).await?;
        match run.source {
            Source::File { depth, at } => self.file_extent(depth, at, run.len).await,
            Source::ZeroMarker { .. } | Source::Nothing { .. } => {
                Ok(Extent { len: run.len, kind: ExtentKind::Hole })
            }
        }
    }

    /// What a layer's file is made of. That of a backing file, which nobody writes to, is asked for in long runs.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn file_extent(&self, depth: usize, at: FileOffset, len: u64) -> Result<Extent> {
        let layer = &self.layers()[depth];
        let known = if depth == 0 { 0 } else { layer.data.len_from(at.0) };
        if known > 0 {
            return Ok(Extent { len: len.min(known), kind: ExtentKind::Data });
        }
        let ahead = if depth == 0 { len } else { len.max(layer.file_length().saturating_sub(at.0)) };
        let extent = self.storage(depth).extent(at.0, ahead).await;
        let failed = |source| Error::io(format!("cannot tell holes from data at {at}"), source);
        let extent = extent.map_err(|source| failed(source).in_image(&layer.name))?;
        if depth > 0 && extent.kind == ExtentKind::Data {
            layer.data.remember(at.0..at.0 + extent.len);
        }
        Ok(Extent { len: len.min(extent.len), ..extent })
    }
}
