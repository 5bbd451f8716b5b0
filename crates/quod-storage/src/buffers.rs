//! The memory of one vectored request, and what the request protects.
//!
//! Invariant: what is held goes with the buffers, when the kernel is done with both.
//!
//! Absent on purpose: the memory itself (`buffer.rs`).

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::Buffer;

/// What an operation protects: dropped when the kernel is done with the operation, never before.
///
/// A lock guard in here keeps its lock across a dropped future (durability rule D13).
#[derive(Clone, Default)]
pub struct Held(Option<Arc<dyn Any + Send + Sync>>);

impl Held {
    /// Protects nothing.
    pub const NOTHING: Held = Held(None);

    /// Keeps `guard` alive until the operation is over.
    pub fn new<T: Any + Send + Sync>(guard: Arc<T>) -> Self {
        Held(Some(guard))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Held(..)" } else { "Held(nothing)" })
    }
}

/// The memory of one vectored read or write, in file order, and what the operation protects.
#[derive(Debug)]
pub struct Buffers {
    /// The parts, one after another in the file.
    pub parts: SmallVec<[Buffer; 3]>,
    /// Dropped with the buffers, when the kernel is done with both.
    pub held: Held,
}

impl Buffers {
    /// Gathers `parts`; protects nothing.
    pub fn gather(parts: impl IntoIterator<Item = Buffer>) -> Self {
        Buffers { parts: parts.into_iter().collect(), held: Held::NOTHING }
    }

    /// Adds what the operation protects.
    #[must_use]
    pub fn holding(mut self, held: Held) -> Self {
        self.held = held;
        self
    }

    /// Length of all parts together, in bytes.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Whether there is not one byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the range from `start` on, as slices of the parts; what lies past their end is cut.
    pub fn slices(&self, start: usize, len: usize) -> impl Iterator<Item = &[u8]> {
        let (mut skip, mut rest) = (start, len);
        let slices = self.parts.iter().map(move |part| &part[cut(part.len(), &mut skip, &mut rest)]);
        slices.filter(|slice| !slice.is_empty())
    }

    /// As [`slices`](Buffers::slices), to be changed.
    pub fn slices_mut(&mut self, start: usize, len: usize) -> impl Iterator<Item = &mut [u8]> {
        let (mut skip, mut rest) = (start, len);
        let slices = self.parts.iter_mut().map(move |part| {
            let range = cut(part.len(), &mut skip, &mut rest);
            &mut part[range]
        });
        slices.filter(|slice| !slice.is_empty())
    }

    /// Copies `bytes` to the place `start`.
    ///
    /// # Panics
    /// When they reach past the end.
    pub fn copy_in(&mut self, start: usize, mut bytes: &[u8]) {
        for slice in self.slices_mut(start, bytes.len()) {
            let (here, rest) = bytes.split_at(slice.len());
            slice.copy_from_slice(here);
            bytes = rest;
        }
        assert!(bytes.is_empty(), "{} bytes lie past the end", bytes.len());
    }

    /// Fills `bytes` from the place `start`.
    ///
    /// # Panics
    /// When they reach past the end.
    pub fn copy_out(&self, start: usize, bytes: &mut [u8]) {
        let mut filled = 0;
        for slice in self.slices(start, bytes.len()) {
            bytes[filled..filled + slice.len()].copy_from_slice(slice);
            filled += slice.len();
        }
        assert_eq!(filled, bytes.len(), "bytes past the end");
    }

    /// What a read from `at` has filled, when the file has ended after `done` bytes of it: the rest of the block that the
    /// end lies in reads as zeroes.
    pub(crate) fn clear_block(&mut self, at: u64, done: usize, block: u64) -> usize {
        let end = at + done as u64;
        let behind = (end.next_multiple_of(block) - end) as usize;
        let behind = behind.min(self.len() - done);
        self.slices_mut(done, behind).for_each(|slice| slice.fill(0));
        done + behind
    }

    /// Takes the only part back out.
    ///
    /// # Panics
    /// When there is not exactly one part.
    pub fn into_single(mut self) -> Buffer {
        assert_eq!(self.parts.len(), 1, "one buffer went in");
        self.parts.remove(0)
    }
}

impl From<Buffer> for Buffers {
    fn from(buffer: Buffer) -> Self {
        Buffers { parts: smallvec![buffer], held: Held::NOTHING }
    }
}

/// What of a part of `len` bytes is meant, when so many bytes are to be skipped before it, and so many taken; counts both down.
fn cut(len: usize, skip: &mut usize, rest: &mut usize) -> Range<usize> {
    let from = len.min(*skip);
    let to = from + (*rest).min(len - from);
    (*skip, *rest) = (*skip - from, *rest - (to - from));
    from..to
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(buffers: &Buffers, start: usize, len: usize) -> Vec<u8> {
        buffers.slices(start, len).flatten().copied().collect()
    }

    #[test]
    fn parts_are_one_run_of_bytes() {
        let parts = [&b"one"[..], b"", b"two", b"x"].map(Buffer::copy_of);
        let mut buffers = Buffers::gather(parts);
        assert_eq!(buffers.slices(2, 3).collect::<Vec<_>>(), [&b"e"[..], b"tw"]);
        assert_eq!(all(&buffers, 0, 100), b"onetwox");
        buffers.copy_in(2, b"EFG");
        assert_eq!(all(&buffers, 0, 7), b"onEFGox");
        assert!(all(&buffers, 7, 1).is_empty());
        let mut out = [0; 4];
        buffers.copy_out(3, &mut out);
        assert_eq!(&out, b"FGox");
    }

    #[test]
    fn behind_the_end_a_block_reads_as_zeroes() {
        let mut buffers = Buffers::gather([Buffer::copy_of(&[1; 6]), Buffer::copy_of(&[1; 6])]);
        assert_eq!(buffers.clear_block(8, 3, 1), 3);
        assert_eq!(buffers.clear_block(8, 3, 8), 8);
        assert_eq!(all(&buffers, 0, 12), [1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(buffers.clear_block(8, 8, 8), 8);
        assert_eq!(buffers.clear_block(8, 9, 8), 12, "what is asked for ends before the block");
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn nothing_is_copied_past_the_end() {
        Buffers::from(Buffer::zeroed(3)).copy_in(1, &[1; 3]);
    }
}
