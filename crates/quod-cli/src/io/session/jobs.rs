//! Requests of a session.
//!
//! Role: runs them now or aside, and prints what became of them.
//!
//! Absent on purpose: moving data (`transfer`).

use std::io::Write;

use quod_language::Way;

use super::super::aio::{Ended, Job, Outcome, Panicked};
use super::super::trouble::{Done, Trouble, tell};
use super::super::{print, transfer};
use super::Session;
use crate::place::AnyDisk;

impl<W: Write> Session<W> {
    pub(super) fn request(&mut self, way: Way, job: Job) -> Done {
        let Some(disk) = self.open.as_ref().map(|open| open.disk.clone()) else { return Ok(()) };
        match way {
            Way::Now => {
                let outcome = job.run(&disk);
                self.report(&disk, outcome)
            }
            Way::Inject => {
                let kind = if matches!(job, Job::Read(_)) { "read" } else { "write" };
                Ok(writeln!(self.out, "injecting invalid {kind} request")?)
            }
            Way::Aside => {
                while self.aside.is_full()
                    && let Some(ended) = self.aside.wait()
                {
                    self.tell_aside(ended).map_err(Trouble::Output)?;
                }
                let begun = self.aside.begin(disk, job);
                begun.map_err(|error| Trouble::Complaint(format!("no thread for the request: {error}")))
            }
        }
    }

    /// Prints what became of a request; wrong bytes are a failure.
    fn report(&mut self, disk: &AnyDisk, Outcome { job, result, took }: Outcome) -> Done {
        let (verb, word, range, style) = match &job {
            Job::Read(read) => ("read", read.word, read.range, read.style),
            Job::Write(write, _) => ("wrote", write.word, write.range, write.style),
            Job::Discard(range, style) => ("discard", "discard", *range, *style),
        };
        let right = result.map_err(|fault| Trouble::Request(word, fault))?;
        if let Job::Read(read) = &job {
            if let (false, Some((part, _))) = (right, read.verify) {
                writeln!(self.out, "Pattern verification failed at offset {}, {} bytes", part.at, part.len)?;
                self.failed |= read.way == Way::Now;
            }
            if read.dump && !style.quiet {
                quod::block_on(transfer::dump(disk, range, &mut self.out)).map_err(Trouble::Output)?;
            }
        }
        Ok(print::outcome(&mut self.out, verb, range, style, took)?)
    }

    pub(super) fn tell_aside(&mut self, ended: Ended) -> anyhow::Result<()> {
        let Some(disk) = self.open.as_ref().map(|open| open.disk.clone()) else { return Ok(()) };
        let told = match ended {
            Ok(outcome) => self.report(&disk, outcome),
            Err(Panicked) => Err(Trouble::Complaint("a request failed as none should".to_owned())),
        };
        told.or_else(|trouble| tell(&mut self.out, trouble))
    }

    /// Waits for all that runs aside, whatever becomes of telling it.
    pub(super) fn wait_aside(&mut self) -> Done {
        let mut told = Ok(());
        while let Some(ended) = self.aside.wait() {
            let this = self.tell_aside(ended).map_err(Trouble::Output);
            told = told.and(this);
        }
        told
    }
}
