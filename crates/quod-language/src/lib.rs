//! The command language of `quod io`, after that of qemu-io: from a line to a command.
//!
//! Role: [`Call`] is the one way into the parser. A line is a call of a known command; a call with the right words is a
//! [`Command`]. [`parse_size`] reads the sizes and offsets that all verbs of the command line take.
//!
//! Invariant: pure and total; any text gives a value, nothing, or an error that says why.
//!
//! Absent on purpose: images, printing, and running commands.

mod call;
mod catalogue;
mod command;
mod numbers;
mod parse;
mod requests;
mod scan;
mod sizes;
mod spec;

pub use call::Call;
pub use catalogue::{COMMANDS, find};
pub use command::{Command, Open, Range, Read, Reopen, Style, Way, What, Write};
pub use numbers::MAX_REQUEST;
pub use parse::CACHE_MODES;
pub use scan::Refusal;
pub use sizes::{MAX_SIZE, SizeError, parse_size};
pub use spec::Spec;
