//! What a line of the io language asks for.
//!
//! Role: plain data between the parser and the session.
//!
//! Absent on purpose: behaviour.

/// A parsed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Read(Read),
    Write(Write),
    Discard(Range, Style),
    Flush,
    AioFlush,
    Length,
    /// Grow to so many bytes.
    Truncate(u64),
    Alloc(Range),
    Map,
    Info,
    Open(Open),
    Close,
    Reopen(Reopen),
    /// Milliseconds.
    Sleep(u64),
    Help(Option<String>),
    Quit,
    Abort,
}

/// Guest bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) at: u64,
    pub(super) len: u64,
}

/// How the outcome of a request is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// Failures only.
    pub(super) quiet: bool,
    /// Comma-separated, for programs.
    pub(super) machine: bool,
}

/// How a request is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The next command waits for it.
    Now,
    /// Beside the commands that follow.
    Aside,
    /// Not at all: it counts as invalid.
    Inject,
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) range: Range,
    pub(super) style: Style,
    pub(super) way: Way,
    /// What is verified: every byte of this part of the disk against the value.
    pub(super) verify: Option<(Range, u8)>,
    pub(super) dump: bool,
    /// Of the VM state, which our formats have not.
    pub(super) vm_state: bool,
    /// What a failure is called by.
    pub(super) word: &'static str,
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) range: Range,
    pub(super) style: Style,
    pub(super) way: Way,
    pub(super) what: What,
    pub(super) fua: bool,
    /// Compressed or VM state: our formats have neither.
    pub(super) unsupported: bool,
    pub(super) word: &'static str,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Pattern(u8),
    /// The bytes of this file, over and over.
    File(String),
    Zeroes {
        /// Room may be given back.
        unmap: bool,
    },
}

/// An image to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) path: String,
    pub(super) format: Option<String>,
    pub(super) read_only: bool,
    pub(super) force_share: bool,
}

/// How to open the open image anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reopen {
    /// `None`: as it is.
    pub(super) read_only: Option<bool>,
}
