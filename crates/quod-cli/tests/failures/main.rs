//! What fails below `quod serve`: a full disk, a quota, a broken disk, a file system that went read-only.
//!
//! Role: `full.rs` runs a real file system full; `alone.rs` has system calls fail that cost no more than their request;
//! `latched.rs` those after which nothing that writes can be promised (D10). What is checked is what the client hears,
//! what the server says at its end, and that the image holds every write that was answered.
//!
//! Absent on purpose: tests that go on without what they need. System calls are made to fail by strace, which must be
//! allowed to attach to the server: as root, or with `kernel.yama.ptrace_scope=0`.

#[path = "../common/mod.rs"]
mod common;

mod alone;
mod full;
mod guest;
mod latched;
mod sabotage;

/// What lies below the images of a test.
const BELOW: [Option<&str>; 2] = [None, Some("raw")];
