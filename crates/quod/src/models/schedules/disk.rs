//! A file whose operations end when they like: each waits before it takes effect and before it returns, and goes on when
//! nobody waits for it any more.
//!
//! Role: storage for models of the engine. It knows which operations a flush has covered.
//!
//! Invariant: an operation takes effect at one moment, and keeps its buffers and its [`Held`] until a moment after that.
//! A flush covers what had taken effect when it was asked for.
//!
//! Absent on purpose: failures, and losing what no flush covered: the simulator does both.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_lite::future::block_on;
use quod_storage::{
    Access, Alignment, Buffers, Existing, Extent, FileId, Held, Memory, MemoryOpener, Opener, Storage,
};
use shuttle::current;
use shuttle::future::{spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};

/// Files of this kind.
#[derive(Clone, Default)]
pub(super) struct Disks {
    pub(super) plain: MemoryOpener,
    kernel: Kernel,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Disk {
    file: Memory,
    kernel: Kernel,
}

/// What knows of all operations. Nothing waits under its lock, so that it need not be the model's.
#[derive(Clone, Default)]
pub(super) struct Kernel(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Operations that nobody waits for any more.
    abandoned: usize,
    /// The changes that have taken effect, in order: the task that each was told to.
    changes: Vec<Option<usize>>,
    /// So many of them are durable.
    durable: usize,
}

impl Kernel {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is under way that nobody waits for.
    pub(super) async fn is_quiet(&self) {
        while self.lock().abandoned > 0 {
            yield_now().await;
        }
    }

    /// So many changes have taken effect.
    pub(super) fn changes(&self) -> usize {
        self.lock().changes.len()
    }

    /// So many changes had taken effect when the last of those had that came after the first `before` and that this task was
    /// told of.
    pub(super) fn told_of(&self, before: usize) -> usize {
        let me = Some(usize::from(current::me()));
        let state = self.lock();
        let last = state.changes[before..].iter().rposition(|task| *task == me);
        last.map_or(0, |place| before + place + 1)
    }

    pub(super) fn durable(&self) -> usize {
        self.lock().durable
    }
}

impl Disks {
    pub(super) fn kernel(&self) -> &Kernel {
        &self.kernel
    }
}

enum Stage<T> {
    Asked(Box<dyn FnOnce() -> T + Send>),
    Ended(T),
    Told,
}

/// An operation that somebody waits for.
struct Operation<T: Send + 'static> {
    kernel: Kernel,
    stage: Stage<T>,
}

impl<T: Send + 'static> Operation<T> {
    fn take_effect(&mut self) {
        if let Stage::Asked(run) = std::mem::replace(&mut self.stage, Stage::Told) {
            self.stage = Stage::Ended(run());
        }
    }
}

impl<T: Send + 'static> Drop for Operation<T> {
    fn drop(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Told);
        if matches!(stage, Stage::Told) || std::thread::panicking() {
            return;
        }
        self.kernel.lock().abandoned += 1;
        let mut rest = Operation { kernel: self.kernel.clone(), stage };
        drop(spawn(async move {
            yield_now().await;
            rest.take_effect();
            yield_now().await;
            // What it holds goes first, and may wake others.
            drop(std::mem::replace(&mut rest.stage, Stage::Told));
            rest.kernel.lock().abandoned -= 1;
        }));
    }
}

impl Disk {
    async fn operation<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> T {
        let mut operation = Operation { kernel: self.kernel.clone(), stage: Stage::Asked(Box::new(run)) };
        yield_now().await;
        operation.take_effect();
        yield_now().await;
        match std::mem::replace(&mut operation.stage, Stage::Told) {
            Stage::Ended(outcome) => outcome,
            Stage::Asked(_) | Stage::Told => unreachable!("it has just taken effect"),
        }
    }

    async fn change<T: Send + 'static>(&self, run: impl FnOnce(&Memory) -> T + Send + 'static) -> T {
        let (file, kernel) = (self.file.clone(), self.kernel.clone());
        let effect = move || {
            let outcome = run(&file);
            let mut state = kernel.lock();
            state.changes.push(None);
            (outcome, state.changes.len() - 1)
        };
        let (outcome, number) = self.operation(effect).await;
        self.kernel.lock().changes[number] = Some(usize::from(current::me()));
        outcome
    }
}

impl Storage for Disk {
    async fn read_at(&self, at: u64, into: Buffers) -> io::Result<Buffers> {
        let file = self.file.clone();
        self.operation(move || block_on(file.read_at(at, into))).await
    }

    fn read_now(&self, at: u64, into: &mut [u8]) -> Option<io::Result<()>> {
        if thread_rng().gen_bool(0.5) { self.file.read_now(at, into) } else { None }
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        self.change(move |file| block_on(file.write_at(at, from))).await
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        let kernel = self.kernel.clone();
        let covered = kernel.lock().changes.len();
        // What it holds goes with the outcome, not before.
        let flush = move || {
            let mut state = kernel.lock();
            state.durable = state.durable.max(covered);
            held
        };
        drop(self.operation(flush).await);
        Ok(())
    }

    async fn set_len(&self, len: u64, held: Held) -> io::Result<()> {
        self.change(move |file| (block_on(file.set_len(len, Held::NOTHING)), held)).await.0
    }

    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.change(move |file| (block_on(file.punch(at, len, Held::NOTHING)), held)).await.0
    }

    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.punch(at, len, held).await
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        self.file.extent(at, len).await
    }

    async fn length(&self) -> io::Result<u64> {
        self.file.length().await
    }

    fn alignment(&self) -> Alignment {
        self.file.alignment()
    }
}

impl Opener for Disks {
    type Storage = Disk;

    async fn open(&self, name: &Path, access: Access) -> io::Result<Disk> {
        Ok(Disk { file: self.plain.open(name, access).await?, kernel: self.kernel.clone() })
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<Disk> {
        Ok(Disk { file: self.plain.create(name, existing).await?, kernel: self.kernel.clone() })
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        self.plain.identify(name).await
    }
}
