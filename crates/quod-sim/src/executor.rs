//! Runs tasks and the simulated kernel on one thread, in an order that a seed decides.
//!
//! Role: at each step one of the ready tasks is polled, or one of the operations in flight moves on.
//!
//! Invariant: a task is polled only when it was woken; when nothing is ready and nothing is in flight, unfinished
//! tasks wait for a wake-up that nobody will send.
//!
//! Absent on purpose: threads, timers, fairness.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use fastrand::Rng;

use crate::world::World;

/// Tasks that were woken.
#[derive(Default)]
struct Ready(Mutex<BTreeSet<u64>>);

impl Ready {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct TaskWaker {
    task: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().insert(self.task);
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
    polls: u32,
}

/// A task that was spawned, and its result once it is there.
#[derive(Debug)]
pub struct Handle<T> {
    task: u64,
    result: Rc<RefCell<Option<T>>>,
}

impl<T> Handle<T> {
    /// Takes the result, when the task has finished.
    pub fn take(&self) -> Option<T> {
        self.result.borrow_mut().take()
    }

    /// The number of the task.
    pub fn task(&self) -> u64 {
        self.task
    }
}

/// Nothing is left to be run, and these tasks have not finished: a wake-up was lost, or they wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Numbers of the tasks.
    pub tasks: Vec<u64>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tasks {:?} wait for ever: nothing is ready and nothing is in flight", self.tasks)
    }
}

impl std::error::Error for Stuck {}

/// A seeded, single-threaded executor over one [`World`].
pub struct Executor {
    world: World,
    dice: Rng,
    tasks: BTreeMap<u64, Task>,
    ready: Arc<Ready>,
    next: u64,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executor({} tasks, {} ready)", self.tasks.len(), self.ready.lock().len())
    }
}

impl Executor {
    /// Makes an executor without tasks.
    pub fn new(world: &World, seed: u64) -> Self {
        Executor {
            world: world.clone(),
            dice: Rng::with_seed(seed),
            tasks: BTreeMap::new(),
            ready: Arc::default(),
            next: 0,
        }
    }

    /// Adds a task.
    pub fn spawn<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> Handle<T> {
        let task = self.next;
        self.next += 1;
        let result = Rc::new(RefCell::new(None));
        let place = Rc::clone(&result);
        let future = Box::pin(async move {
            let value = future.await;
            *place.borrow_mut() = Some(value);
        });
        let waker = Waker::from(Arc::new(TaskWaker { task, ready: Arc::clone(&self.ready) }));
        self.tasks.insert(task, Task { future, waker, polls: 0 });
        self.ready.lock().insert(task);
        Handle { task, result }
    }

    /// Drops a task where it stands. What it asked of the kernel goes on. Returns whether it was still there.
    pub fn cancel(&mut self, task: u64) -> bool {
        self.ready.lock().remove(&task);
        self.tasks.remove(&task).is_some()
    }

    /// Unfinished tasks that have been polled at least once: those that a cancellation meets in the middle.
    pub fn under_way(&self) -> Vec<u64> {
        self.tasks.iter().filter(|(_, task)| task.polls > 0).map(|(number, _)| *number).collect()
    }

    /// Polls one ready task or moves one operation on. `false` when there is neither.
    pub fn step(&mut self) -> bool {
        let ready = self.ready.lock().len();
        let choices = ready + self.world.in_flight();
        if choices == 0 {
            return false;
        }
        let choice = self.dice.usize(..choices);
        if choice >= ready {
            self.world.advance(choice - ready);
            return true;
        }
        let task = {
            let mut ready = self.ready.lock();
            let task = ready.iter().nth(choice).copied();
            task.filter(|task| ready.remove(task))
        };
        if let Some(task) = task {
            self.poll(task);
        }
        true
    }

    fn poll(&mut self, number: u64) {
        let Some(mut task) = self.tasks.remove(&number) else { return };
        task.polls += 1;
        let waker = task.waker.clone();
        match task.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                self.tasks.insert(number, task);
            }
            Poll::Ready(()) => {
                self.ready.lock().remove(&number);
            }
        }
    }

    /// Steps until `stop` says so or nothing is left to be done. Returns whether `stop` said so.
    pub fn run_until(&mut self, mut stop: impl FnMut() -> bool) -> bool {
        loop {
            if stop() {
                return true;
            }
            if !self.step() {
                return false;
            }
        }
    }

    /// Runs until operation `count` of the world has been submitted: the place for a crash. Returns whether the run
    /// came that far.
    pub fn run_to_operation(&mut self, count: u64) -> bool {
        let world = self.world.clone();
        self.run_until(move || world.operations() >= count)
    }

    /// Runs everything to its end.
    ///
    /// # Errors
    /// [`Stuck`] when tasks are left that nothing will wake.
    pub fn run(&mut self) -> Result<(), Stuck> {
        while self.step() {}
        if self.tasks.is_empty() {
            return Ok(());
        }
        Err(Stuck { tasks: self.tasks.keys().copied().collect() })
    }

    /// Runs until `future` is done, other tasks beside it.
    ///
    /// # Errors
    /// [`Stuck`] when it never will be.
    pub fn block_on<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> Result<T, Stuck> {
        let handle = self.spawn(future);
        loop {
            if let Some(value) = handle.take() {
                return Ok(value);
            }
            if !self.step() {
                return Err(Stuck { tasks: vec![handle.task] });
            }
        }
    }
}
