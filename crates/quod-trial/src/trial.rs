//! One trial: a disk's lives in a world, with a crash after every storage operation.
//!
//! Role: [`run`] opens, asks, closes or kills as the form says, and whenever an operation has been submitted or has
//! ended, examines some of the images that a power cut would leave at that moment.
//!
//! Invariant: an examination does not change the world that it branched off.
//!
//! Absent on purpose: what the crash has left (`examine.rs`).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use fastrand::Rng;
use quod::ErrorKind;
use quod_sim::{Executor, Handle, Kind, World};
use quod_storage::Access;

use crate::case::{Case, Disk, disk};
use crate::examine::Examiner;
use crate::form::{End, Form, Life};
use crate::guest::{Guest, validate};
use crate::layout::{Leaks, assert_closed};
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
    let case = plan.form.case(plan.seed);
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

struct Trial<'a> {
    plan: &'a Plan,
    case: Case,
    world: World,
    dice: Rng,
    examiner: Examiner,
    /// The crash that is being examined.
    here: &'a Cell<Option<CrashPoint>>,
    /// Requests of the lives before.
    asked: usize,
    /// A process was killed: what it had under way is leaked.
    killed: bool,
    /// The life before has ended by a crash.
    lost_power: bool,
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
            lost_power: false,
            seen: HashSet::new(),
            moment: 0,
        };
        for life in plan.form.lives(&case) {
            oracle = trial.live(oracle, &life);
        }
        trial.live(oracle, &Life { asked: Vec::new(), end: End::Close });
    }

    /// From one open to the next.
    fn live(&mut self, oracle: Oracle, life: &Life) -> Oracle {
        self.mend();
        let mut executor = Executor::new(&self.world, self.dice.u64(..));
        let (opener, options) = (self.world.opener(), self.case.options(Access::Write));
        let opening = executor.spawn(async move { Disk::open(&opener, disk(), &options).await });
        let opened = self.wait(&mut executor, &RefCell::new(oracle.clone()), &opening);
        let image = opened.unwrap_or_else(|error| panic!("the disk cannot be opened: {error}"));
        let guest = Guest::new(image, oracle, &self.world);
        match self.lost_power {
            true => guest.compare_recovered(&mut executor, |_, _| true, "after a crash"),
            false => guest.compare_reopened(&mut executor, "opened again"),
        }
        self.lost_power = false;

        self.world.set_faults(self.plan.form.faults(&self.case));
        self.ask(&guest, life, &mut executor);
        self.crash_after_each(&mut executor, &guest.oracle);
        self.mend();
        self.judge(&guest, &mut executor);
        match life.end {
            _ if self.world.failures(Kind::Flush) > 0 => self.lose_power(&guest, executor),
            End::Close if !guest.latched.get() => {
                self.world.set_faults(self.plan.form.faults_of_close(&self.case));
                self.close(&guest, executor)
            }
            _ => self.kill(&guest, executor),
        }
    }

    /// The tasks of a life.
    fn ask(&mut self, guest: &Guest, life: &Life, executor: &mut Executor) {
        let first = self.asked;
        self.asked += life.asked.len();
        let tasks = life.asked.iter().map(|asked| asked.task + 1).max().unwrap_or(0);
        for task in 0..tasks {
            let numbered = life.asked.iter().enumerate();
            let mine =
                numbered.filter(|(number, asked)| asked.task == task && self.plan.keeps(first + number));
            executor.spawn(guest.clone().live(mine.map(|(_, asked)| *asked).collect()));
        }
    }

    fn mend(&self) {
        self.world.set_faults(self.case.faults());
        self.world.set_full(false);
        self.world.mend();
    }

    /// What must be so once all requests have ended.
    fn judge(&self, guest: &Guest, executor: &mut Executor) {
        executor.run().unwrap_or_else(|stuck| panic!("{stuck}"));
        guest.assert_no_violation("at rest");
        match self.plan.form {
            Form::Failing => {}
            Form::Tight => {
                for (ask, kind, sentence) in guest.errors.borrow().iter() {
                    assert_eq!(*kind, ErrorKind::NoSpace, "{ask:?}: {sentence}");
                }
            }
            _ => guest.assert_no_error("nothing fails here"),
        }
        // What failed and dropped requests have left behind may still come, with the close at the latest.
        guest.compare(executor, "at rest");
        validate(guest, executor, "at rest");
    }

    fn close(&mut self, guest: &Guest, mut executor: Executor) -> Oracle {
        let image = guest.image.clone();
        let closing = executor.spawn(async move { image.close().await });
        let closed = self.wait(&mut executor, &guest.oracle, &closing);
        match closed {
            Ok(()) => {
                // What a failed write has brought to the file in part was promised to nobody.
                let whole = self.world.failures(Kind::Write) == 0;
                assert!(!whole || self.world.uncertain() == 0, "a clean close leaves something to be lost");
                let leaks = match self.plan.form {
                    Form::Mixed | Form::Serial | Form::Lives | Form::Growing if !self.killed => Leaks::None,
                    _ => Leaks::after_crash(&self.case),
                };
                assert_closed(&self.world, leaks, "closed");
                guest.oracle.take().closed()
            }
            Err(_) if self.world.failures(Kind::Flush) > 0 => self.lose_power(guest, executor),
            Err(_) if self.plan.form == Form::Failing => self.kill(guest, executor),
            Err(error) => panic!("the close failed: {error}"),
        }
    }

    fn kill(&mut self, guest: &Guest, executor: Executor) -> Oracle {
        drop(executor);
        self.killed = true;
        self.world.settle();
        let mut oracle = guest.oracle.take();
        oracle.model.kill();
        oracle
    }

    /// Once a flush has failed, only a crash tells what is there: a page cache shows what the medium may not have, and what
    /// a next process flushes does not mend that.
    fn lose_power(&mut self, guest: &Guest, executor: Executor) -> Oracle {
        drop(executor);
        (self.killed, self.lost_power) = (true, true);
        self.world = self.world.crash(self.dice.u64(..));
        let mut oracle = guest.oracle.take();
        oracle.model.crash();
        oracle
    }

    /// Runs until the task is done.
    fn wait<T>(&mut self, executor: &mut Executor, oracle: &RefCell<Oracle>, task: &Handle<T>) -> T {
        loop {
            if let Some(value) = task.take() {
                return value;
            }
            assert!(self.tick(executor, oracle), "task {} waits for ever", task.task());
        }
    }

    fn crash_after_each(&mut self, executor: &mut Executor, oracle: &Rc<RefCell<Oracle>>) {
        while self.tick(executor, oracle) {}
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
        oracle.model.crash();
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
