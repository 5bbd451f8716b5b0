//! The order of a benchmark's requests and flushes.
//!
//! Role: [`Steps`] hands out one step after another, to whoever has time, until all are done.
//!
//! Invariants: every request is handed out once, unless one fails: then no more begin. A flush that drains begins when all
//! requests before it have ended, and none begins before it has.
//!
//! Absent on purpose: doing them (`runner.rs`).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use event_listener::{Event, EventListener};
use quod::Error;

use super::work::Work;

/// What is done next.
pub(super) enum Step {
    Request(u64),
    Flush,
}

/// What is left to do, and what came of the rest.
pub(super) struct Steps {
    count: u64,
    interval: Option<u64>,
    drains: bool,
    stop: Arc<AtomicBool>,
    progress: Mutex<Progress>,
    changed: Event,
}

#[derive(Default)]
struct Progress {
    next: u64,
    /// Requests under way.
    running: u64,
    /// The last flush came after so many requests.
    flushed: u64,
    flushing: bool,
    end: Option<End>,
}

/// Why no more steps begin.
enum End {
    Failed(Error),
    /// A thread has panicked, or was never started: the others must not wait for it.
    GaveUp(Option<io::Error>),
}

impl Steps {
    /// The steps of `work`, until `stop` is raised.
    pub(super) fn of(work: &Work, stop: &Arc<AtomicBool>) -> Self {
        Steps {
            count: work.count,
            interval: work.interval,
            drains: work.drains,
            stop: Arc::clone(stop),
            progress: Mutex::default(),
            changed: Event::new(),
        }
    }

    /// The next step, when it may begin.
    pub(super) async fn next(&self) -> Option<Step> {
        loop {
            match self.next_or_wait() {
                Ok(next) => return next,
                Err(changed) => changed.await,
            }
        }
    }

    fn next_or_wait(&self) -> Result<Option<Step>, EventListener> {
        let mut progress = self.lock();
        if progress.end.is_some() || self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let owed = self.interval.is_some_and(|interval| {
            progress.next > progress.flushed && progress.next.is_multiple_of(interval)
        });
        if self.drains && (progress.flushing || owed && progress.running > 0) {
            return Err(self.changed.listen());
        }
        if owed {
            (progress.flushed, progress.flushing) = (progress.next, true);
            return Ok(Some(Step::Flush));
        }
        if progress.next == self.count {
            return Ok(None);
        }
        progress.next += 1;
        progress.running += 1;
        Ok(Some(Step::Request(progress.next - 1)))
    }

    /// A step is over.
    pub(super) fn done(&self, step: &Step, failed: Option<Error>) {
        let mut progress = self.lock();
        match step {
            Step::Request(_) => progress.running -= 1,
            Step::Flush => progress.flushing = false,
        }
        let is_over = matches!(step, Step::Flush) || progress.running == 0 || failed.is_some();
        if let Some(error) = failed {
            progress.end.get_or_insert(End::Failed(error));
        }
        drop(progress);
        if is_over {
            self.changed.notify(usize::MAX);
        }
    }

    /// Lets all that have begun come to their end, because a thread or what it needs cannot be had.
    pub(super) fn give_up(&self, why: io::Error) {
        self.end(End::GaveUp(Some(why)));
    }

    /// What the others must know when this thread panics.
    pub(super) fn watch(&self) -> impl Drop + '_ {
        Watch(self)
    }

    fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.notify(usize::MAX);
    }

    /// How many requests have begun, when all that have are over.
    ///
    /// # Errors
    /// What kept it from going on.
    pub(super) fn sent(&self) -> Result<u64, Failure> {
        let mut progress = self.lock();
        match progress.end.take() {
            Some(End::Failed(error)) => Err(Failure::Request(error)),
            Some(End::GaveUp(Some(error))) => Err(Failure::Thread(error)),
            Some(End::GaveUp(None)) | None => Ok(progress.next),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What ended it early.
pub(super) enum Failure {
    Request(Error),
    Thread(io::Error),
}

struct Watch<'a>(&'a Steps);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end(End::GaveUp(None));
        }
    }
}
