//! One life of a disk: opened, used, and closed, killed, or cut off from its power.
//!
//! Role: carries a [`Life`] out, and says what must be so at its end.
//!
//! Law: what succeeds had no failed flush in it; a request fails only for a reason that its form has; a clean close leaves
//! what D14 says.
//!
//! Absent on purpose: the crashes on the way (`trial.rs`).

use std::cell::RefCell;

use quod::ErrorKind;
use quod_sim::{Executor, Faults, Kind};
use quod_storage::Access;

use crate::ask::Ask;
use crate::case::{Disk, disk};
use crate::compare::validate;
use crate::form::{End, Life};
use crate::guest::Guest;
use crate::layout::{Leaks, assert_closed, layout};
use crate::oracle::Oracle;
use crate::trial::Trial;

impl Trial<'_> {
    /// From one open to the next.
    pub(crate) fn live(&mut self, oracle: Oracle, life: &Life) -> Oracle {
        let (guest, mut executor) = self.open(oracle);
        self.writes_failed = self.world.failures(Kind::Write);
        self.failed = self.world.all_failures();
        self.world.set_faults(self.plan.form.faults(&self.case));
        self.ask(&guest, life, &mut executor);
        self.crash_after_each(&mut executor, &guest.oracle, life.most);
        if life.end == End::Kill && life.most < u64::MAX && self.flushes_failed() == 0 {
            return self.kill(&guest, executor);
        }
        self.crash_after_each(&mut executor, &guest.oracle, u64::MAX);
        self.heal(self.case.faults());
        self.judge(&guest, &mut executor);
        match life.end {
            End::Kill if self.flushes_failed() == 0 => self.kill(&guest, executor),
            _ => {
                self.world.set_faults(self.plan.form.faults_of_close(&self.case));
                self.close(&guest, executor)
            }
        }
    }

    /// Opens the disk for writing; where that may fail, perhaps more than once.
    fn open(&mut self, mut oracle: Oracle) -> (Guest, Executor) {
        self.heal(self.plan.form.faults_of_open(&self.case));
        loop {
            let mut executor = Executor::new(&self.world, self.dice.u64(..));
            let (opener, options) = (self.world.opener(), self.case.options(Access::Write));
            let opening = executor.spawn(async move { Disk::open(&opener, disk(), &options).await });
            let opened = self.wait(&mut executor, &RefCell::new(oracle.clone()), &opening);
            let failed = self.flushes_failed() > 0;
            self.heal(self.case.faults());
            match opened {
                Ok(image) => {
                    assert!(!failed, "the open succeeds in spite of a failed flush");
                    let guest = Guest::new(image, oracle, &self.world);
                    match self.lost_power {
                        true => guest.compare_recovered(&mut executor, |_, _| true, "after a crash"),
                        false => guest.compare_reopened(&mut executor, "opened again"),
                    }
                    self.lost_power = false;
                    return (guest, executor);
                }
                Err(error) => {
                    assert!(self.plan.form.may_fail(), "the disk cannot be opened: {error}");
                    drop(executor);
                    self.world.settle();
                    if failed {
                        oracle = self.cut_power(oracle);
                    }
                }
            }
        }
    }

    fn flushes_failed(&self) -> u64 {
        self.world.failures(Kind::Flush)
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

    /// Mends what is broken; from now on these are the odds.
    fn heal(&self, faults: Faults) {
        self.world.set_faults(faults);
        self.world.set_full(false);
        self.world.mend();
    }

    /// What must be so once all requests have ended.
    fn judge(&self, guest: &Guest, executor: &mut Executor) {
        executor.run().unwrap_or_else(|stuck| panic!("{stuck}"));
        guest.assert_no_violation("at rest");
        let failed = self.world.all_failures() > self.failed;
        let write_failed = self.world.failures(Kind::Write) > self.writes_failed;
        for (ask, kind, sentence) in guest.errors.borrow().iter() {
            let reads = matches!(ask, Ask::Read { .. } | Ask::Status { .. });
            let allowed = match kind {
                ErrorKind::NoSpace => self.plan.form.may_be_full() && failed && !reads,
                ErrorKind::Io => self.plan.form.may_fail() && failed,
                ErrorKind::Latched => (write_failed || self.flushes_failed() > 0) && !reads,
                _ => false,
            };
            assert!(allowed, "{ask:?} fails with {kind:?}: {sentence}");
        }
        // What failed and dropped requests have left behind may still come, with the close at the latest.
        guest.compare(executor, "at rest");
        validate(guest, executor, "at rest");
    }

    fn close(&mut self, guest: &Guest, mut executor: Executor) -> Oracle {
        let touched = layout(&self.world).need_check;
        let image = guest.image.clone();
        let closing = executor.spawn(async move { image.close().await });
        match self.wait(&mut executor, &guest.oracle, &closing) {
            Ok(()) => {
                assert_eq!(self.flushes_failed(), 0, "the close succeeds in spite of a failed flush");
                assert!(!guest.latched.get(), "the close succeeds in spite of a latch");
                // What failed writes of this life, and looks for room, have left in room that nothing names was promised to nobody.
                let whole = self.world.failures(Kind::Write) == self.writes_failed;
                assert!(!whole || self.world.uncertain() == 0, "a clean close leaves something to be lost");
                let leaks = match self.plan.form.leaks() {
                    _ if self.killed || self.case.qemu.is_some() => Leaks::after_crash(&self.case),
                    true => Leaks::Inside,
                    false => Leaks::None,
                };
                assert_closed(&self.world, leaks, "closed");
                guest.oracle.take().closed()
            }
            Err(error) => {
                assert!(self.plan.form.may_fail(), "the close failed: {error}");
                if self.flushes_failed() == 0 {
                    return self.kill(guest, executor);
                }
                let latched_before = guest.latched.get();
                assert!(
                    !(latched_before && touched) || layout(&self.world).need_check,
                    "NEED_CHECK is cleared"
                );
                drop(executor);
                self.cut_power(guest.oracle.take())
            }
        }
    }

    /// The process ends in the middle of what it does.
    fn kill(&mut self, guest: &Guest, executor: Executor) -> Oracle {
        drop(executor);
        self.killed = true;
        self.world.kill(self.dice.u64(..));
        let mut oracle = guest.oracle.take();
        oracle.kill(self.case.commit);
        // A flush that the process had under way may fail after its death.
        if self.flushes_failed() > 0 { self.cut_power(oracle) } else { oracle }
    }

    /// Once a flush has failed, only a crash tells what is there: a page cache shows what the medium may not have, and what
    /// a next process flushes does not mend that.
    fn cut_power(&mut self, mut oracle: Oracle) -> Oracle {
        (self.killed, self.lost_power) = (true, true);
        self.world = self.world.crash(self.dice.u64(..));
        oracle.crash("after a failed flush");
        oracle
    }
}
