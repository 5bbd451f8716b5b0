//! A guest: asks the engine, tells the model, compares.
//!
//! Role: a [`Guest`] carries requests out and tells the oracle of each one's beginning and end, also when its future is
//! dropped.
//!
//! Law: what a read returns is what the model allows; nothing succeeds after a failed flush; an error is what it is
//! expected to be by whoever looks at [`errors`](Guest::errors).
//!
//! Absent on purpose: which requests (`ask.rs`), reads of the whole disk (`compare.rs`), crashes (`examine.rs`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;

use quod::{ErrorKind, Fua};
use quod_sim::{Executor, Model, Request, Violation, World, stamp};
use quod_storage::{Access, Buffer};

use crate::ask::Ask;
use crate::case::{Case, Disk, disk};
use crate::form::{Asked, Dropped};
use crate::oracle::Oracle;

/// Requests of any number of tasks on one open image.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The open image.
    pub image: Disk,
    /// What is known of it.
    pub oracle: Rc<RefCell<Oracle>>,
    violations: Rc<RefCell<Vec<String>>>,
    /// Requests that have failed, and how.
    pub errors: Rc<RefCell<Vec<(Ask, ErrorKind, String)>>>,
    /// Somebody's flush has failed, or a request was refused for the latch: nothing may be written any more.
    pub latched: Rc<Cell<bool>>,
    traced: bool,
}

/// A request that is given up unless it is ended: its future was dropped.
struct Open {
    oracle: Rc<RefCell<Oracle>>,
    request: Option<Request>,
}

impl Open {
    fn end(mut self, how: impl FnOnce(&mut Model, Request)) {
        if let Some(request) = self.request.take() {
            how(&mut self.oracle.borrow_mut().model, request);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            self.oracle.borrow_mut().model.give_up(request);
        }
    }
}

impl Guest {
    /// A guest of an open image in that world.
    pub fn new(image: Disk, oracle: Oracle, world: &World) -> Self {
        Guest {
            traced: world.is_traced(),
            image,
            oracle: Rc::new(RefCell::new(oracle)),
            violations: Rc::default(),
            errors: Rc::default(),
            latched: Rc::default(),
        }
    }

    fn begin(&self, begin: impl FnOnce(&mut Model) -> Request) -> Open {
        let request = Some(begin(&mut self.oracle.borrow_mut().model));
        Open { oracle: Rc::clone(&self.oracle), request }
    }

