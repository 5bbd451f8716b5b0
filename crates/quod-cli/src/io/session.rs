//! A run of commands against one image at a time.
//!
//! Role: keeps the open image, runs each command, prints what it gives, and remembers whether one failed.
//!
//! Invariant: requests that run aside are over before the image is closed; an `aio_` request that fails is told and
//! does not count as a failed command, as with the reference.
//!
//! Absent on purpose: parsing, and where lines come from.

mod images;
mod jobs;

use std::io::Write;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use quod_language::{COMMANDS, Call, Command, Way, find};

use super::aio::{Aside, Job};
use super::interrupt::Interrupt;
use super::survey;
use super::transfer::Content;
use super::trouble::{Done, Trouble, tell};
use crate::open::{Tuned, name_of};
use crate::sizes::Amount;
use images::OpenDisk;
pub(super) use images::SHARED_WRITER;

const NO_FILE: &str = "no file open, try 'help open'";

/// What comes after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Next,
    Quit,
}

/// A run of commands.
pub(super) struct Session<W> {
    out: W,
    /// For each image that is opened.
    tuned: Tuned,
    interrupt: Interrupt,
    open: Option<OpenDisk>,
    aside: Aside,
    failed: bool,
}

impl<W: Write> Session<W> {
    pub(super) fn new(out: W, tuned: Tuned, interrupt: Interrupt) -> Self {
        Session { out, tuned, interrupt, open: None, aside: Aside::new(), failed: false }
    }

    /// Whether a command failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Shows that a line is waited for.
    pub(super) fn prompt(&mut self, prompt: &str) -> anyhow::Result<()> {
        self.out.write_all(prompt.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Runs a line.
    ///
    /// # Errors
    /// Our own output failed; commands that fail are told and remembered.
    pub(super) fn run(&mut self, line: &str) -> anyhow::Result<Step> {
        self.interrupt.stand_still();
        let tried = self.try_run(line);
        self.interrupt.stand_still();
        let step = match tried {
            Ok(step) => step,
            Err(Trouble::Output(error)) => return Err(error),
            Err(trouble) => {
                self.failed = true;
                tell(&mut self.out, trouble)?;
                Step::Next
            }
        };
        self.interrupt.told();
        while let Some(ended) = self.aside.finished() {
            self.tell_aside(ended)?;
        }
        self.out.flush()?;
        Ok(step)
    }

    /// Waits for what runs aside, and closes the image.
    ///
    /// # Errors
    /// The image could not be closed in order, or our own output failed.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        let closed = match self.close() {
            Ok(()) => Ok(()),
            Err(Trouble::Output(error)) => Err(error),
            Err(Trouble::Complaint(why)) => Err(anyhow!(why)),
            Err(other) => tell(&mut self.out, other),
        };
        self.out.flush()?;
        if closed.is_ok() {
            // A signal that came meanwhile has its effect. Not before the caller has told of a failure.
            self.interrupt.told();
            self.interrupt.stand_still();
        }
        closed
    }

    fn try_run(&mut self, line: &str) -> Done<Step> {
        let refused = |spec| move |refusal| Trouble::Refused(spec, refusal);
        let Some(call) = Call::look_up(line).map_err(refused(None))? else { return Ok(Step::Next) };
        let spec = call.spec;
        if spec.needs_disk && self.open.is_none() {
            return Err(Trouble::Plain(NO_FILE.to_owned()));
        }
        call.check_count().map_err(refused(Some(spec)))?;
        if spec.writes && self.open.as_ref().is_some_and(|open| !open.disk.is_writable()) {
            return Err(Trouble::Complaint("Block node is read-only".to_owned()));
        }
        match call.command().map_err(refused(Some(spec)))? {
            Command::Quit => return Ok(Step::Quit),
            command => self.perform(command)?,
        }
        Ok(Step::Next)
    }

    fn perform(&mut self, command: Command) -> Done {
        match command {
            Command::Read(read) => {
                let way = read.way;
                self.request(way, Job::Read(read))
            }
            Command::Write(write) => {
                let way = write.way;
                let content = Content::of(&write.what, write.range.len).map_err(Trouble::Plain)?;
                self.request(way, Job::Write(write, content))
            }
            Command::Discard(range, style) => self.request(Way::Now, Job::Discard(range, style)),
            Command::AioFlush => self.wait_aside(),
            Command::Open(open) => self.open_named(&open),
            Command::Close => self.close(),
            Command::Reopen(reopen) => self.reopen(reopen),
            Command::Help(name) => self.help(name.as_deref()),
            Command::Sleep(milliseconds) => {
                thread::sleep(Duration::from_millis(milliseconds));
                Ok(())
            }
            Command::Abort => std::process::abort(),
            // The caller ends the session.
            Command::Quit => Ok(()),
            other => self.survey(&other),
        }
    }

    /// Commands that need the image alone.
    fn survey(&mut self, command: &Command) -> Done {
        let Some(OpenDisk { disk, .. }) = &self.open else { return Ok(()) };
        match command {
            Command::Flush => {
                quod::block_on(disk.flush()).map_err(|error| Trouble::Request("flush", error.into()))?;
            }
            Command::Length => writeln!(self.out, "{}", Amount::bytes(disk.size()))?,
            Command::Info => {
                writeln!(self.out, "format name: {}", name_of(disk.format()))?;
                writeln!(self.out, "cluster size: {}", Amount::bytes(disk.cluster_size().unwrap_or(0)))?;
                writeln!(self.out, "vm state offset: 0 bytes")?;
            }
            Command::Truncate(size) => survey::truncate(disk, *size)?,
            Command::Alloc(range) => survey::alloc(disk, *range, &mut self.out)?,
            Command::Map => survey::map(disk, &mut self.out)?,
            _ => {}
        }
        Ok(())
    }

    fn help(&mut self, name: Option<&str>) -> Done {
        let Some(name) = name else {
            for spec in &COMMANDS {
                writeln!(self.out, "{}", spec.usage_line())?;
            }
            return Ok(writeln!(self.out, "\nUse 'help commandname' for extended help.")?);
        };
        match find(name) {
            Some(spec) => Ok(writeln!(self.out, "{}{}", spec.usage_line(), spec.details.trim_end())?),
            None => {
                writeln!(self.out, "command {name} not found")?;
                Err(Trouble::Told)
            }
        }
    }
}
