//! The threads of a benchmark.
//!
//! Role: [`run`] lets threads take steps until there are none left, and times each. A thread blocks in one step after the
//! other, or runs an event loop with as many in flight as are its part of the depth.
//!
//! Absent on purpose: what the figures look like (`report.rs`).

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use compio::driver::ProactorBuilder;
use compio::runtime::{ResumeUnwind, spawn};
use futures_lite::future::yield_now;
use hdrhistogram::Histogram;
use quanta::Clock;
use quod::{Image, block_on};
use quod_storage::{Storage, ring_is_idle, run_event_loop};

use super::steps::{Failure, Step, Steps};
use super::work::Work;
use crate::open::errno_sentence;

/// Latencies are kept to three digits, and up to this one.
const DIGITS: u8 = 3;
const LONGEST: Duration = Duration::from_secs(3600);

/// Requests of a task before the others have their turn: what is in the page cache keeps nobody from going on, and meanwhile
/// nobody would see what the disk has done. A turn costs as much as a third of a cached read; with sixteen to a turn, reads of
/// which a hundredth, a tenth or a half are on the disk take as long as with eight.
const AT_A_STRETCH: u64 = 16;

/// What came of it.
pub(super) struct Ran {
    /// Requests that were sent.
    pub(super) sent: u64,
    pub(super) took: Duration,
    pub(super) latencies: Latencies,
}

/// Nanoseconds of each request, and of each flush that was asked for.
pub(super) struct Latencies {
    pub(super) requests: Histogram<u64>,
    pub(super) flushes: Histogram<u64>,
}

impl Latencies {
    fn none() -> Self {
        let none = || Histogram::new_with_max(LONGEST.as_nanos() as u64, DIGITS);
        let none = || none().expect("so many digits can be kept");
        Latencies { requests: none(), flushes: none() }
    }

    fn record(&mut self, step: &Step, nanoseconds: u64) {
        let kept = match step {
            Step::Request(_) => &mut self.requests,
            Step::Flush => &mut self.flushes,
        };
        kept.saturating_record(nanoseconds);
    }
}

/// Does all of `work`, or what begins of it before `stop` is raised.
///
/// # Errors
/// `Failed request: ...` of the first request or flush that has; a thread or its event loop cannot be started.
pub(super) fn run<S: Storage + Send + Sync + 'static>(
    work: &Work,
    image: &Image<S>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Ran> {
    let steps = Arc::new(Steps::of(work, stop));
    let clock = Clock::new();
    let hand = |number| Hand {
        number,
        work: work.clone(),
        image: image.clone(),
        steps: Arc::clone(&steps),
        clock: clock.clone(),
    };
    let began = Instant::now();
    let parts: Vec<Latencies> = thread::scope(|scope| {
        let start = |number| {
            let hand = hand(number);
            thread::Builder::new().spawn_scoped(scope, || hand.work_off())
        };
        let or_give_up = |started: io::Result<_>| started.map_err(|error| steps.give_up(error)).ok();
        let more: Vec<_> = (1..work.threads).map_while(|number| or_give_up(start(number))).collect();
        let first = hand(0).work_off();
        let more = more.into_iter().map(|thread| thread.join().expect("a panic has been told"));
        [first].into_iter().chain(more).collect()
    });
    let took = began.elapsed();
    let sent = steps.sent().map_err(|failure| match failure {
        Failure::Request(error) => anyhow!("Failed request: {}", errno_sentence(&error)),
        Failure::Thread(error) => anyhow!("{} threads cannot be started: {error}", work.threads),
    })?;
    let mut latencies = Latencies::none();
    for part in parts {
        latencies.requests += part.requests;
        latencies.flushes += part.flushes;
    }
    Ok(Ran { sent, took, latencies })
}

/// One of the threads.
struct Hand<S> {
    number: u64,
    work: Work,
    image: Image<S>,
    steps: Arc<Steps>,
    /// The processor's, where it has a steady one: the system's, asked after a system call, takes a twentieth of a cached read.
    clock: Clock,
}

impl<S: Storage + 'static> Hand<S> {
    fn work_off(self) -> Latencies {
        let kept = Rc::new(RefCell::new(Latencies::none()));
        if self.work.loops {
            let (tasks, steps) = (self.depth() as usize + 1, Arc::clone(&self.steps));
            run_event_loop(tasks, ProactorBuilder::new(), Rc::new(self).loop_over(&kept))
                .unwrap_or_else(|error| steps.give_up(error));
        } else {
            block_on(self.take_steps(&kept));
        }
        kept.replace(Latencies::none())
    }

    /// Lets as many tasks take steps as are this thread's part of the depth.
    async fn loop_over(self: Rc<Self>, kept: &Rc<RefCell<Latencies>>) {
        let start = |_| {
            let (hand, kept) = (Rc::clone(&self), Rc::clone(kept));
            spawn(async move { hand.take_steps(&kept).await })
        };
        let started: Vec<_> = (0..self.depth()).map(start).collect();
        let mut ended = Vec::new();
        for task in started {
            ended.push(task.await);
        }
        // Before the loop ends, also by a panic.
        ring_is_idle().await;
        for task in ended {
            task.resume_unwind();
        }
    }

    /// Requests of this thread that are in flight.
    fn depth(&self) -> u64 {
        let Work { depth, threads, .. } = self.work;
        depth / threads + u64::from(self.number < depth % threads)
    }

    async fn take_steps(&self, kept: &RefCell<Latencies>) {
        let _watch = self.steps.watch();
        let mut taken = 0_u64;
        let mut buffer = Some(self.work.buffer());
        while let Some(step) = self.steps.next().await {
            let began = self.clock.raw();
            let outcome = match step {
                Step::Request(number) => {
                    let bytes = buffer.take().expect("a request that failed was the last");
                    self.work.request(&self.image, number, bytes).await.map(|back| buffer = Some(back))
                }
                Step::Flush => self.image.flush().await,
            };
            let ended = self.clock.raw();
            kept.borrow_mut().record(&step, self.clock.delta_as_nanos(began, ended));
            self.steps.done(&step, outcome.err());
            taken += 1;
            if taken.is_multiple_of(AT_A_STRETCH) {
                yield_now().await;
            }
        }
    }
}
