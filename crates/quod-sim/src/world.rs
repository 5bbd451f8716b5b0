//! The machine that may lose power: files, a kernel, dice.
//!
//! Role: a [`World`] owns the state that all its storages share, counts operations, and crashes: what the medium holds
//! after a power cut is a new world.
//!
//! Invariant: answers are delivered, and what operations held is dropped, without the world's lock held; so wakers
//! and guards may come back into the world.
//!
//! Absent on purpose: tasks (`executor.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use crate::call::Call;
use crate::disk::SimStorage;
use crate::fault::{Fault, Faults, Kind};
use crate::job::Job;
use crate::journal::File;
use crate::opener::SimOpener;
use crate::slot::Slot;
use crate::sparse::Sparse;

/// What is in memory after a read that does not succeed: no stamp, and no entry of a table.
const GARBAGE: u8 = 0xa5;

pub(crate) struct State {
    pub(crate) dice: Rng,
    pub(crate) faults: Faults,
    pub(crate) files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    pub(crate) calls: Vec<Call>,
    /// Operations submitted so far.
    pub(crate) operations: u64,
    /// Moves on at each submission and each end of an operation.
    pub(crate) clock: u64,
    pub(crate) full_until: u64,
    pub(crate) broken: Vec<Kind>,
    pub(crate) planned: Vec<(Kind, Fault)>,
    pub(crate) failures: BTreeMap<Kind, u64>,
    /// Files of which a flush has failed unseen.
    pub(crate) unseen: Vec<usize>,
    pub(crate) traced: bool,
}

/// A simulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        write!(f, "World({} files, {} operations)", state.files.len(), state.operations)
    }
}

impl World {
    /// Makes a machine without files.
    pub fn new(seed: u64, faults: Faults) -> Self {
        World::with_files(seed, faults, Vec::new(), BTreeMap::new())
    }

    fn with_files(seed: u64, faults: Faults, files: Vec<File>, names: BTreeMap<PathBuf, usize>) -> Self {
        let state = State {
            dice: Rng::with_seed(seed),
            faults,
            files,
            names,
            calls: Vec::new(),
            operations: 0,
            clock: 0,
            full_until: 0,
            broken: Vec::new(),
            planned: Vec::new(),
            failures: BTreeMap::new(),
            unseen: Vec::new(),
            traced: false,
        };
        World { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An opener of this machine's files.
    pub fn opener(&self) -> SimOpener {
        SimOpener { world: self.clone() }
    }

    /// The file of that name, made when it is missing.
    pub fn file(&self, name: &Path) -> SimStorage {
        let mut state = self.lock();
        let next = state.files.len();
        let file = *state.names.entry(name.to_owned()).or_insert(next);
        if file == next {
            state.files.push(File::default());
        }
        SimStorage { world: self.clone(), file }
    }

    pub(crate) fn find(&self, name: &Path) -> Option<SimStorage> {
        let file = *self.lock().names.get(name)?;
        Some(SimStorage { world: self.clone(), file })
    }

    /// Makes a file that holds `bytes`, durably.
    pub fn install(&self, name: &Path, bytes: &[u8]) {
        let file = self.file(name).file;
        let mut contents = Sparse::default();
        contents.write(0, bytes);
        self.lock().files[file] = File::settled(contents);
    }

    /// What readers of the file would see now of `len` bytes from `at`; past its end they are zeroes.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn read(&self, name: &Path, at: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.with_live(name, |live| live.read(at, &mut bytes));
        bytes
    }

    /// Length of the file as readers see it now.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn length(&self, name: &Path) -> u64 {
        self.with_live(name, Sparse::len)
    }

