//! Small pieces of the engine in every interleaving, by loom.
//!
//! Role: [`explore`] runs a model in all ways that threads can meet in it. `QUOD_PREEMPTIONS` bounds how often a thread is
//! interrupted in one run; without it nothing is left out, but where a model says that it has a bound of its own.
//!
//! Invariant: what a model looks at besides the engine is loom's too, or does not matter.
//!
//! Absent on purpose: replay. Loom goes through a model in the same order every time, so a failure comes again.

mod disk;
mod flushes;
mod locks;
mod room;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Condvar, Mutex};

use super::{begin, tell};

/// Goes through a model whole.
pub(crate) fn explore<F: Fn() + Send + Sync + 'static>(model: F) {
    explore_within(None, model);
}

/// Goes through a model with at most so many interruptions of threads in a run: what is too large to go through whole.
pub(crate) fn explore_within<F: Fn() + Send + Sync + 'static>(preemptions: Option<usize>, model: F) {
    let asked = std::env::var("QUOD_PREEMPTIONS").ok().map(|text| text.parse().expect("a number"));
    let bound = [asked, preemptions].into_iter().flatten().min();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 100_000;
    let what = match bound {
        None => "interleavings, which are all".to_owned(),
        Some(bound) => format!("interleavings, which are all of at most {bound} preemptions"),
    };
    tell(&what, || {
        builder.check(move || {
            begin();
            model();
        });
    });
}

/// Runs all of it at once, on as many threads; then the model goes on with what they shared.
pub(crate) fn side_by_side<T: Send + Sync + 'static>(shared: T, tasks: &[fn(&T)]) -> Arc<T> {
    let shared = Arc::new(shared);
    let (mine, others) = tasks.split_first().expect("somebody to do something");
    let others: Vec<_> = others
        .iter()
        .map(|&task| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || task(&shared))
        })
        .collect();
    mine(&shared);
    others.into_iter().for_each(|other| other.join().expect("a thread that ends"));
    shared
}

/// A thread that waits for a wake-up. Not loom's own `Notify`, which prints whatever it does.
struct Sleeper {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().expect("no panic under it") = true;
        self.changed.notify_one();
    }
}

/// Runs a future to its end. A future that nobody wakes is a deadlock that loom tells.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let sleeper = Arc::new(Sleeper { woken: Mutex::new(false), changed: Condvar::new() });
    let waker = Waker::from(Arc::clone(&sleeper));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut woken = sleeper.woken.lock().expect("no panic under it");
        while !std::mem::take(&mut *woken) {
            woken = sleeper.changed.wait(woken).expect("no panic under it");
        }
    }
}

/// Lets a future go as far as it comes at once, then drops it.
pub(crate) fn begin_and_drop<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
