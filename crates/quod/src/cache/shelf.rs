//! A directory by itself, for tests and models: without a policy, with slices that cost nothing to make.

use super::arena::{Arena, Ledger};
use super::directory::Directory;
use super::entries::Shape;
use super::slice::{Header, OwnedKey, SliceKey};
use crate::sync::Mutex;
use crate::units::FileOffset;

/// A directory with memory for slices of one entry, which is their number.
pub(super) struct Shelf {
    pub(super) arena: Arena,
    pub(super) directory: Directory,
    /// What the structure lock guards: who has which line, and lives that slices led.
    pub(super) structure: Mutex<(Ledger, u64)>,
}

impl Shelf {
    /// With frames of so many words, and slots for so many slices.
    pub(super) fn new(frame_words: usize, slices: u64) -> Self {
        Shelf::with_seed(frame_words, slices, 0)
    }

    /// Which of the slices share a slot follows from the seed.
    pub(super) fn with_seed(frame_words: usize, slices: u64, seed: u64) -> Self {
        Shelf {
            arena: Arena::new(frame_words, 1),
            directory: Directory::new(slices, seed),
            structure: Mutex::default(),
        }
    }

    pub(super) fn insert(&self, key: SliceKey) {
        let (ledger, lives) = &mut *self.structure.lock().unwrap();
        let header = Header::there(&self.arena, ledger.take_line(&self.arena));
        header.write(own(key), FileOffset(0), Shape::Even { first: key.index, stride: 0 }, 1);
        *lives += 1;
        self.directory.insert(&self.arena, header, *lives);
    }

    pub(super) fn remove(&self, key: SliceKey) {
        let (ledger, _) = &mut *self.structure.lock().unwrap();
        let header = self.directory.look_up(&self.arena, own(key)).unwrap();
        self.directory.remove(&self.arena, header);
        ledger.give_line(&self.arena, header.line);
    }

    #[cfg(test)]
    pub(super) fn is_in_first_slot(&self, key: SliceKey) -> bool {
        self.directory.is_in_first_slot(own(key))
    }

    pub(super) fn find(&self, key: SliceKey) -> Option<u64> {
        self.directory.find(&self.arena, own(key), |slice| slice.entry(0))
    }
}

/// The key of the only image.
fn own(key: SliceKey) -> OwnedKey {
    OwnedKey { image: 0, key }
}
