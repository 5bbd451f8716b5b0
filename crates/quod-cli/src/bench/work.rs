//! The requests of a benchmark, and the threads that send them.
//!
//! Role: [`Work::run`] lets threads take one step after another, a request or a flush, until all are done, and times each.
//!
//! Invariants: every request is sent once, unless one fails: then no more begin. A flush that drains begins when all
//! requests before it have ended, and none begins before it has.
//!
//! Absent on purpose: what the figures look like (`report.rs`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use hdrhistogram::Histogram;
use quod::{Error, Fua, Image, block_on};
use quod_storage::{Buffer, Storage};

use crate::open::errno_sentence;

/// Latencies are kept to three digits, and up to this one.
const DIGITS: u8 = 3;
const LONGEST: Duration = Duration::from_secs(3600);

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) kind: Kind,
    pub(super) places: Places,
    pub(super) count: u64,
    pub(super) depth: u64,
    pub(super) threads: u64,
    /// A flush after so many requests.
    pub(super) interval: Option<u64>,
    /// A flush waits for the requests before it.
    pub(super) drains: bool,
}

/// What a request does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Read,
    Write { pattern: u8, fua: Fua },
}

/// Where requests go, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) step: u64,
    pub(super) seed: Option<u64>,
}

impl Places {
    /// Where that request begins on a disk of so many bytes: a step further each time, and round; or drawn among the steps.
    fn place(&self, number: u64, disk: u64) -> u64 {
        let Some(seed) = self.seed else {
            let at = u128::from(self.offset) + u128::from(number) * u128::from(self.step);
            return if number == 0 { self.offset } else { (at % u128::from(disk.max(1))) as u64 };
        };
        let step = self.step.max(1);
        let steps = disk.saturating_sub(self.offset).saturating_sub(self.size) / step + 1;
        self.offset + step * (mix(seed, number) % steps)
    }
}

/// SplitMix64: well mixed bits for each number of a seed.
fn mix(seed: u64, number: u64) -> u64 {
    let mut bits = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// What came of it.
pub(super) struct Ran {
    /// Requests that were sent.
    pub(super) sent: u64,
    pub(super) took: Duration,
    /// Nanoseconds of each request.
    pub(super) latencies: Histogram<u64>,
    /// Of each flush that was asked for.
    pub(super) flush_latencies: Histogram<u64>,
}

/// What a thread does next.
enum Step {
    Request(u64),
    Flush,
}

#[derive(Default)]
struct Progress {
    next: u64,
    /// Requests under way.
    running: u64,
    /// The last flush came after so many requests.
    flushed: u64,
    flushing: bool,
    /// Threads that wait for the end of a flush, or of the requests before one.
    waiting: u64,
    failed: Option<Error>,
    /// A thread has panicked, or was never started: the others must not wait for it.
    gave_up: bool,
}

struct Steps<'a> {
    work: &'a Work,
    stop: &'a AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Work {
    /// Sends all requests, or those that begin before it is told to stop.
    ///
    /// # Errors
    /// `Failed request: ...` of the first request or flush that has; a thread cannot be started.
    pub(super) fn run<S: Storage + Sync>(&self, image: &Image<S>, stop: &AtomicBool) -> anyhow::Result<Ran>
    where
        Image<S>: Sync,
    {
        let steps = Steps { work: self, stop, progress: Mutex::default(), changed: Condvar::new() };
        let began = Instant::now();
        let mut parts = Vec::new();
        thread::scope(|scope| {
            let start = |_| thread::Builder::new().spawn_scoped(scope, || steps.work_off(image));
            let mut more: Vec<_> = Vec::new();
            for started in (1..self.threads).map(start) {
                match started {
                    Ok(thread) => more.push(thread),
                    Err(error) => return Err(steps.give_up(error)),
                }
            }
            parts.push(steps.work_off(image));
            parts.extend(more.into_iter().map(|thread| thread.join().expect("a panic has been told")));
            Ok(())
        })?;
        let took = began.elapsed();
        let mut progress = steps.lock();
        if let Some(error) = progress.failed.take() {
            bail!("Failed request: {}", errno_sentence(&error));
        }
        let mut ran = Ran { sent: progress.next, took, latencies: histogram(), flush_latencies: histogram() };
        for (requests, flushes) in parts {
            ran.latencies += requests;
            ran.flush_latencies += flushes;
        }
        Ok(ran)
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST.as_nanos() as u64, DIGITS).expect("so many digits can be kept")
}

