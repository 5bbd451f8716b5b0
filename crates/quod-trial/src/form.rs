//! Forms of trials: what a disk goes through.
//!
//! Role: a [`Form`] says what disk it is, what is asked of it in each of its lives, what fails meanwhile, and how a life
//! ends.
//!
//! Invariant: what a form does not name does not fail in it, and is a broken law when it does.
//!
//! Absent on purpose: carrying it out (`life.rs`).

use std::str::FromStr;

use anyhow::{Context, Result};
use fastrand::Rng;
use quod_sim::Faults;

use crate::ask::{Ask, Asks, Mix};
use crate::case::Case;

/// What a disk goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Requests of every kind, side by side.
    Mixed,
    /// One request after another.
    Serial,
    /// Requests whose futures are dropped at an await point.
    Dropped,
    /// A file system that has no room now and then.
    Tight,
    /// Reads, writes and flushes that fail, once or for good.
    Failing,
    /// Short lives: opened, used, idle, closed or killed, opened again.
    Lives,
    /// A disk that grows.
    Growing,
    /// An image that QEMU has left, clean or dirty, with bytes of others behind its end.
    Qemu,
    /// Dropped futures, want of room and failures at once.
    Chaos,
    /// Bursts of work with rest between them, in which NEED_CHECK is cleared, or not: futures dropped, no room, failures.
    Idle,
}

/// All of them, in the order in which seeds take turns.
pub const FORMS: [Form; 10] = [
    Form::Mixed,
    Form::Serial,
    Form::Dropped,
    Form::Tight,
    Form::Failing,
    Form::Lives,
    Form::Growing,
    Form::Qemu,
    Form::Chaos,
    Form::Idle,
];

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By a close.
    Close,
    /// By the death of the process, at rest or in the middle of its work.
    Kill,
}

/// One request of a life, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) task: usize,
    pub(crate) ask: Ask,
    pub(crate) dropped: Option<Dropped>,
}

/// When the future of a request that has not ended by then is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Dropped {
    /// It has been polled so often, and once more.
    pub polls: u32,
    /// Not yet as it waits again, but when it is woken: what it has waited for may be over, and it does not learn of it.
    pub woken: bool,
}

/// From one open to the next.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) asked: Vec<Asked>,
    pub(crate) end: End,
    /// A kill comes after so many operations have begun or ended.
    pub(crate) most: u64,
}

impl FromStr for Form {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = || FORMS.map(Form::name).join(", ");
        let found = FORMS.into_iter().find(|form| form.name() == text);
        found.with_context(|| format!("there is no such form; there are {}", names()))
    }
}

