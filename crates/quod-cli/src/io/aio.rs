//! Requests that run beside the commands that follow them.
//!
//! Role: gives each `aio_` request a thread, and hands its outcome back to the session, which prints it.
//!
//! Invariant: at most [`MOST`] run at a time; none is left when [`Aside::wait`] returns `None`.
//!
//! Absent on purpose: order. The requests are concurrent, as those of guests are.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use quod_language::{Range, Read, Style, Write};

use super::transfer::{self, Content, Fault};
use crate::place::AnyDisk;

/// Requests that run at a time: with their pieces they take 256 MiB.
const MOST: usize = 32;

/// What became of a request.
pub(super) struct Outcome {
    pub(super) job: Job,
    /// Whether what was to be verified is right.
    pub(super) result: Result<bool, Fault>,
    pub(super) took: Duration,
}

/// A request with all that it needs.
pub(super) enum Job {
    Read(Read),
    Write(Write, Content),
    Discard(Range, Style),
}

impl Job {
    /// Runs it.
    pub(super) fn run(self, disk: &AnyDisk) -> Outcome {
        let begun = Instant::now();
        let result = quod::block_on(async {
            match &self {
                Job::Read(read) => transfer::read(disk, read).await,
                Job::Write(write, content) => transfer::write(disk, write, content).await.map(|()| true),
                Job::Discard(range, _) => transfer::discard(disk, *range).await.map(|()| true),
            }
        });
        Outcome { job: self, result, took: begun.elapsed() }
    }
}

/// The requests that are running, oldest first.
pub(super) struct Aside {
    running: Vec<JoinHandle<Outcome>>,
}

/// What a thread gave: an outcome, or nothing when it failed as none should.
pub(super) type Ended = Result<Outcome, Panicked>;

/// A request ended in a way that is a mistake of ours.
#[derive(Debug)]
pub(super) struct Panicked;

impl Aside {
    pub(super) fn new() -> Self {
        Aside { running: Vec::new() }
    }

    /// Whether no more may begin before one ends.
    pub(super) fn is_full(&self) -> bool {
        self.running.len() >= MOST
    }

    /// Begins a request.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn begin(&mut self, disk: AnyDisk, job: Job) -> io::Result<()> {
        self.running.push(thread::Builder::new().spawn(move || job.run(&disk))?);
        Ok(())
    }

    /// A request that is over already.
    pub(super) fn finished(&mut self) -> Option<Ended> {
        let place = self.running.iter().position(JoinHandle::is_finished)?;
        Some(self.running.remove(place).join().or(Err(Panicked)))
    }

    /// Waits for a request; `None` when nothing is running.
    pub(super) fn wait(&mut self) -> Option<Ended> {
        self.finished().or_else(|| {
            let oldest = if self.running.is_empty() { return None } else { self.running.remove(0) };
            Some(oldest.join().or(Err(Panicked)))
        })
    }
}
