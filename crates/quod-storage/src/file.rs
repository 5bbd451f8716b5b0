//! A local file by blocking system calls, as [`Storage`].
//!
//! Role: the portable one: its futures are always ready, so it makes the engine a synchronous library and
//! fits any runtime. Clones share one open file and its locks.
//!
//! Absent on purpose: the calls themselves (`calls.rs`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::lock::Locked;
use crate::{Access, Alignment, Buffers, Existing, Extent, FileId, Held, Opener, Storage, calls};

/// A local regular file. Cheap to clone; the file and its locks go with the last clone.
#[derive(Clone, Debug)]
pub struct FileStorage {
    file: Arc<Locked>,
}

impl Storage for FileStorage {
    async fn read_at(&self, at: u64, mut into: Buffers) -> io::Result<Buffers> {
        calls::read(&self.file, at, &mut into, 1)?;
        Ok(into)
    }

    fn read_now(&self, at: u64, into: &mut [u8]) -> Option<io::Result<()>> {
        Some(calls::read_whole(&self.file, at, into))
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        calls::write(&self.file, at, &from.parts)?;
        Ok(from)
    }

    async fn flush(&self, _held: Held) -> io::Result<()> {
        calls::flush(&self.file)
    }

    async fn set_len(&self, len: u64, _held: Held) -> io::Result<()> {
        self.file.set_len(len)
    }

    async fn punch(&self, at: u64, len: u64, _held: Held) -> io::Result<()> {
        calls::punch(&self.file, at, len)
    }

    async fn write_zeroes(&self, at: u64, len: u64, _held: Held) -> io::Result<()> {
        calls::write_zeroes(&self.file, at, len)
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        calls::extent(&self.file, at, len)
    }

    async fn length(&self) -> io::Result<u64> {
        calls::length(&self.file)
    }

    fn alignment(&self) -> Alignment {
        Alignment::ANY
    }
}

/// Opens local files by path.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileOpener;

impl Opener for FileOpener {
    type Storage = FileStorage;

    async fn open(&self, name: &Path, access: Access) -> io::Result<FileStorage> {
        Ok(FileStorage { file: Arc::new(calls::open(name, access, OFlags::empty())?) })
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<FileStorage> {
        Ok(FileStorage { file: Arc::new(calls::create(name, existing, OFlags::empty())?) })
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        calls::identify(name)
    }
}
