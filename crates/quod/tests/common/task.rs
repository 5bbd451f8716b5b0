//! One request that the test moves on by hand, as an executor would: only once it was woken.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future with its waker. Dropping it drops the future wherever it is.
pub(crate) struct Task<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    woken: Arc<Woken>,
    done: bool,
}

impl<'a, T> Task<'a, T> {
    /// Takes the future and runs it to its first wait.
    pub(crate) fn start(future: impl Future<Output = T> + 'a) -> (Self, Option<T>) {
        let mut task =
            Task { future: Box::pin(future), woken: Arc::new(Woken(AtomicBool::new(true))), done: false };
        let outcome = task.step();
        (task, outcome)
    }

    /// Takes a future that has to wait for something.
    pub(crate) fn blocked(future: impl Future<Output = T> + 'a) -> Self {
        let (task, outcome) = Task::start(future);
        assert!(outcome.is_none(), "the request should wait");
        task
    }

    /// Goes on if it was woken; `Some` when that ends it.
    pub(crate) fn step(&mut self) -> Option<T> {
        if self.done || !self.woken.0.swap(false, Ordering::SeqCst) {
            return None;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => {
                self.done = true;
                Some(outcome)
            }
            Poll::Pending => None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether somebody woke it since its last step.
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }
}