impl Form {
    /// The form that a seed of a campaign has.
    pub fn of_seed(seed: u64) -> Self {
        FORMS[seed as usize % FORMS.len()]
    }

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Form::Mixed => "mixed",
            Form::Serial => "serial",
            Form::Dropped => "dropped",
            Form::Tight => "tight",
            Form::Failing => "failing",
            Form::Lives => "lives",
            Form::Growing => "growing",
            Form::Qemu => "qemu",
            Form::Chaos => "chaos",
            Form::Idle => "idle",
        }
    }

    /// Whether storage may fail otherwise than for want of room.
    pub(crate) fn may_fail(self) -> bool {
        matches!(self, Form::Failing | Form::Chaos | Form::Idle)
    }

    /// Whether there may be no room.
    pub(crate) fn may_be_full(self) -> bool {
        matches!(self, Form::Tight) || self.may_fail()
    }

    /// Whether clusters may be leaked.
    pub(crate) fn leaks(self) -> bool {
        !matches!(self, Form::Mixed | Form::Serial | Form::Lives | Form::Growing)
    }

    pub(crate) fn case(self, seed: u64) -> Case {
        match self {
            Form::Qemu => Case::of_qemu(seed),
            // The bit is for disks without one.
            Form::Idle => Case { backing: None, ..Case::from_seed(seed) },
            Form::Growing if (seed / FORMS.len() as u64).is_multiple_of(2) => {
                Case::from_seed(seed).over_longer_backing()
            }
            _ => Case::from_seed(seed),
        }
    }

    /// What goes wrong while the disk is in use.
    pub(crate) fn faults(self, case: &Case) -> Faults {
        let calm = case.faults();
        match self {
            Form::Tight => Faults { full: 40, full_for: 5..=80, ..calm },
            Form::Failing => {
                let read_error = [5, 50][case.seed as usize / FORMS.len() % 2];
                Faults { delay: calm.delay, read_error, ..Faults::rotten() }
            }
            Form::Idle => Faults { full: 40, full_for: 1..=6, length_error: 50, write_error: 3, ..calm },
            Form::Chaos => {
                let scarce = Faults { full: 20, full_for: 5..=80, read_error: 3, length_error: 30, ..calm };
                // A flush that fails stops all writes.
                let flush_error = [0, 5, 60][case.seed as usize / FORMS.len() % 3];
                Faults { write_error: 5, flush_error, ask_error: 3, ..scarce }
            }
            _ => calm,
        }
    }

    /// What goes wrong while it is being opened.
    pub(crate) fn faults_of_open(self, case: &Case) -> Faults {
        match self.may_fail() {
            true => {
                Faults { flush_error: 100, write_error: 30, length_error: 30, read_error: 3, ..case.faults() }
            }
            false => case.faults(),
        }
    }

    /// What goes wrong while it is being closed.
    pub(crate) fn faults_of_close(self, case: &Case) -> Faults {
        match self.may_fail() {
            true => Faults { flush_error: 200, write_error: 50, length_error: 50, ..case.faults() },
            false => case.faults(),
        }
    }

    /// The disk's lives, one after another.
    pub(crate) fn lives(self, case: &Case) -> Vec<Life> {
        let mut dice = Rng::with_seed(case.seed ^ 0x11fe);
        let lives = if self == Form::Lives { 3 } else { 1 + dice.usize(..2) };
        let requests = if self == Form::Lives { 9 } else { 24 };
        (0..lives).map(|_| self.life(case, requests, &mut dice)).collect()
    }

    fn life(self, case: &Case, requests: usize, dice: &mut Rng) -> Life {
        let tasks = match self {
            Form::Serial => 1,
            Form::Idle => 1 + dice.usize(..2),
            _ => 1 + dice.usize(..5),
        };
        let mut asks = Asks::new(case, case.size, dice.u64(..));
        match self {
            Form::Lives => asks.mix = Mix { grows: 0, maintains: 12, ..asks.mix },
            Form::Growing => asks.mix = Mix { grows: 12, maintains: 4, ..asks.mix },
            Form::Dropped => asks.mix = Mix { grows: 2, maintains: 12, returns: 30 },
            Form::Failing | Form::Chaos => asks.mix = Mix { grows: 4, maintains: 8, returns: 20 },
            Form::Qemu => asks.mix = Mix { grows: 5, ..asks.mix },
            Form::Mixed | Form::Serial | Form::Tight | Form::Idle => {}
        }
        let may_drop = matches!(self, Form::Dropped | Form::Chaos | Form::Idle);
        let asks = if self == Form::Idle { asks.bursts(requests) } else { asks.take(requests) };
        let asked = asks.into_iter().enumerate().map(|(number, ask)| {
            let polls = (may_drop && dice.u32(..3) == 0).then(|| dice.u32(..12));
            let dropped = polls.map(|polls| Dropped { polls, woken: dice.u32(..3) == 0 });
            Asked { task: number % tasks, ask, dropped }
        });
        let asked = asked.collect();
        let end = if dice.u32(..3) == 0 { End::Kill } else { End::Close };
        let most = if end == End::Kill && dice.u32(..4) > 0 { dice.u64(1..120) } else { u64::MAX };
        Life { asked, end, most }
    }
}
