//! An operation between its submission and its end.
//!
//! Role: a [`Call`] waits, takes effect (a write perhaps in two halves), and is over; each of these is one step.
//!
//! Invariant: a call owns its buffers and its `Held` until its last step, whoever waits for it. What a future does
//! never reaches the kernel again once the call is submitted.
//!
//! Absent on purpose: the choice of the call that makes the next step, and of the failures (`kernel.rs`).

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use fastrand::Rng;
use quod_storage::{Buffers, Extent, ExtentKind, Held};

use crate::SECTOR;
use crate::fault::{Fault, Kind};
use crate::job::{Delivery, Job};
use crate::journal::File;
use crate::slot::{Reply, Slot};

enum Stage {
    /// Passed over so often still.
    Waiting(u32),
    /// Of a write, only these bytes are left to be done.
    Half(Range<usize>),
    /// In effect; nobody has been told.
    Applied(io::Result<()>),
}

/// Who asked, when, of which file.
pub(crate) struct Ticket {
    pub(crate) number: u64,
    pub(crate) file: usize,
    pub(crate) began: u64,
    pub(crate) slot: Arc<Slot>,
}

/// An operation in flight.
pub(crate) struct Call {
    pub(crate) ticket: Ticket,
    job: Job,
    stage: Stage,
    fault: Option<Fault>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {} on file {}: {}", self.ticket.number, self.ticket.file, self.job)
    }
}

/// The bytes of a vectored write in one piece.
fn flat(from: &Buffers) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(from.len());
    from.parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// The first boundary of a sector after file offset `at + done`, as an offset into a write at `at`.
fn next_cut(at: u64, done: usize, len: usize) -> usize {
    let sector_end = (at + done as u64 + 1).next_multiple_of(SECTOR);
    ((sector_end - at) as usize).min(len)
}

impl Call {
    /// Makes a call that the kernel passes over `passes` times before it begins it.
    pub(crate) fn new(ticket: Ticket, job: Job, passes: u32, fault: Option<Fault>) -> Self {
        Call { ticket, job, stage: Stage::Waiting(passes), fault }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.job.kind()
    }

    /// One step. Returns whether the call is over.
    pub(crate) fn step(&mut self, file: &mut File, full: bool, dice: &mut Rng) -> bool {
        match &mut self.stage {
            Stage::Applied(_) => return true,
            Stage::Waiting(passes) if *passes > 0 => {
                *passes -= 1;
                return false;
            }
            Stage::Waiting(_) | Stage::Half(_) => {}
        }
        if self.may_split(file, full) && dice.u32(..4) == 0 {
            self.apply_half(file, dice);
            return false;
        }
        self.stage = Stage::Applied(self.apply(file, full, dice));
        dice.u32(..3) > 0
    }

    /// It goes no further; a write perhaps to its half.
    pub(crate) fn cut_short(&mut self, file: &mut File, dice: &mut Rng) {
        if self.may_split(file, false) && dice.bool() {
            self.apply_half(file, dice);
        }
        file.complete(self.ticket.number, self.ticket.began);
    }

    /// Lets what has not happened yet happen: what a crash in the middle may find on the medium.
    pub(crate) fn land(&self, file: &mut File) {
        match (&self.stage, &self.job) {
            (Stage::Applied(_), _) => {}
            (Stage::Half(rest), Job::Write { at, from }) => {
                file.write(self.ticket.number, at + rest.start as u64, &flat(from)[rest.clone()]);
            }
            (_, Job::Write { at, from }) => file.write(self.ticket.number, *at, &flat(from)),
            (_, Job::Zero { at, len, keep, .. }) => file.zero(self.ticket.number, *at, *len, *keep),
            (_, Job::SetLen { len, .. }) => file.set_len(self.ticket.number, *len),
            (_, Job::Read { .. } | Job::Flush { .. } | Job::Extent { .. } | Job::Length) => {}
        }
    }

