//! What the fuzz targets do with their bytes.
//!
//! Role: one file a target; each is a function of the bytes alone, so that a finding replays and the corpus runs on any
//! toolchain (`tests/corpus.rs`). `forge` makes images out of bytes, `client` and
//! `server` say what NBD's two sides may say.
//!
//! Invariant: a target panics when, and only when, the code under test breaks a promise. All that is allocated at one time
//! stays within [`MOST_MEMORY`]: more ends the process.
//!
//! Absent on purpose: the fuzzer. `fuzz_targets/` hands its bytes over.

mod client;
mod codec;
mod forge;
mod guest;
pub mod image;
pub mod io_line;
mod memory_file;
pub mod nbd_client;
pub mod nbd_server;
pub mod open;
pub mod requests;
mod server;

use std::alloc::System;
use std::sync::{Arc, Once};

use cap::Cap;

/// Of all that a process has allocated, in bytes: no input may cost more, whatever sizes it names.
pub const MOST_MEMORY: usize = 256 << 20;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, MOST_MEMORY);

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("image", image::run),
    ("io_line", io_line::run),
    ("nbd_client", nbd_client::run),
    ("nbd_server", nbd_server::run),
    ("open", open::run),
    ("requests", requests::run),
];

/// Gives a target the files that the command line names, one after another.
///
/// # Errors
/// A file cannot be read.
pub fn replay(target: fn(&[u8])) -> std::io::Result<()> {
    for file in std::env::args_os().skip(1) {
        target(&std::fs::read(&file)?);
    }
    Ok(())
}

/// Makes writing to a peer that has gone an error, and not the end of the process: programs of Rust begin so, but a
/// fuzzer's `main` is not Rust's.
fn outlive_peers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::default())
            .expect("a signal like others");
    });
}
