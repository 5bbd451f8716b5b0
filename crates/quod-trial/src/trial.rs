//! One trial: a disk's lives in a world, with a crash after every storage operation.
//!
//! Role: [`run`] leads a disk through its lives, and whenever an operation has been submitted or has ended, examines some of
//! the images that a power cut would leave at that moment.
//!
//! Invariant: an examination does not change the world that it branched off.
//!
//! Absent on purpose: one life (`life.rs`); what the crash has left (`examine.rs`).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use quod_sim::{Executor, Handle, World};

use crate::case::Case;
use crate::examine::Examiner;
use crate::form::{End, Life};
use crate::oracle::Oracle;
use crate::plan::{CrashPoint, Plan};
use crate::tally::Tally;

/// Of so many images one is crashed again, one is used on.
const RARELY: u32 = 12;

/// A law was broken.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What replays it.
    pub plan: Plan,
    /// The case, for a reader.
    pub case: Case,
    /// What was broken.
    pub sentence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { plan, case, sentence } = self;
        write!(f, "{sentence}\n  disk: {case}\n  replay: cargo xtask sim {plan}")
    }
}

/// Runs a trial, and adds what it saw to the tally.
///
/// # Errors
/// The first law that was broken.
pub fn run(plan: &Plan, tally: &mut Tally) -> Result<(), Box<Finding>> {
    let case = plan.case();
    let here = Cell::new(plan.only);
    let examiner = Examiner::new(&case, RARELY);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Trial::run(plan, case, examiner.clone(), &here);
    }));
    tally.add(&examiner.tally().borrow());
    outcome.map_err(|payload| {
        let plan = Plan { only: here.get(), ..plan.clone() };
        Box::new(Finding { plan, case, sentence: sentence(&*payload) })
    })
}

fn sentence(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "a panic without a sentence".to_owned())
}

pub(crate) struct Trial<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) case: Case,
    pub(crate) world: World,
    pub(crate) dice: Rng,
    examiner: Examiner,
    /// The crash that is being examined.
    here: &'a Cell<Option<CrashPoint>>,
    /// Requests of the lives before.
    pub(crate) asked: usize,
    /// A process was killed: what it had under way is leaked.
    pub(crate) killed: bool,
    /// Writes that had failed when this life began.
    pub(crate) writes_failed: u64,
    /// Operations of any kind that had failed by then.
    pub(crate) failed: u64,
    /// The life before has ended by a crash.
    pub(crate) lost_power: bool,
    /// Images examined since the model last changed: the same image would be the same case.
    seen: HashSet<u64>,
    moment: u64,
}

impl Trial<'_> {
    fn run(plan: &Plan, case: Case, examiner: Examiner, here: &Cell<Option<CrashPoint>>) {
        examiner.tally().borrow_mut().trial();
        let (world, mut oracle) = case.create();
        if plan.traced {
            world.trace();
        }
        let mut trial = Trial {
            plan,
            case,
            world,
            dice: Rng::with_seed(plan.seed ^ 0x7a1a),
            examiner,
            here,
            asked: 0,
            killed: false,
            writes_failed: 0,
            failed: 0,
            lost_power: false,
            seen: HashSet::new(),
            moment: 0,
        };
        for life in plan.form.lives(&case) {
            oracle = trial.live(oracle, &life);
        }
        trial.live(oracle, &Life { asked: Vec::new(), end: End::Close, most: u64::MAX });
    }

    /// Runs until the task is done, and cuts the power after each operation.
    pub(crate) fn wait<T>(
        &mut self,
        executor: &mut Executor,
        oracle: &RefCell<Oracle>,
        task: &Handle<T>,
    ) -> T {
        loop {
            if let Some(value) = task.take() {
                return value;
            }
            assert!(self.tick(executor, oracle), "task {} waits for ever", task.task());
        }
    }

    /// The same for so many operations, or until nothing is left to be done.
    pub(crate) fn crash_after_each(&mut self, executor: &mut Executor, oracle: &RefCell<Oracle>, most: u64) {
        let stop = self.world.ticks().saturating_add(most);
        while self.world.ticks() < stop && self.tick(executor, oracle) {}
    }

    /// Goes on to where an operation begins or ends, and cuts the power there. `false` when nothing is left to be done.
    fn tick(&mut self, executor: &mut Executor, oracle: &RefCell<Oracle>) -> bool {
        let before = self.world.ticks();
        if !executor.step() {
            return false;
        }
        if self.world.ticks() != before {
            self.crash(oracle);
        }
        true
    }

    fn crash(&mut self, oracle: &RefCell<Oracle>) {
        let tick = self.world.ticks();
        if self.plan.only.is_some_and(|only| only.tick != tick) {
            return;
        }
        self.examiner.tally().borrow_mut().crash_point();
        let mut oracle = oracle.borrow().clone();
        let moment = oracle.model.moment();
        if self.moment != moment {
            (self.moment, self.seen) = (moment, HashSet::new());
        }
        oracle.crash("on the way");
        let mut dice = Rng::with_seed(self.plan.seed ^ tick << 32);
        for _ in 0..self.plan.choices {
            let survivors = self.plan.only.map_or_else(|| dice.u64(..1 << 32), |only| only.survivors);
            let crashed = self.world.crash(survivors);
            if self.seen.insert(crashed.digest()) {
                self.here.set(Some(CrashPoint { tick, survivors }));
                self.examiner.examine(&crashed, &oracle, 1, survivors, "after a crash");
                self.here.set(self.plan.only);
            }
        }
    }
}
