//! An event loop for tasks that use files: compio's, whose rounds are ours.
//!
//! Role: [`run_event_loop`] runs a future, and the tasks that it spawns, until it is over.
//!
//! Invariants: the loop does not sleep while a task is ready, and no timer is set then. Tasks that are left at the end are dropped
//! on the loop, and not in the course of a panic; unless somebody keeps the `Runtime`.
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
/// call. With four, reads past the page cache come to 0.94 of fio's, 64 at a time, where they come to 0.98, and 4 at a time to
/// 0.86 where they come to 0.96; those through NBD are between 8 % slower and 2 % quicker.
const SUBMIT_AFTER: usize = 2;

/// Runs `future` and what it spawns on an event loop of this thread, which is set up as `driver` says, until `future` is over. Up
/// to `tasks` tasks can be woken by other threads at a time: a thread that wakes more waits for the loop, and may do so under a
/// lock that the loop wants.
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
    // What has ended is seen when the kernel is entered next: a thread that runs is not interrupted to be told.
    let mut cooperative = driver.clone();
    cooperative.coop_taskrun(true).taskrun_flag(true);
    match build(cooperative) {
        Ok(runtime) if runtime.driver_type() == DriverType::IoUring => Ok(runtime),
        // Kernels before 5.19 have no such way, and some have no io_uring for us.
        Ok(_) | Err(_) => build(driver),
    }
}

/// Round by round: the future, a few tasks, the kernel.
fn drive<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    let waker = runtime.waker();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        if runtime.run() {
            // Woken, the driver asks the kernel for what has ended, and for no wait. To wait for no time at all the kernel sets a
            // timer: past the page cache, 64 reads at a time, that took half of the thread's time.
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
    use std::future::pending;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::sync::{Arc, mpsc};
    use std::thread;

    use compio::runtime::fd::PollFd;
    use compio::runtime::{spawn, spawn_blocking};
    use event_listener::Event;
    use futures_lite::future::yield_now;

    use super::*;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    /// Time for the loop to go to sleep, mostly.
    const SHORT: Duration = Duration::from_millis(5);

    /// Runs a test on a loop, which does not hang: beside more tasks than run in a round, each of which is ready again at once, and
    /// beside none.
    fn busy_and_idle<F: Future<Output = ()> + 'static>(test: fn() -> F) {
        for is_busy in [true, false] {
            let (ended, end) = mpsc::channel();
            let thread = thread::spawn(move || {
                let done = Rc::new(Cell::new(!is_busy));
                run_event_loop(8, ProactorBuilder::new(), async {
                    for _ in 0..2 * SUBMIT_AFTER {
                        let done = Rc::clone(&done);
                        let rounds = async move {
                            while !done.get() {
                                yield_now().await;
                            }
                        };
                        spawn(rounds).detach();
                    }
                    test().await;
                    done.set(true);
                })
                .expect("an event loop");
                ended.send(()).expect("it is waited for");
            });
            end.recv_timeout(LONG).unwrap_or_else(|_| panic!("it hangs or has panicked; busy: {is_busy}"));
            thread.join().expect("no panic");
        }
    }

    #[test]
    fn what_the_kernel_has_ended_is_seen() {
        busy_and_idle(|| async {
            for _ in 0..10 {
                let (here, mut there) = UnixStream::pair().expect("a pair");
                let here = PollFd::new(here).expect("it can be polled");
                let peer = thread::spawn(move || {
                    thread::sleep(SHORT);
                    there.write_all(b"!")
                });
                here.read_ready().await.expect("it is written to");
                peer.join().expect("no panic").expect("it is open");
            }
        });
    }

    #[test]
    fn wakes_of_other_threads_are_heard() {
        async fn hear_another() {
            let event = Arc::new(Event::new());
            let heard = event.listen();
            let other = thread::spawn(move || {
                thread::sleep(SHORT);
                event.notify(1)
            });
            heard.await;
            assert_eq!(other.join().expect("no panic"), 1);
        }
        busy_and_idle(|| async {
            for _ in 0..10 {
                hear_another().await;
                spawn(hear_another()).await.expect("no panic");
            }
        });
    }

    #[test]
    fn what_blocks_elsewhere_is_heard_of() {
        busy_and_idle(|| async {
            for _ in 0..10 {
                spawn_blocking(|| thread::sleep(SHORT)).await.expect("no panic");
            }
        });
    }

    /// Tells whether it was dropped on a loop, and in the course of a panic.
    struct Told(Rc<Cell<Option<(bool, bool)>>>);

    impl Drop for Told {
        fn drop(&mut self) {
            let is_on_loop = Runtime::try_with_current(|_| ()).is_ok();
            self.0.set(Some((is_on_loop, thread::panicking())));
        }
    }

    #[test]
    fn tasks_that_are_left_are_dropped_on_the_loop_and_not_in_the_course_of_a_panic() {
        for (is_ready, panics) in [(false, false), (false, true), (true, false), (true, true)] {
            let dropped = Rc::new(Cell::new(None));
            let told = Told(Rc::clone(&dropped));
            let left = async move {
                let _told = told;
                loop {
                    match is_ready {
                        true => yield_now().await,
                        false => pending().await,
                    }
                }
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let test = async {
                    spawn(left).detach();
                    yield_now().await;
                    assert!(!panics, "on purpose");
                };
                run_event_loop(1, ProactorBuilder::new(), test).expect("an event loop");
            }));
            assert_eq!(outcome.is_err(), panics);
            assert_eq!(dropped.get(), Some((true, false)), "ready: {is_ready}, a panic: {panics}");
        }
    }

    fn is_built_for(driver: &ProactorBuilder) -> DriverType {
        set_up(1, driver.clone()).expect("an event loop").driver_type()
    }

    #[test]
    fn a_driver_that_cannot_be_cooperative_is_built_as_it_is() {
        let mut polled_by_the_kernel = ProactorBuilder::new();
        polled_by_the_kernel.driver_type(DriverType::IoUring).sqpoll_idle(Duration::from_millis(1));
        let mut cooperative = polled_by_the_kernel.clone();
        cooperative.coop_taskrun(true).taskrun_flag(true);
        let build = |driver| Runtime::builder().with_proactor(driver).build();
        build(cooperative).expect_err("the kernel does not do both");
        let wanted = build(polled_by_the_kernel.clone()).map(|runtime| runtime.driver_type());
        assert_eq!(wanted.expect("io_uring"), DriverType::IoUring);
        assert_eq!(is_built_for(&polled_by_the_kernel), DriverType::IoUring);
    }

    #[test]
    fn who_wants_a_poller_has_one() {
        let mut driver = ProactorBuilder::new();
        driver.driver_type(DriverType::Poll);
        assert_eq!(is_built_for(&driver), DriverType::Poll);
    }
}
