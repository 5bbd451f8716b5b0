//! The open image of a session.
//!
//! Role: opens it, closes it, and opens it anew another way.
//!
//! Invariant: it is closed only when nothing runs on it any more.
//!
//! Absent on purpose: snapshots and other temporary images.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use quod::Keeper;
use quod_language::{Open, Reopen};
use quod_storage::Access;

use super::super::trouble::{Done, Trouble};
use super::Session;
use crate::open::Target;
use crate::place::AnyDisk;

pub(in crate::io) const SHARED_WRITER: &str = "force-share=on can only be used with read-only images";

/// An image, and how it was opened.
pub(super) struct OpenDisk {
    pub(super) disk: AnyDisk,
    /// Settles what is pending while nobody types.
    keeper: Option<Keeper>,
    path: PathBuf,
    format: Option<String>,
    access: Access,
}

impl<W: Write> Session<W> {
    /// Opens the image that commands are about.
    ///
    /// # Errors
    /// `can't open device FILE: ...`
    pub(in crate::io) fn open(
        &mut self,
        path: &Path,
        format: Option<&str>,
        access: Access,
    ) -> anyhow::Result<()> {
        let disk = quod::block_on(Target::new(path, format, access).open_tuned(&self.tuned));
        let disk = disk.map_err(|why| anyhow!("can't open device {}: {why:#}", path.display()))?;
        let keeper = if disk.is_writable() { Some(Keeper::start(&disk)?) } else { None };
        self.interrupt.watch(&disk);
        let (path, format) = (path.to_owned(), format.map(str::to_owned));
        self.open = Some(OpenDisk { disk, keeper, path, format, access });
        Ok(())
    }

    pub(super) fn open_named(&mut self, open: &Open) -> Done {
        if self.open.is_some() {
            return Err(Trouble::Complaint("file open already, try 'help close'".to_owned()));
        }
        let access = match (open.read_only, open.force_share) {
            (false, false) => Access::Write,
            (true, false) => Access::Read,
            (true, true) => Access::ReadShared,
            (false, true) => {
                return Err(Trouble::Complaint(format!("can't open device {}: {SHARED_WRITER}", open.path)));
            }
        };
        let opened = self.open(Path::new(&open.path), open.format.as_deref(), access);
        opened.map_err(|error| Trouble::Complaint(format!("{error:#}")))
    }

    pub(super) fn close(&mut self) -> Done {
        let waited = self.wait_aside();
        let Some(open) = self.open.take() else { return waited };
        self.interrupt.closing();
        drop(open.keeper);
        let closed = quod::block_on(open.disk.close());
        closed.map_err(|error| {
            Trouble::Complaint(format!("{} was not closed in order: {error}", open.path.display()))
        })?;
        waited
    }

    pub(super) fn reopen(&mut self, reopen: Reopen) -> Done {
        let Some(OpenDisk { path, format, access, .. }) = &self.open else { return Ok(()) };
        let (path, format, before) = (path.clone(), format.clone(), *access);
        let wanted = match reopen.read_only {
            None => before,
            Some(true) if before == Access::ReadShared => before,
            Some(true) => Access::Read,
            Some(false) => Access::Write,
        };
        self.close()?;
        let told = |error: anyhow::Error| Trouble::Complaint(format!("{error:#}"));
        self.open(&path, format.as_deref(), wanted)
            .or_else(|error| {
                // As it was, rather than not at all.
                self.open(&path, format.as_deref(), before)?;
                Err(error)
            })
            .map_err(told)
    }
}
