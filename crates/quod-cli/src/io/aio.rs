//! Requests that run beside the commands that follow them.
//!
//! Role: gives each `aio_` request a thread, and hands its outcome back to the session, which prints it.
//!
//! Invariant: at most [`MOST`] run at a time; none is left when [`Aside::wait`] has returned everything.
//!
//! Absent on purpose: order. The requests are concurrent, as those of guests are.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::command::{Range, Read, Style, Write};
use super::transfer::{self, Content, Fault};
use crate::open::Disk;

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
    pub(super) fn run(self, disk: &Disk) -> Outcome {
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

/// The requests that are running.
pub(super) struct Aside {
    running: usize,
    sender: Sender<Outcome>,
    receiver: Receiver<Outcome>,
}

impl Aside {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Aside { running: 0, sender, receiver }
    }

    /// Whether no more may begin before one ends.
    pub(super) fn is_full(&self) -> bool {
        self.running >= MOST
    }

    /// Begins a request.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn begin(&mut self, disk: Disk, job: Job) -> std::io::Result<()> {
        let sender = self.sender.clone();
        thread::Builder::new().spawn(move || {
            // The session lives until it has every outcome.
            let _sent: bool = sender.send(job.run(&disk)).is_ok();
        })?;
        self.running += 1;
        Ok(())
    }

    /// An outcome that is there already.
    pub(super) fn finished(&mut self) -> Option<Outcome> {
        let outcome = self.receiver.try_recv().ok()?;
        self.running -= 1;
        Some(outcome)
    }

    /// Waits for an outcome; `None` when nothing is running.
    pub(super) fn wait(&mut self) -> Option<Outcome> {
        if self.running == 0 {
            return None;
        }
        self.running -= 1;
        self.receiver.recv().ok()
    }
}
