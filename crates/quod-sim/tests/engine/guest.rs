//! A guest: asks the engine, tells the model, compares.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use quod::{ErrorKind, Fua};
use quod_sim::{Executor, Model, Request, Violation, World, stamp};
use quod_storage::{Access, Buffer};

use crate::setup::{Case, Disk, disk};
use crate::workload::Ask;

/// What is known of the disk, apart from the engine. Copied at a crash.
#[derive(Clone, Default)]
pub(crate) struct Oracle {
    pub(crate) model: Model,
    sequence: u64,
    /// Sizes that the disk may have after a crash: the last flushed one first.
    sizes: Vec<u64>,
}

impl Oracle {
    pub(crate) fn new(model: Model) -> Self {
        Oracle { sizes: vec![model.size()], model, sequence: 1 }
    }

    /// A clean close has made everything durable.
    pub(crate) fn closed(mut self) -> Self {
        let flush = self.model.begin_flush();
        self.model.succeed(flush);
        self.sizes = vec![self.model.size()];
        self
    }
}

/// Requests of any number of tasks on one open image.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) image: Disk,
    pub(crate) oracle: Rc<RefCell<Oracle>>,
    violations: Rc<RefCell<Vec<String>>>,
    pub(crate) errors: Rc<RefCell<Vec<(Ask, ErrorKind, String)>>>,
    /// A flush failed: nothing may be written any more.
    pub(crate) latched: Rc<Cell<bool>>,
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
    pub(crate) fn new(image: Disk, oracle: Oracle) -> Self {
        Guest {
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

    /// Fails the test when a read has returned what it must not.
    pub(crate) fn assert_no_violation(&self, place: &str) {
        let violations = self.violations.borrow();
        assert!(violations.is_empty(), "{place}: {}", violations.join("; "));
    }

    /// Fails the test when a request has failed.
    pub(crate) fn assert_no_error(&self, place: &str) {
        let errors = self.errors.borrow();
        assert!(errors.is_empty(), "{place}: {errors:?}");
    }

    pub(crate) async fn work(self, asks: Vec<Ask>) {
        for ask in asks {
            self.ask(ask).await;
        }
    }

    pub(crate) async fn ask(&self, ask: Ask) {
        let latched = self.latched.get();
        if crate::traced() {
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
                self.changed(open, Fua::No, self.image.discard(at, len, fua).await)
            }
            Ask::Read { at, len } => self.read(at, len).await,
            Ask::Status { at, len } => self.image.block_status(at, len).await.map(drop),
            Ask::Flush => self.flush().await,
            Ask::Maintain => self.image.maintain().await,
            Ask::Grow { by } => self.grow(by).await,
        };
        if crate::traced() {
            eprintln!("      guest is told: {ask:x?}: {outcome:?}");
        }
        let writes = matches!(ask, Ask::Write { .. } | Ask::Zero { .. } | Ask::Flush | Ask::Grow { .. });
        if latched && writes && outcome.is_ok() {
            self.violations.borrow_mut().push(format!("{ask:?} succeeds after a failed flush"));
        }
        if let Err(error) = outcome {
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

    pub(crate) async fn flush(&self) -> quod::Result<()> {
        let open = self.begin(Model::begin_flush);
        let size = self.image.size();
        match self.image.flush().await {
            Ok(()) => {
                open.end(Model::succeed);
                self.oracle.borrow_mut().sizes.retain(|known| *known >= size);
                Ok(())
            }
            Err(error) => {
                if error.kind() != ErrorKind::NoSpace {
                    self.latched.set(true);
                }
                Err(error)
            }
        }
    }

    async fn grow(&self, by: u64) -> quod::Result<()> {
        let size = self.image.size() + by;
        self.oracle.borrow_mut().sizes.push(size);
        match self.image.grow(size).await {
            // Another task's growth may have come first.
            Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.oracle.borrow_mut().model.grow(size);
                Ok(())
            }
        }
    }

    /// Reads the whole disk and compares it. `recovered`: right after an open that followed a crash.
    pub(crate) fn compare(&self, executor: &mut Executor, recovered: bool, place: &str) {
        const PIECE: u64 = 256 << 10;
        let size = self.image.size();
        if recovered {
            let mut oracle = self.oracle.borrow_mut();
            assert!(oracle.sizes.contains(&size), "{place}: size {size}, allowed: {:?}", oracle.sizes);
            oracle.sizes = vec![size];
            oracle.model.recover_size(size);
        }
        for at in (0..size).step_by(PIECE as usize) {
            let len = PIECE.min(size - at);
            let (image, oracle) = (self.image.clone(), Rc::clone(&self.oracle));
            let compared = async move {
                let request = oracle.borrow_mut().model.begin_read(at, len);
                let bytes = image.read(at, Buffer::zeroed(len as usize)).await?;
                let model = &mut oracle.borrow_mut().model;
                let seen = model.read(request, &bytes);
                quod::Result::<_>::Ok(if recovered { seen.and(model.recovered(at, &bytes)) } else { seen })
            };
            let verdict = executor.block_on(compared).unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
            match verdict {
                Ok(Ok(())) => {}
                Ok(Err(violation)) => panic!("{place}: {violation}"),
                Err(error) => panic!("{place}: {error}"),
            }
        }
    }
}

/// Opens the disk of a world for writing.
pub(crate) fn open(case: &Case, world: &World, executor: &mut Executor) -> quod::Result<Disk> {
    let (opener, options) = (world.opener(), case.options(Access::Write));
    let opened = async move { Disk::open(&opener, disk(), &options).await };
    executor.block_on(opened).expect("open is not stuck")
}

/// Closes the disk; what the check says then.
pub(crate) fn close(guest: &Guest, executor: &mut Executor, place: &str) {
    let image = guest.image.clone();
    let closed = executor.block_on(async move { image.close().await });
    closed
        .unwrap_or_else(|stuck| panic!("{place}: {stuck}"))
        .unwrap_or_else(|error| panic!("{place}: {error}"));
}
