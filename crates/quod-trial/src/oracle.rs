//! What is known of a disk, apart from the engine.
//!
//! Role: the model of its sectors, the sizes that it may have after a crash, and the number of the last write. Copied at
//! a crash.
//!
//! Invariant: a crash of a copy leaves the original as it is: the trial goes on from there.
//!
//! Absent on purpose: judging (`quod_sim::Model`).

use quod_sim::Model;

/// What is known of a disk.
#[derive(Clone, Default, Debug)]
pub struct Oracle {
    /// What each sector may hold.
    pub model: Model,
    pub(crate) sequence: u64,
    /// Sizes that the disk may have after a crash: the last flushed one first.
    pub(crate) sizes: Vec<u64>,
}

impl Oracle {
    /// Of a disk of which nothing is uncertain.
    pub fn new(model: Model) -> Self {
        Oracle { sizes: vec![model.size()], model, sequence: 1 }
    }

    /// A clean close has made everything durable.
    #[must_use]
    pub fn closed(mut self) -> Self {
        self.model.settle();
        let flush = self.model.begin_flush();
        self.model.succeed(flush);
        self.sizes = vec![self.model.size()];
        self
    }

    /// A new open has found the disk to have this size. What was not flushed may still be lost.
    ///
    /// # Panics
    /// When it cannot have it.
    pub(crate) fn found_size(&mut self, size: u64, place: &str) {
        assert!(self.sizes.contains(&size), "{place}: size {size}, allowed: {:?}", self.sizes);
        self.model.recover_size(size);
    }

    /// The same right after a crash: it stays.
    ///
    /// # Panics
    /// When no crash can have left it so.
    pub(crate) fn recovered_size(&mut self, size: u64, place: &str) {
        self.found_size(size, place);
        self.sizes = vec![size];
    }
}
