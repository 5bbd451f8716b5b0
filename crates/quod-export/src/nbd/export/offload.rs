//! Work that would hold up the event loop, done on other threads.
//!
//! Role: [`Offload`] runs what blocks for milliseconds (a flush) on a bounded pool of threads; [`Pace`] notices that
//! reads or writes are slow (a cold page cache, first writes that flush by commit policy `through`) and sends them
//! there for a while.
//!
//! Invariant: at most [`THREADS`] jobs of an event loop run at a time, others wait in line without a thread, and nobody passes them; a
//! panic of a job is an error of that job.
//!
//! Absent on purpose: cancelling a job that has begun.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

use compio::runtime::spawn_blocking;
use quod_nbd::Errno;

use super::answer::Refusal;
use super::line::Line;

/// Jobs of an export that run at a time on behalf of one event loop.
pub(crate) const THREADS: usize = 16;

/// Requests longer than this always go to a thread: copying them would hold the loop up, in bytes.
const LONG: u32 = 1 << 20;

/// A request that holds the loop up for longer than this, and a nanosecond for each of its bytes, was slow.
const SLOW: Duration = Duration::from_micros(100);

/// So many slow requests in a row are no accident of scheduling.
const NO_ACCIDENT: u32 = 3;

/// After them, so many go to threads before the loop is tried again.
const DETOUR: u32 = 64;

/// The pool of threads.
#[derive(Debug)]
pub(crate) struct Offload {
    threads: Line,
}

impl Default for Offload {
    fn default() -> Self {
        Offload { threads: Line::of(THREADS) }
    }
}

impl Offload {
    /// Runs `job` on another thread, if it `is_wanted` still when there is one. Dropped before the job has begun, it
    /// never begins; later, it runs on.
    ///
    /// # Errors
    /// `Shutdown` when it is not wanted, `Io` when the job panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        is_wanted: impl FnOnce() -> bool,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let _thread = self.threads.turn().await;
        if !is_wanted() {
            return Err(Refusal::new(Errno::Shutdown, "nobody waits for this any more"));
        }
        spawn_blocking(job).await.map_err(|error| {
            tracing::error!(%error, "a request failed in a way that no request should");
            Refusal::new(Errno::Io, "the request failed in a way that none should")
        })
    }
}

/// Whether requests of one kind are quick enough for the event loop.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    slow_in_a_row: Cell<u32>,
    detour: Cell<u32>,
}

impl Pace {
    /// Whether the next request of `length` bytes is to run on the event loop.
    pub(crate) fn on_loop(&self, length: u32) -> bool {
        let detour = self.detour.get();
        self.detour.set(detour.saturating_sub(1));
        detour == 0 && length <= LONG
    }

    /// Runs a request of `length` bytes on the event loop and notes how long it holds it up.
    pub(crate) async fn watch<F: Future>(&self, length: u32, request: F) -> F::Output {
        let mut request = pin!(request);
        poll_fn(|context| {
            let begun = Instant::now();
            let step = request.as_mut().poll(context);
            self.held_up(length, begun.elapsed());
            step
        })
        .await
    }

    fn held_up(&self, length: u32, time: Duration) {
        if time <= SLOW + Duration::from_nanos(length.into()) {
            self.slow_in_a_row.set(0);
            return;
        }
        self.slow_in_a_row.set(self.slow_in_a_row.get() + 1);
        if self.slow_in_a_row.get() >= NO_ACCIDENT {
            self.detour.set(DETOUR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOWER: Duration = Duration::from_millis(10);

    fn slow(pace: &Pace, times: u32) {
        for _ in 0..times {
            assert!(pace.on_loop(LONG));
            pace.held_up(LONG, SLOWER);
        }
    }

    #[test]
    fn slow_requests_make_a_detour_until_the_loop_is_quick_again() {
        let pace = Pace::default();
        assert!(!pace.on_loop(LONG + 1));
        slow(&pace, NO_ACCIDENT);
        for _ in 0..DETOUR {
            assert!(!pace.on_loop(512));
        }
        slow(&pace, 1);
        assert!(!pace.on_loop(512), "the first trial was as slow");
    }

    #[test]
    fn one_slow_request_is_an_accident() {
        let pace = Pace::default();
        for _ in 0..10 {
            slow(&pace, NO_ACCIDENT - 1);
            assert!(pace.on_loop(512));
            pace.held_up(512, SLOW);
        }
    }
}