/// Lets the others know of a panic.
struct Told<'a>(&'a Steps<'a>);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().gave_up = true;
            self.0.changed.notify_all();
        }
    }
}

impl Steps<'_> {
    /// Lets the threads that are there come to their end.
    fn give_up(&self, error: std::io::Error) -> anyhow::Error {
        self.lock().gave_up = true;
        self.changed.notify_all();
        anyhow!("{} threads cannot be started: {error}", self.work.threads)
    }

    fn work_off<S: Storage>(&self, image: &Image<S>) -> (Histogram<u64>, Histogram<u64>) {
        let (mut requests, mut flushes) = (histogram(), histogram());
        let _told = Told(self);
        let mut buffer = self.work.buffer();
        while let Some(step) = self.next() {
            let began = Instant::now();
            let outcome = match step {
                Step::Request(number) => {
                    let bytes = std::mem::replace(&mut buffer, Buffer::zeroed(0));
                    block_on(self.work.request(image, number, bytes)).map(|back| buffer = back)
                }
                Step::Flush => block_on(image.flush()),
            };
            let kept = match step {
                Step::Request(_) => &mut requests,
                Step::Flush => &mut flushes,
            };
            kept.saturating_record(began.elapsed().as_nanos() as u64);
            self.done(&step, outcome.err());
        }
        (requests, flushes)
    }

    fn next(&self) -> Option<Step> {
        let mut progress = self.lock();
        loop {
            if progress.failed.is_some() || progress.gave_up || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let owed = self.work.interval.is_some_and(|interval| {
                progress.next > progress.flushed && progress.next.is_multiple_of(interval)
            });
            let must_wait =
                progress.flushing && self.work.drains || owed && self.work.drains && progress.running > 0;
            if !must_wait {
                if owed {
                    (progress.flushed, progress.flushing) = (progress.next, true);
                    return Some(Step::Flush);
                }
                if progress.next == self.work.count {
                    return None;
                }
                progress.next += 1;
                progress.running += 1;
                return Some(Step::Request(progress.next - 1));
            }
            progress.waiting += 1;
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
            progress.waiting -= 1;
        }
    }

    fn done(&self, step: &Step, failed: Option<Error>) {
        let mut progress = self.lock();
        match step {
            Step::Request(_) => progress.running -= 1,
            Step::Flush => progress.flushing = false,
        }
        if failed.is_some() && progress.failed.is_none() {
            progress.failed = failed;
        }
        // A call of the kernel that nobody needs would be a good part of a short request.
        let is_over = matches!(step, Step::Flush) || progress.running == 0 || progress.failed.is_some();
        let wake = progress.waiting > 0 && is_over;
        drop(progress);
        if wake {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn buffer(&self) -> Buffer {
        let mut buffer = Buffer::zeroed(self.places.size as usize);
        if let Kind::Write { pattern, .. } = self.kind {
            buffer.fill(pattern);
        }
        buffer
    }

    async fn request<S: Storage>(
        &self,
        image: &Image<S>,
        number: u64,
        bytes: Buffer,
    ) -> Result<Buffer, Error> {
        let at = self.places.place(number, image.size());
        match self.kind {
            Kind::Read => image.read(at, bytes).await,
            Kind::Write { fua, .. } => image.write(at, bytes, fua).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_round_the_disk_and_the_first_begins_where_it_was_told() {
        let places = Places { offset: 3, size: 1, step: 10, seed: None };
        let all: Vec<_> = (0..4).map(|number| places.place(number, 25)).collect();
        assert_eq!(all, [3, 13, 23, 8]);
        assert_eq!(
            Places { offset: 99, ..places }.place(0, 25),
            99,
            "which is refused as it is with the reference"
        );
    }

    #[test]
    fn drawn_places_are_whole_steps_apart_inside_the_disk_and_the_seed_s() {
        let places = Places { offset: 512, size: 4096, step: 1000, seed: Some(7) };
        let draw = |places: Places| (0..1000).map(|number| places.place(number, 1 << 20)).collect::<Vec<_>>();
        let drawn = draw(places);
        assert!(drawn.iter().all(|at| (at - 512) % 1000 == 0 && at + 4096 <= 1 << 20));
        assert_eq!(drawn, draw(places));
        assert_ne!(drawn, draw(Places { seed: Some(8), ..places }));
        let different: std::collections::BTreeSet<_> = drawn.iter().collect();
        assert!(different.len() > 500, "{} of 1,044 places", different.len());
    }
}
