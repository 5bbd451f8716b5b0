//! Runs of guest bytes of one kind.
//!
//! Role: walks the block status of an image and joins what belongs together, as the reference's map does.
//!
//! Invariant: runs are adjacent, never empty, and as long as they can be: same layer, same kind, and bytes that go on
//! in the file where the ones before end. What comes before a failure is told before it.
//!
//! Absent on purpose: printing, and any memory of past runs.

use quod::{BlockKind, Error};

use crate::place::AnyDisk;

/// A run of guest bytes of one kind out of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) kind: BlockKind,
    pub(crate) depth: usize,
}

impl Run {
    /// One past its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Whether it may hold anything but zeroes.
    pub(crate) fn may_hold_data(&self) -> bool {
        matches!(self.kind, BlockKind::Data { .. })
    }

    /// Whether the image itself has it, not one below it.
    pub(crate) fn is_allocated_here(&self) -> bool {
        self.depth == 0 && self.kind != BlockKind::Unallocated
    }

    /// Where in the layer's file it starts.
    pub(crate) fn file_offset(&self) -> Option<u64> {
        match self.kind {
            BlockKind::Data { file_offset } | BlockKind::Hole { file_offset } => Some(file_offset),
            BlockKind::Zero | BlockKind::Unallocated => None,
        }
    }

    /// Whether both are of one kind, wherever they lie.
    pub(crate) fn is_like(&self, other: &Run) -> bool {
        std::mem::discriminant(&self.kind) == std::mem::discriminant(&other.kind)
    }

    fn goes_on_in(&self, next: &Run) -> bool {
        let in_file = match (self.file_offset(), next.file_offset()) {
            (Some(here), Some(there)) => here.checked_add(self.len) == Some(there),
            (None, None) => true,
            _ => false,
        };
        in_file && self.depth == next.depth && self.is_like(next)
    }
}

/// The runs of a range of an image.
pub(crate) struct Runs<'a> {
    disk: &'a AnyDisk,
    at: u64,
    end: u64,
    ahead: Option<Result<Run, Error>>,
}

impl<'a> Runs<'a> {
    /// The runs from `start` to `end`, or to the end of the disk.
    pub(crate) fn of(disk: &'a AnyDisk, start: u64, end: u64) -> Self {
        Runs { disk, at: start, end: end.min(disk.size()), ahead: None }
    }

    /// The next run, or `None` at the end.
    ///
    /// # Errors
    /// A table of the image cannot be read or is corrupt. Then this is the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Run>, Error> {
        let Some(mut run) = self.step().await? else { return Ok(None) };
        loop {
            match self.step().await {
                Ok(Some(next)) if run.goes_on_in(&next) => run.len += next.len,
                Ok(Some(next)) => self.ahead = Some(Ok(next)),
                Ok(None) => {}
                Err(error) => self.ahead = Some(Err(error)),
            }
            if self.ahead.is_some() || self.at >= self.end {
                return Ok(Some(run));
            }
        }
    }

    /// What the engine tells at once.
    async fn step(&mut self) -> Result<Option<Run>, Error> {
        if let Some(ahead) = self.ahead.take() {
            return ahead.map(Some);
        }
        if self.at >= self.end {
            return Ok(None);
        }
        let status = match self.disk.block_status(self.at, self.end - self.at).await {
            Ok(status) => status,
            Err(error) => {
                self.at = self.end;
                return Err(error);
            }
        };
        let len = status.len.min(self.end - self.at);
        let run = Run { start: self.at, len, kind: status.kind, depth: status.depth };
        self.at += len;
        Ok(Some(run))
    }
}