    /// Takes effect as far as the call's fault lets it.
    fn apply(&mut self, file: &mut File, full: bool, dice: &mut Rng) -> io::Result<()> {
        let number = self.ticket.number;
        match &mut self.job {
            Job::Read { at, into } => {
                self.fault.map_or(Ok(()), |fault| Err(fault.error()))?;
                read(file, *at, into)
            }
            Job::Write { at, from } => {
                let mut bytes = flat(from);
                let mut at = *at;
                if let Stage::Half(rest) = &self.stage {
                    at += rest.start as u64;
                    bytes = bytes[rest.clone()].to_vec();
                }
                if full && file.live.needs_room(at, bytes.len() as u64) {
                    self.fault = Some(Fault::NoSpace);
                }
                write(file, number, at, &bytes, self.fault, dice)
            }
            Job::Zero { at, len, keep, .. } => {
                // A hole may take room as well: that of the map around it.
                if full && if *keep { file.live.needs_room(*at, *len) } else { dice.u32(..4) == 0 } {
                    self.fault = Some(Fault::NoSpace);
                }
                let reached = if self.fault.is_some() { *at + dice.u64(..=*len) } else { *at + *len };
                // Sectors are whole, also where it stops in the middle.
                let end = if reached == *at + *len { reached } else { reached - reached % SECTOR };
                file.zero(number, *at, end.saturating_sub(*at), *keep);
                self.fault.map_or(Ok(()), |fault| Err(fault.error()))
            }
            Job::SetLen { len, .. } => {
                if full && *len > file.live.len() && dice.u32(..4) == 0 {
                    self.fault = Some(Fault::NoSpace);
                }
                // One that fails may have been done all the same.
                if self.fault != Some(Fault::NoSpace) && (self.fault.is_none() || dice.bool()) {
                    file.set_len(number, *len);
                }
                self.fault.map_or(Ok(()), |fault| Err(fault.error()))
            }
            Job::Flush { .. } => {
                file.flushed(self.ticket.began, self.fault.is_none());
                self.fault.map_or(Ok(()), |fault| Err(fault.error()))
            }
            Job::Extent { .. } | Job::Length => self.fault.map_or(Ok(()), |fault| Err(fault.error())),
        }
    }

    /// Of a write that touches several sectors, does one half first.
    fn apply_half(&mut self, file: &mut File, dice: &mut Rng) {
        let Job::Write { at, from } = &self.job else { return };
        let bytes = flat(from);
        let cut = next_cut(*at, dice.usize(..bytes.len()), bytes.len());
        let (now, rest) = if dice.bool() { (0..cut, cut..bytes.len()) } else { (cut..bytes.len(), 0..cut) };
        file.write(self.ticket.number, at + now.start as u64, &bytes[now]);
        self.stage = Stage::Half(rest);
    }

    fn may_split(&self, file: &File, full: bool) -> bool {
        let Job::Write { at, from } = &self.job else { return false };
        let len = from.len() as u64;
        let room = !(full && file.live.needs_room(*at, len));
        len > SECTOR && room && self.fault.is_none() && matches!(self.stage, Stage::Waiting(_))
    }

    /// Ends a call that is over.
    pub(crate) fn finish(self, file: &mut File, now: u64) -> Delivery {
        file.complete(self.ticket.number, now);
        let kind = self.kind();
        let Stage::Applied(result) = self.stage else {
            unreachable!("only a call that took effect is over");
        };
        let (reply, held) = match self.job {
            Job::Read { into: buffers, .. } | Job::Write { from: buffers, .. } => {
                (Reply::Buffers(buffers), Held::NOTHING)
            }
            Job::Zero { held, .. } | Job::SetLen { held, .. } | Job::Flush { held } => (Reply::Done, held),
            Job::Extent { at, len } => {
                let (run, room) = file.live.run(at, len);
                let kind = if room { ExtentKind::Data } else { ExtentKind::Hole };
                (Reply::Extent(Extent { len: run, kind }), Held::NOTHING)
            }
            Job::Length => (Reply::Length(file.live.len()), Held::NOTHING),
        };
        Delivery {
            file: self.ticket.file,
            kind,
            slot: self.ticket.slot,
            answer: result.map(|()| reply),
            held,
        }
    }
}

fn read(file: &File, mut at: u64, into: &mut Buffers) -> io::Result<()> {
    if at.checked_add(into.len() as u64).is_none_or(|end| end > file.live.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for part in &mut into.parts {
        file.live.read(at, part);
        at += part.len() as u64;
    }
    Ok(())
}

fn write(
    file: &mut File,
    number: u64,
    at: u64,
    bytes: &[u8],
    fault: Option<Fault>,
    dice: &mut Rng,
) -> io::Result<()> {
    let Some(fault) = fault else {
        file.write(number, at, bytes);
        return Ok(());
    };
    if dice.bool() {
        // No room: a prefix is there. EIO: any of the sectors.
        let prefix = dice.usize(..=bytes.len());
        let mut done = 0;
        while done < bytes.len() {
            let next = next_cut(at, done, bytes.len());
            let lands = if fault == Fault::NoSpace { next <= prefix } else { dice.bool() };
            if lands {
                file.write(number, at + done as u64, &bytes[done..next]);
            }
            done = next;
        }
    }
    Err(fault.error())
}
