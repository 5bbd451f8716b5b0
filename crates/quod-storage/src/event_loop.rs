//! An event loop for tasks that use files: compio's, whose rounds are ours.
//!
//! Role: [`run_event_loop`] runs a future, and the tasks that it spawns, until it is over.
//!
//! Invariants: a task that is ready is never waited for, and while one is, the kernel is asked without a timeout. Tasks that
//! are left at the end are dropped then, on the loop, and not in the course of a panic.
//!
//! Absent on purpose: waiting for what the kernel still does (`ring_is_idle`).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use compio::driver::{DriverType, ProactorBuilder};
use compio::runtime::Runtime;

/// Tasks that run before what they have asked for reaches the kernel: a disk should not wait for many, which share a system
/// call. With eight, reads past the page cache, 16 at a time, are a fourteenth slower, and those through NBD up to 8 % quicker.
const SUBMIT_AFTER: usize = 4;

/// Runs `future` and what it spawns on an event loop of this thread, which is set up as `driver` says, until `future` is over. Up
/// to `tasks` tasks can be woken by other threads at a time: one that wakes more waits for the loop, and may do so under a lock
/// that the loop wants.
///
/// # Errors
/// When the loop cannot be set up.
///
/// # Panics
/// When `future` does, or the kernel cannot be asked any more.
pub fn run_event_loop<F: Future>(tasks: usize, driver: ProactorBuilder, future: F) -> io::Result<F::Output> {
    let runtime = set_up(tasks, driver)?;
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.enter(|| drive(&runtime, future))));
    drop(runtime);
    Ok(ended.unwrap_or_else(|panic| resume_unwind(panic)))
}

fn set_up(tasks: usize, driver: ProactorBuilder) -> io::Result<Runtime> {
    let build = |driver| {
        let mut builder = Runtime::builder();
        builder.event_interval(SUBMIT_AFTER).sync_queue_size(tasks.max(1)).with_proactor(driver).build()
    };
    // What has ended is told when the kernel is entered anyway: no interrupt for it.
    let mut cooperative = driver.clone();
    cooperative.driver_type(DriverType::IoUring).coop_taskrun(true).taskrun_flag(true);
    // Kernels before 5.19 have no such way, and some have no io_uring for us.
    build(cooperative).or_else(|_| build(driver))
}

/// Round by round: the future, a few tasks, the kernel.
fn drive<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    let waker = runtime.waker();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            runtime.run();
            return output;
        }
        if runtime.run() {
            // Who has been woken does not wait. A wait of no time at all sets a timer in the kernel, each time: that was half of
            // the time of reads past the page cache.
            waker.wake_by_ref();
            runtime.poll_with(Some(Duration::ZERO));
        } else {
            runtime.poll();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::thread;

    use compio::runtime::spawn;
    use event_listener::Event;
    use futures_lite::future::yield_now;

    use super::*;
    use crate::{Access, Aio, Buffer, LoopOpener, Opener, PageCache, Storage, ring_is_idle};

    fn run<T>(future: impl Future<Output = T>) -> T {
        run_event_loop(8, ProactorBuilder::new(), future).expect("an event loop")
    }

    /// More tasks than run in a round, each of which is ready again at once, until `stop` is set.
    fn keep_busy(stop: &Rc<Cell<bool>>) {
        for _ in 0..2 * SUBMIT_AFTER {
            let stop = Rc::clone(stop);
            let rounds = async move {
                while !stop.get() {
                    yield_now().await;
                }
            };
            spawn(rounds).detach();
        }
    }

    /// Reads by io_uring, where there is one.
    async fn read_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), [7; 4096]).expect("written");
        let opener = LoopOpener { aio: Aio::IoUring, page_cache: PageCache::Used };
        let storage = opener.open(file.path(), Access::Read).await.expect("opened");
        let read = storage.read_at(0, Buffer::zeroed(4096).into()).await.expect("read");
        assert_eq!(read.into_single()[..], [7; 4096]);
        ring_is_idle().await;
    }

    async fn wait_for_another_thread() {
        let event = Arc::new(Event::new());
        let heard = event.listen();
        let other = thread::spawn(move || event.notify(1));
        heard.await;
        assert_eq!(other.join().expect("no panic"), 1);
    }

    #[test]
    fn what_the_kernel_has_done_is_told_while_tasks_are_ready() {
        let stop = Rc::new(Cell::new(false));
        run(async {
            keep_busy(&stop);
            spawn(read_a_file()).await.expect("no panic");
            stop.set(true);
        });
    }

    #[test]
    fn who_is_woken_by_another_thread_hears_it_while_tasks_are_ready_and_while_none_is() {
        for is_busy in [false, true] {
            let stop = Rc::new(Cell::new(!is_busy));
            run(async {
                keep_busy(&stop);
                for _ in 0..100 {
                    wait_for_another_thread().await;
                    spawn(wait_for_another_thread()).await.expect("no panic");
                }
                stop.set(true);
            });
        }
    }

    /// Tells how it was dropped.
    struct Told(Rc<Cell<Option<(bool, bool)>>>);

    impl Drop for Told {
        fn drop(&mut self) {
            let is_on_loop = Runtime::try_with_current(|_| ()).is_ok();
            self.0.set(Some((is_on_loop, thread::panicking())));
        }
    }

    #[test]
    fn tasks_that_are_left_are_dropped_on_the_loop_and_not_in_the_course_of_a_panic() {
        for panics in [false, true] {
            let dropped = Rc::new(Cell::new(None));
            let told = Told(Rc::clone(&dropped));
            let left = async {
                let _told = told;
                std::future::pending::<()>().await;
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                run(async {
                    spawn(left).detach();
                    yield_now().await;
                    assert!(!panics, "on purpose");
                });
            }));
            assert_eq!(outcome.is_err(), panics);
            assert_eq!(dropped.get(), Some((true, false)), "on the loop, and panicking; a panic: {panics}");
        }
    }

    #[test]
    fn a_kernel_that_cannot_do_without_interrupts_serves_as_well() {
        // It cannot have both.
        let mut driver = ProactorBuilder::new();
        driver.sqpoll_idle(Duration::from_millis(1));
        run_event_loop(8, driver, async {
            let is_ring = Runtime::with_current(|runtime| runtime.driver_type() == DriverType::IoUring);
            assert!(is_ring, "the second way is io_uring as well");
            read_a_file().await;
        })
        .expect("an event loop");
    }
}
