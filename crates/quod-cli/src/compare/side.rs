//! One of the two images.
//!
//! Role: opens it, tells its runs and reads it, with failures that know their exit code.
//!
//! Absent on purpose: the other image.

use std::path::Path;

use anyhow::anyhow;
use quod_storage::Buffer;

use crate::open::{Target, errno_sentence};
use crate::place::AnyDisk;
use crate::runs::{Run, Runs};

const CANNOT_OPEN: u8 = 2;
const CANNOT_TELL: u8 = 3;
const CANNOT_READ: u8 = 4;
const CANNOT_PRINT: u8 = 1;

/// An error with the exit code that stands for it.
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) error: anyhow::Error,
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure { code: CANNOT_PRINT, error: error.into() }
    }
}

/// One of the two images, open.
pub(super) struct Side<'a> {
    path: &'a Path,
    pub(super) disk: AnyDisk,
}

impl<'a> Side<'a> {
    pub(super) async fn open(target: &Target<'a>) -> Result<Self, Failure> {
        let disk = target.open().await.map_err(|error| Failure { code: CANNOT_OPEN, error })?;
        Ok(Side { path: target.path, disk })
    }

    pub(super) async fn next(&self, runs: &mut Runs<'_>) -> Result<Option<Run>, Failure> {
        runs.next().await.map_err(|error| Failure {
            code: CANNOT_TELL,
            error: anyhow!("Sector allocation test failed for {} ({error})", self.path.display()),
        })
    }

    /// Reads `into.len()` bytes at `at`, or makes them zeroes where the run is known to be.
    pub(super) async fn read(&self, run: &Run, at: u64, mut into: Buffer) -> Result<Buffer, Failure> {
        if !run.may_hold_data() {
            into.fill(0);
            return Ok(into);
        }
        self.disk.read(at, into).await.map_err(|error| {
            let (name, word) = (self.path.display(), errno_sentence(&error));
            let error = anyhow!("Error while reading offset {at} of {name}: {word} ({error})");
            Failure { code: CANNOT_READ, error }
        })
    }
}