    /// All that readers of the file would see now.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn contents(&self, name: &Path) -> Vec<u8> {
        self.read(name, 0, self.length(name))
    }

    fn with_live<R>(&self, name: &Path, look: impl FnOnce(&Sparse) -> R) -> R {
        let file = self.find(name).expect("the file was made before").file;
        look(&self.lock().files[file].live)
    }

    /// Changes the odds from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The next operation of `kind` fails so. Plans add up.
    pub fn plan(&self, kind: Kind, fault: Fault) {
        self.lock().planned.push((kind, fault));
    }

    /// Tells on standard error what begins and what ends from now on, here and in what crashes make of this machine.
    pub fn trace(&self) {
        self.lock().traced = true;
    }

    /// Takes all free room away, or gives it back.
    pub fn set_full(&self, full: bool) {
        self.lock().full_until = if full { u64::MAX } else { 0 };
    }

    /// Mends what broke for good, and drops plans.
    pub fn mend(&self) {
        let mut state = self.lock();
        state.broken.clear();
        state.planned.clear();
    }

    /// Storage operations submitted so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Moves on whenever an operation is submitted or ends: the places for a crash.
    pub fn ticks(&self) -> u64 {
        self.lock().clock
    }

    /// Whether it tells what happens.
    pub fn is_traced(&self) -> bool {
        self.lock().traced
    }

    /// Operations in flight.
    pub fn in_flight(&self) -> usize {
        self.lock().calls.len()
    }

    /// How many operations of the kind have failed.
    pub fn failures(&self, kind: Kind) -> u64 {
        self.lock().failures.get(&kind).copied().unwrap_or(0)
    }

    /// How many operations have failed.
    pub fn all_failures(&self) -> u64 {
        self.lock().failures.values().sum()
    }

    /// Changes of all files that a crash now could undo or tear.
    pub fn uncertain(&self) -> usize {
        self.lock().files.iter().map(File::uncertain).sum()
    }

    pub(crate) fn submit(&self, file: usize, job: Job, slot: Arc<Slot>) {
        let delivery = self.lock().submit(file, job, slot);
        if let Some(delivery) = delivery {
            delivery.deliver(self);
        }
    }

    /// A read that waits for nothing, by the same odds as an operation that is over at once. Those that fail, wait. One that does
    /// not succeed leaves garbage.
    pub(crate) fn read_now(&self, file: usize, at: u64, into: &mut [u8]) -> Option<io::Result<()>> {
        into.fill(GARBAGE);
        let mut state = self.lock();
        let may_fail =
            state.broken.contains(&Kind::Read) || state.planned.iter().any(|(kind, _)| *kind == Kind::Read);
        if may_fail || state.dice.u32(..1000) >= state.faults.instant {
            return None;
        }
        let live = &state.files[file].live;
        if at.checked_add(into.len() as u64).is_none_or(|end| end > live.len()) {
            return Some(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        live.read(at, into);
        Some(Ok(()))
    }

    /// A flush of the file has failed, and its future is gone: the next one fails.
    pub(crate) fn flush_failed_unseen(&self, file: usize) {
        self.lock().unseen.push(file);
    }

    /// One step of the operation at that place among those in flight.
    pub(crate) fn advance(&self, index: usize) {
        let delivery = self.lock().advance(index);
        if let Some(delivery) = delivery {
            delivery.deliver(self);
        }
    }

    /// Lets the kernel finish everything in flight, while no task runs: what follows the death of a process.
    pub fn settle(&self) {
        loop {
            let index = {
                let mut state = self.lock();
                let count = state.calls.len();
                if count == 0 {
                    return;
                }
                state.dice.usize(..count)
            };
            self.advance(index);
        }
    }

    /// The death of the process: of what is in flight, some has reached the kernel and is done, some in part, some never.
    pub fn kill(&self, seed: u64) {
        let mut dice = Rng::with_seed(seed);
        let calls = self.lock().take_calls(&mut dice);
        // What they held is other people's code.
        drop(calls);
        self.settle();
    }

    /// Cuts the power: what the medium holds afterwards, one choice out of many, is a new machine, with no operation
    /// in flight, no failures ahead, and room; its ticks go on. This machine goes on as if nothing had been.
    #[must_use]
    pub fn crash(&self, seed: u64) -> World {
        let mut dice = Rng::with_seed(seed);
        let state = self.lock();
        let mut files = Vec::new();
        for (number, file) in state.files.iter().enumerate() {
            let mut file = file.clone();
            let mut calls = state.calls_of(number);
            if calls.is_empty() && file.is_settled() {
                files.push(file);
                continue;
            }
            dice.shuffle(&mut calls);
            for call in calls {
                call.land(&mut file);
            }
            files.push(File::settled(file.crash(&mut dice)));
        }
        let faults = state.faults.clone().healthy();
        let world = World::with_files(dice.u64(..), faults, files, state.names.clone());
        let mut after = world.lock();
        (after.traced, after.clock) = (state.traced, state.clock);
        drop(after);
        world
    }

    /// A hash of what readers of all files would see now.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in &self.lock().files {
            file.live.digest().hash(&mut hasher);
        }
        hasher.finish()
    }
}
