//! Reads and block status.
//!
//! Role: guest bytes out of whichever layers have them.
//!
//! Absent on purpose: locks. A plan from `lookup.rs` stays good without one (D1).

use quod_storage::{Buffer, ExtentKind, Storage};

use crate::backing::Source;
use crate::error::Result;
use crate::image::Image;
use crate::layer::LayerKind;
use crate::units::GuestOffset;

/// Where a run of guest bytes lies, or why it reads as zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Bytes at that offset of the layer's file.
    Data {
        /// In bytes from the start of that file.
        file_offset: u64,
    },
    /// A hole of a raw layer's file at that offset: reads as zeroes.
    Hole {
        /// In bytes from the start of that file.
        file_offset: u64,
    },
    /// A zero cluster of the layer: reads as zeroes.
    Zero,
    /// In no layer, or past the end of the one below this: reads as zeroes.
    Unallocated,
}

/// A run of guest bytes of one kind, out of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    /// Length in bytes; never 0.
    pub len: u64,
    /// What the layer has there.
    pub kind: BlockKind,
    /// The layer: 0 is the image itself, 1 its backing file, and so on.
    pub depth: usize,
}

impl<S: Storage> Image<S> {
    /// Fills `into` with guest bytes from `at`, and returns it. Any alignment and length. A read that runs beside a
    /// write of the same bytes gets old and new ones in any mix: of sectors, or where the system's page cache has them, of bytes.
    ///
    /// # Errors
    /// `InvalidArgument` past the end of the disk; `Corrupt` where a table entry names what it must not; `Io`.
    ///
    /// # Cancellation
    /// Changes nothing but the cache; the buffer goes with the operation.
    pub async fn read(&self, at: u64, mut into: Buffer) -> Result<Buffer> {
        self.check_open()?;
        self.check_range(at, into.len() as u64)?;
        let done = self.fill_now(0, GuestOffset(at), &mut into)?;
        if done == into.len() {
            return Ok(into);
        }
        // In a box: the futures of those who find everything in memory stay small.
        Box::pin(self.fill_rest(0, GuestOffset(at), into, done)).await
    }

    /// Tells what lies behind the first of `len` guest bytes from `at`, and how far that goes. Neighbouring runs may
    /// be of one kind.
    ///
    /// # Errors
    /// As [`read`](Image::read); also `InvalidArgument` when `len` is 0.
    ///
    /// # Cancellation
    /// Changes nothing but the cache.
    pub async fn block_status(&self, at: u64, len: u64) -> Result<BlockStatus> {
        self.check_open()?;
        self.check_range(at, len)?;
        if len == 0 {
            return Err(self.invalid("the status of no bytes"));
        }
        let run = self.resolve(0, GuestOffset(at), len).await?;
        match run.source {
            Source::File { depth, at } if matches!(self.layers()[depth].kind, LayerKind::Raw(_)) => {
                let extent = self.file_extent(depth, at, run.len).await?;
                let kind = match extent.kind {
                    ExtentKind::Data => BlockKind::Data { file_offset: at.0 },
                    ExtentKind::Hole => BlockKind::Hole { file_offset: at.0 },
                };
                Ok(BlockStatus { len: extent.len, kind, depth })
            }
            Source::File { depth, at } => {
                Ok(BlockStatus { len: run.len, kind: BlockKind::Data { file_offset: at.0 }, depth })
            }
            Source::ZeroMarker { depth } => Ok(BlockStatus { len: run.len, kind: BlockKind::Zero, depth }),
            Source::Nothing { depth } => {
                Ok(BlockStatus { len: run.len, kind: BlockKind::Unallocated, depth })
            }
        }
    }
}
