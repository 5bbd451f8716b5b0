//! What is known of a disk, apart from the engine.
//!
//! Role: the model of its sectors, the sizes that it may have after a crash, and the number of the last write. Copied at
//! a crash.
//!
//! Invariant: a crash of a copy leaves the original as it is: the trial goes on from there.
//!
//! Absent on purpose: judging what a sector holds (`quod_sim::Model`).

use quod::CommitPolicy;
use quod_sim::Model;

/// What is known of a disk.
#[derive(Clone, Default, Debug)]
pub struct Oracle {
    /// What each sector may hold.
    pub model: Model,
    pub(crate) sequence: u64,
    /// Sizes that the disk may have after a crash: the last flushed one first.
    pub(crate) sizes: Vec<u64>,
    /// Of growths that have begun and did not end well: one may have brought its size to the header, and a close leaves that.
    unended: Vec<u64>,
    /// No growth was asked for since a clean close.
    is_closed: bool,
}

impl Oracle {
    /// Of a disk of which nothing is uncertain.
    pub fn new(model: Model) -> Self {
        Oracle { sizes: vec![model.size()], model, sequence: 1, ..Oracle::default() }
    }

    /// The disk is being made so large.
    pub(crate) fn grows(&mut self, size: u64) {
        self.sizes.push(size);
        self.unended.push(size);
        self.is_closed = false;
    }

    /// It is so large now.
    pub(crate) fn has_grown(&mut self, size: u64) {
        self.model.grow(size);
        self.unended.retain(|unended| *unended > size);
    }

    /// The machine loses its power.
    ///
    /// # Panics
    /// As [`assert_followed`](Oracle::assert_followed).
    pub fn crash(&mut self, place: &str) {
        self.assert_followed(place);
        self.model.crash();
    }

    /// The process is dead.
    pub(crate) fn kill(&mut self, commit: CommitPolicy) {
        self.model.kill();
        if commit == CommitPolicy::Grouped {
            // Entries that only it knew are gone, and with them what no flush had covered.
            self.model.lose_unflushed();
        }
    }

    /// Holds the model against its task: of a sector that it has lost it allows anything.
    ///
    /// # Panics
    /// When it has lost one.
    pub fn assert_followed(&self, place: &str) {
        let lost = self.model.lost();
        assert_eq!(lost, 0, "{place}: the model has lost sectors: nothing would be proved of them");
    }

    /// A clean close has made everything durable.
    #[must_use]
    pub fn closed(mut self) -> Self {
        self.model.settle();
        let flush = self.model.begin_flush();
        self.model.succeed(flush);
        self.sizes = vec![self.model.size()];
        self.sizes.append(&mut self.unended);
        self.is_closed = true;
        self
    }

    /// Growth of a raw disk may be there in part: a size between two that it may have is one of them.
    pub fn allow_part_of_growth(&mut self, size: u64) {
        if self.sizes.iter().any(|&known| known <= size) && self.sizes.iter().any(|&known| size <= known) {
            self.sizes.push(size);
        }
    }

    /// A new open, after a close or the death of a process, has found the disk to have this size. What was completed is
    /// there; what was not flushed may still be lost.
    ///
    /// # Panics
    /// When it cannot have it.
    pub(crate) fn found_size(&mut self, size: u64, place: &str) {
        let completed = self.model.size();
        assert!(size >= completed, "{place}: size {size}, and it had grown to {completed}");
        if self.is_closed {
            return self.recovered_size(size, place);
        }
        self.has_size(size, place);
    }

    /// A new open, after a crash, has found the disk to have this size: it stays.
    ///
    /// # Panics
    /// When no crash can have left it so.
    pub(crate) fn recovered_size(&mut self, size: u64, place: &str) {
        self.has_size(size, place);
        self.sizes = vec![size];
    }

    fn has_size(&mut self, size: u64, place: &str) {
        assert!(self.sizes.contains(&size), "{place}: size {size}, allowed: {:?}", self.sizes);
        self.model.recover_size(size);
        self.unended.clear();
    }
}
