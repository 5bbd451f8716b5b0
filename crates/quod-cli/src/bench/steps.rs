//! The order of a benchmark's requests and flushes.
//!
//! Role: [`Steps`] hands out one step after another, to whoever has time, until all are done.
//!
//! Invariants: every request is handed out once, unless one fails: then no more begin. A flush that drains begins when all
//! requests before it have ended, and none begins before it has.
//!
//! Absent on purpose: doing them (`runner.rs`).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Requests that were handed out; more than there are when all were.
    next: AtomicU64,
    stop: Arc<AtomicBool>,
    /// No more steps begin, and why.
    ended: AtomicBool,
    end: Mutex<Option<End>>,
    flushes: Option<Flushes>,
}

/// Flushes among the requests.
struct Flushes {
    interval: u64,
    drains: bool,
    order: Mutex<Order>,
    changed: Event,
}

#[derive(Default)]
struct Order {
    /// Requests under way.
    running: u64,
    /// The last flush came after so many requests.
    flushed: u64,
    flushing: bool,
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
        let flushes = |interval| Flushes {
            interval,
            drains: work.drains,
            order: Mutex::default(),
            changed: Event::new(),
        };
        Steps {
            count: work.count,
            next: AtomicU64::new(0),
            stop: Arc::clone(stop),
            ended: AtomicBool::new(false),
            end: Mutex::default(),
            flushes: work.interval.map(flushes),
        }
    }

    /// The next step, when it may begin.
    pub(super) async fn next(&self) -> Option<Step> {
        loop {
            if self.ended.load(Ordering::Acquire) || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let Some(flushes) = &self.flushes else { return self.request() };
            match flushes.next_or_wait(self) {
                Ok(next) => return next,
                Err(changed) => changed.await,
            }
        }
    }

    fn request(&self) -> Option<Step> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.count).then_some(Step::Request(number))
    }

    /// A step is over.
    pub(super) fn done(&self, step: &Step, failed: Option<Error>) {
        if let Some(error) = failed {
            self.end(End::Failed(error));
        }
        if let Some(flushes) = &self.flushes {
            flushes.done(step);
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
        lock(&self.end).get_or_insert(end);
        self.ended.store(true, Ordering::Release);
        if let Some(flushes) = &self.flushes {
            flushes.changed.notify(usize::MAX);
        }
    }

    /// How many requests have begun, when all that have are over.
    ///
    /// # Errors
    /// What kept it from going on.
    pub(super) fn sent(&self) -> Result<u64, Failure> {
        match lock(&self.end).take() {
            Some(End::Failed(error)) => Err(Failure::Request(error)),
            Some(End::GaveUp(Some(error))) => Err(Failure::Thread(error)),
            Some(End::GaveUp(None)) | None => Ok(self.next.load(Ordering::Relaxed).min(self.count)),
        }
    }
}

impl Flushes {
    fn next_or_wait(&self, steps: &Steps) -> Result<Option<Step>, EventListener> {
        let mut order = lock(&self.order);
        let next = steps.next.load(Ordering::Relaxed).min(steps.count);
        let owed = next > order.flushed && next.is_multiple_of(self.interval);
        if self.drains && (order.flushing || owed && order.running > 0) {
            return Err(self.changed.listen());
        }
        if owed {
            (order.flushed, order.flushing) = (next, true);
            return Ok(Some(Step::Flush));
        }
        let request = steps.request();
        order.running += u64::from(request.is_some());
        Ok(request)
    }

    fn done(&self, step: &Step) {
        let mut order = lock(&self.order);
        match step {
            Step::Request(_) => order.running -= 1,
            Step::Flush => order.flushing = false,
        }
        let is_over = matches!(step, Step::Flush) || order.running == 0;
        drop(order);
        if is_over {
            self.changed.notify(usize::MAX);
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
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
