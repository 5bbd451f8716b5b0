//! Buffers that have done their work, kept for the next request of the same length.
//!
//! Role: most clients ask in one size; a fresh aligned buffer costs an allocation, a clearing and page faults.
//!
//! Invariant: what is kept is bounded by [`KEPT_BYTES`]. A kept buffer holds bytes of an earlier request, so it is
//! given only to those who overwrite it whole before anybody sees it.
//!
//! Absent on purpose: rounding lengths up, and sharing between threads.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use quod_storage::Buffer;

/// Bytes kept at most; over that, what is kept is of yesterday's sizes and goes.
const KEPT_BYTES: usize = 16 << 20;

/// The kept buffers, by length.
#[derive(Debug, Default)]
pub(crate) struct Recycler {
    kept: RefCell<HashMap<usize, Vec<Buffer>>>,
    bytes: Cell<usize>,
}

impl Recycler {
    /// A buffer of `len` bytes that hold anything.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let kept = self.kept.borrow_mut().get_mut(&len).and_then(Vec::pop);
        if kept.is_some() {
            self.bytes.set(self.bytes.get() - len);
        }
        kept.unwrap_or_else(|| Buffer::zeroed(len))
    }

    /// Keeps `buffer` for another request.
    pub(crate) fn put(&self, buffer: Buffer) {
        let len = buffer.len();
        if len == 0 || len > KEPT_BYTES {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        if self.bytes.get() + len > KEPT_BYTES {
            kept.clear();
            self.bytes.set(0);
        }
        kept.entry(len).or_default().push(buffer);
        self.bytes.set(self.bytes.get() + len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_in_its_length_only() {
        let recycler = Recycler::default();
        recycler.put(Buffer::copy_of(&[7; 512]));
        assert_eq!(recycler.take(4096)[..], [0; 4096]);
        assert_eq!(recycler.take(512)[..], [7; 512]);
        assert_eq!(recycler.take(512)[..], [0; 512]);
        assert_eq!(recycler.bytes.get(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let recycler = Recycler::default();
        for len in 1..2000 {
            recycler.put(Buffer::zeroed(len * 100));
            let kept: usize = recycler.kept.borrow().values().flatten().map(|buffer| buffer.len()).sum();
            assert_eq!(kept, recycler.bytes.get());
            assert!(kept <= KEPT_BYTES);
        }
    }
}
