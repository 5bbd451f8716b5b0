//! What the fuzz targets do with their bytes.
//!
//! Role: one file a target; each is a function of the bytes alone, so that a finding replays and the corpus runs on any
//! toolchain (`tests/corpus.rs`). `forge` makes images out of bytes, `client` what an NBD client says.
//!
//! Invariant: a target panics when, and only when, the code under test breaks a promise.
//!
//! Absent on purpose: the fuzzer. `fuzz_targets/` hands its bytes over.

mod client;
mod forge;
mod guest;
pub mod image;
mod memory_file;
pub mod nbd_server;
pub mod open;

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 3] =
    [("image", image::run), ("nbd_server", nbd_server::run), ("open", open::run)];

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
