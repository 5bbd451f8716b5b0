//! What a line asks for.
//!
//! Role: plain data between the parser and who runs commands.
//!
//! Absent on purpose: behaviour.

/// A parsed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read, and perhaps verify or dump.
    Read(Read),
    /// Write bytes or zeroes.
    Write(Write),
    /// Tell that the guest no longer needs a range.
    Discard(Range, Style),
    /// Make everything written durable.
    Flush,
    /// Wait for what runs aside.
    AioFlush,
    /// Tell the size of the disk.
    Length,
    /// Grow to so many bytes.
    Truncate(u64),
    /// Count the bytes of a range that the image itself has.
    Alloc(Range),
    /// List what the image itself has.
    Map,
    /// Tell format and cluster size.
    Info,
    /// Open an image.
    Open(Open),
    /// Close the image.
    Close,
    /// Open the image anew.
    Reopen(Reopen),
    /// Milliseconds.
    Sleep(u64),
    /// Tell about one command, or all.
    Help(Option<String>),
    /// End the session in order.
    Quit,
    /// End at once, as a crash would.
    Abort,
}

/// Guest bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first of them.
    pub at: u64,
    /// How many.
    pub len: u64,
}

/// How the outcome of a request is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Failures only.
    pub quiet: bool,
    /// Comma-separated, for programs.
    pub machine: bool,
}

/// How a request is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The next command waits for it.
    Now,
    /// Beside the commands that follow.
    Aside,
    /// Not at all: it counts as invalid.
    Inject,
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Where on the disk.
    pub range: Range,
    /// How its outcome is told.
    pub style: Style,
    /// How it is run.
    pub way: Way,
    /// What is verified: every byte of this part of the disk against the value.
    pub verify: Option<(Range, u8)>,
    /// What was read is printed.
    pub dump: bool,
    /// Of the VM state, which our formats have not.
    pub vm_state: bool,
    /// What a failure is called by.
    pub word: &'static str,
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where on the disk.
    pub range: Range,
    /// How its outcome is told.
    pub style: Style,
    /// How it is run.
    pub way: Way,
    /// The bytes.
    pub what: What,
    /// Durable when it is told to be done.
    pub fua: bool,
    /// Compressed or VM state: our formats have neither.
    pub unsupported: bool,
    /// What a failure is called by.
    pub word: &'static str,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// This byte, over and over.
    Pattern(u8),
    /// The bytes of this file, over and over.
    File(String),
    /// Zeroes, without a buffer of them.
    Zeroes {
        /// Room may be given back.
        unmap: bool,
    },
}

/// An image to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Its name.
    pub path: String,
    /// Its format, where one is named.
    pub format: Option<String>,
    /// Not for writing.
    pub read_only: bool,
    /// Beside another process that may write.
    pub force_share: bool,
}

/// How to open the open image anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reopen {
    /// `None`: as it is.
    pub read_only: Option<bool>,
}
