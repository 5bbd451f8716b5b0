//! The simulated kernel: takes operations in, moves them on, and lets them fail.
//!
//! Role: dice decide at submission whether an operation fails and for how long it waits; whoever drives the world
//! decides which one moves next.
//!
//! Invariant: an operation is answered once, and its answer leaves here to be delivered without any lock held.
//!
//! Absent on purpose: what an operation does (`call.rs`), wakers.

use std::sync::Arc;

use fastrand::Rng;

use crate::call::{Call, Ticket};
use crate::fault::{Fault, Kind};
use crate::job::{Delivery, Job};
use crate::slot::Slot;
use crate::world::State;

impl State {
    /// Takes an operation in. One that is over at once is answered at once.
    pub(crate) fn submit(&mut self, file: usize, job: Job, slot: Arc<Slot>) -> Option<Delivery> {
        self.operations += 1;
        self.clock += 1;
        self.throw_full();
        let fault = self.unseen_failure(file, job.kind()).or_else(|| self.throw_fault(job.kind()));
        let passes = self.dice.u32(..=self.faults.delay);
        let call =
            Call::new(Ticket { number: self.operations, file, began: self.clock, slot }, job, passes, fault);
        if self.traced {
            eprintln!("{:5} begins: {call}", self.clock);
        }
        let instant = self.dice.u32(..1000) < self.faults.instant;
        self.calls.push(call);
        let last = self.calls.len() - 1;
        if !instant {
            return None;
        }
        loop {
            if let Some(delivery) = self.advance(last) {
                return Some(delivery);
            }
        }
    }

    /// One step of one call.
    pub(crate) fn advance(&mut self, index: usize) -> Option<Delivery> {
        let full = self.is_full();
        let call = &mut self.calls[index];
        let file = &mut self.files[call.ticket.file];
        if !call.step(file, full, &mut self.dice) {
            return None;
        }
        self.clock += 1;
        let call = self.calls.swap_remove(index);
        let file = &mut self.files[call.ticket.file];
        let kind = call.kind();
        let told = self.traced.then(|| call.to_string());
        let delivery = call.finish(file, self.clock);
        if delivery.answer.is_err() {
            *self.failures.entry(kind).or_default() += 1;
        }
        if let Some(told) = told {
            let outcome = delivery.answer.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned());
            eprintln!("{:5} ends: {told}: {outcome}", self.clock);
        }
        Some(delivery)
    }

    /// Takes calls out that a dead process never got to the kernel, or not whole. The others stay.
    pub(crate) fn take_calls(&mut self, dice: &mut Rng) -> Vec<Call> {
        let mut gone = Vec::new();
        let mut index = 0;
        while index < self.calls.len() {
            if dice.bool() {
                index += 1;
                continue;
            }
            let mut call = self.calls.swap_remove(index);
            call.cut_short(&mut self.files[call.ticket.file], dice);
            gone.push(call);
        }
        gone
    }

    fn throw_full(&mut self) {
        if !self.is_full() && self.dice.u32(..1000) < self.faults.full {
            self.full_until = self.operations + self.dice.u64(self.faults.full_for.clone());
        }
    }

    /// A flush fails in the stead of one whose failure nobody has seen.
    fn unseen_failure(&mut self, file: usize, kind: Kind) -> Option<Fault> {
        let failed = self.unseen.len();
        if kind == Kind::Flush {
            self.unseen.retain(|unseen| *unseen != file);
        }
        (self.unseen.len() < failed).then_some(Fault::Io)
    }

    fn throw_fault(&mut self, kind: Kind) -> Option<Fault> {
        if let Some(index) = self.planned.iter().position(|(of, _)| *of == kind) {
            let (_, fault) = self.planned.remove(index);
            return Some(self.remember(kind, fault));
        }
        if self.broken.contains(&kind) {
            return Some(Fault::Io);
        }
        let odds = match kind {
            Kind::Read => self.faults.read_error,
            Kind::Write => self.faults.write_error,
            Kind::SetLen => self.faults.length_error,
            Kind::Flush => self.faults.flush_error,
            Kind::Ask => self.faults.ask_error,
        };
        if self.dice.u32(..1000) >= odds {
            return None;
        }
        let for_good = self.dice.u32(..1000) < self.faults.for_good;
        Some(match kind {
            _ if for_good => self.remember(kind, Fault::IoForGood),
            // Writes that were answered before their room was found.
            Kind::Flush if self.dice.bool() => Fault::NoSpace,
            _ => Fault::Io,
        })
    }

    fn remember(&mut self, kind: Kind, fault: Fault) -> Fault {
        if fault == Fault::IoForGood {
            self.broken.push(kind);
        }
        fault
    }

    /// The calls of one file.
    pub(crate) fn calls_of(&self, file: usize) -> Vec<&Call> {
        self.calls.iter().filter(|call| call.ticket.file == file).collect()
    }

    /// Whether the file system has no room just now.
    pub(crate) fn is_full(&self) -> bool {
        self.operations < self.full_until
    }
}