    fn judge(&self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.violations.borrow_mut().push(violation.to_string());
        }
    }

    /// Holds what was seen against the law.
    ///
    /// # Panics
    /// When a read has returned what it must not.
    pub fn assert_no_violation(&self, place: &str) {
        let violations = self.violations.borrow();
        assert!(violations.is_empty(), "{place}: {}", violations.join("; "));
    }

    /// Holds the requests against a world in which nothing fails.
    ///
    /// # Panics
    /// When a request has failed.
    pub fn assert_no_error(&self, place: &str) {
        let errors = self.errors.borrow();
        assert!(errors.is_empty(), "{place}: {errors:?}");
    }

    /// One task: a request after another.
    pub async fn work(self, asks: Vec<Ask>) {
        for ask in asks {
            self.ask(ask).await;
        }
    }

    /// As [`work`](Guest::work), with some futures dropped on the way.
    pub(crate) async fn live(self, asked: Vec<Asked>) {
        for Asked { ask, dropped, .. } in asked {
            match dropped {
                None => self.ask(ask).await,
                Some(dropped) => _ = self.ask_and_drop(ask, dropped).await,
            }
        }
    }

    /// One request, dropped unless it ends before that. Tells whether it has ended.
    pub async fn ask_and_drop(&self, ask: Ask, dropped: Dropped) -> bool {
        unless_dropped(dropped, self.ask(ask)).await
    }

    /// One request. One that reaches past the disk's end as it is now is left out.
    pub async fn ask(&self, ask: Ask) {
        if ask.end() > self.image.size() {
            return;
        }
        let latched = self.latched.get();
        if self.traced {
            eprintln!("      guest asks: {ask:x?}");
        }
        let outcome = match ask {
            Ask::Write { at, len, fua } => self.write(at, len, fua).await,
            Ask::Zero { at, len, room, fua } => {
                let open = self.begin(|model| model.begin_zero(at, len));
                self.changed(open, fua, self.image.write_zeroes(at, len, room, fua).await)
            }
            Ask::Discard { at, len, fua } => {
                let open = self.begin(|model| model.begin_discard(at, len));
                self.changed(open, fua, self.image.discard(at, len, fua).await)
            }
            Ask::Read { at, len } => self.read(at, len).await,
            Ask::Status { at, len } => self.image.block_status(at, len).await.map(drop),
            Ask::Flush => self.flush().await,
            Ask::Maintain => self.image.maintain().await,
            Ask::Grow { by } => self.grow(by).await,
        };
        if self.traced {
            eprintln!("      guest is told: {ask:x?}: {outcome:?}");
        }
        let reads = matches!(ask, Ask::Read { .. } | Ask::Status { .. } | Ask::Maintain);
        if latched && !reads && outcome.is_ok() {
            self.violations.borrow_mut().push(format!("{ask:?} succeeds after a failed flush"));
        }
        if let Err(error) = outcome {
            if error.kind() == ErrorKind::Latched {
                self.latched.set(true);
            }
            self.errors.borrow_mut().push((ask, error.kind(), error.to_string()));
        }
    }

    fn changed<T>(&self, open: Open, fua: Fua, outcome: quod::Result<T>) -> quod::Result<()> {
        match (outcome, fua) {
            (Ok(_), Fua::No) => open.end(Model::succeed),
            (Ok(_), Fua::Yes) => open.end(Model::succeed_durably),
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }

    async fn write(&self, at: u64, len: u64, fua: Fua) -> quod::Result<()> {
        let bytes = {
            let mut oracle = self.oracle.borrow_mut();
            oracle.sequence += 1;
            stamp::bytes(at, len as usize, oracle.sequence)
        };
        let open = self.begin(|model| model.begin_write(at, &bytes));
        let outcome = self.image.write(at, Buffer::copy_of(&bytes), fua).await;
        if let Ok(back) = &outcome {
            assert_eq!(**back, *bytes, "the buffer comes back as it was");
        }
        self.changed(open, fua, outcome)
    }

    async fn read(&self, at: u64, len: u64) -> quod::Result<()> {
        let open = self.begin(|model| model.begin_read(at, len));
        let bytes = self.image.read(at, Buffer::zeroed(len as usize)).await?;
        let mut verdict = Ok(());
        open.end(|model, request| verdict = model.read(request, &bytes));
        self.judge(verdict);
        Ok(())
    }

    /// A flush.
    ///
    /// # Errors
    /// The engine's.
    pub async fn flush(&self) -> quod::Result<()> {
        let open = self.begin(Model::begin_flush);
        let size = self.image.size();
        let flushed = self.image.flush().await;
        match &flushed {
            Ok(()) => {
                open.end(Model::succeed);
                self.oracle.borrow_mut().sizes.retain(|known| *known >= size);
            }
            // For want of room, what is pending stays so, and the next one may succeed.
            Err(error) if error.kind() == ErrorKind::NoSpace => {}
            Err(_) => self.latched.set(true),
        }
        flushed
    }

    async fn grow(&self, by: u64) -> quod::Result<()> {
        let size = self.image.size() + by;
        self.oracle.borrow_mut().grows(size);
        match self.image.grow(size).await {
            // Another task's growth has come first.
            Err(error) if error.kind() == ErrorKind::InvalidArgument && self.image.size() >= size => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.oracle.borrow_mut().has_grown(size);
                Ok(())
            }
        }
    }
}

/// Drops a future unless it ends before that. Tells whether it has ended.
async fn unless_dropped(dropped: Dropped, future: impl Future<Output = ()>) -> bool {
    let mut future = Box::pin(future);
    let Dropped { polls, woken } = dropped;
    let mut left = u64::from(polls) + 1;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if left > 0 || woken => Poll::Pending,
            outcome => Poll::Ready(outcome.is_ready()),
        }
    })
    .await
}

/// Opens the disk of a world for writing.
///
/// # Errors
/// The engine's.
///
/// # Panics
/// When the open waits for ever.
pub fn open(case: &Case, world: &World, executor: &mut Executor) -> quod::Result<Disk> {
    let (opener, options) = (world.opener(), case.options(Access::Write));
    let opened = async move { Disk::open(&opener, disk(), &options).await };
    executor.block_on(opened).expect("open is not stuck")
}

/// Closes the disk.
///
/// # Panics
/// When the close fails or waits for ever.
pub fn close(guest: &Guest, executor: &mut Executor, place: &str) {
    let image = guest.image.clone();
    let closed = executor.block_on(async move { image.close().await });
    closed
        .unwrap_or_else(|stuck| panic!("{place}: {stuck}"))
        .unwrap_or_else(|error| panic!("{place}: {error}"));
}
