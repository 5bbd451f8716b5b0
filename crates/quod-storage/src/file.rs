//! A local file by blocking system calls.
//!
//! Role: the portable [`Storage`]: its futures are always ready, so it makes the engine a synchronous library and
//! fits any runtime. Clones share one open file and its locks.
//!
//! Invariant: only regular files get in; reads and writes are retried until whole.
//!
//! Absent on purpose: the file position, buffering, and fsync of anything but this file and a new name's directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fdatasync, seek};
use rustix::io::{Errno, preadv, pwritev};
use smallvec::SmallVec;

use crate::lock::Locked;
use crate::{
    Access, Alignment, Buffer, Buffers, Existing, Extent, ExtentKind, FileId, Held, MEMORY_ALIGNMENT, Opener,
    Storage,
};

/// Zeroes are written in pieces of at most this many bytes where the file system cannot make them itself.
const ZERO_PIECE: u64 = 1 << 20;

/// More parts than this in one call are an error to the kernel (IOV_MAX).
const MAX_VECTORS: usize = 1024;

/// A local regular file. Cheap to clone; the file and its locks go with the last clone.
#[derive(Clone, Debug)]
pub struct FileStorage {
    file: Arc<Locked>,
}

impl FileStorage {
    fn open(name: &Path, access: Access, options: &mut OpenOptions) -> io::Result<Self> {
        // Without O_NONBLOCK a pipe with no writer would hang the open.
        let file = options.custom_flags(OFlags::NONBLOCK.bits() as i32).open(name)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(FileStorage { file: Arc::new(Locked::acquire(file, name, access)?) })
    }

    /// Writes zero bytes where no system call makes them.
    fn write_zero_bytes(&self, mut at: u64, len: u64) -> io::Result<()> {
        let end = at + len;
        while at < end {
            let piece = (end - at).min(ZERO_PIECE);
            self.write_whole(at, &[Buffer::zeroed(piece as usize)])?;
            at += piece;
        }
        Ok(())
    }

    fn read_whole(&self, mut at: u64, parts: &mut [Buffer]) -> io::Result<()> {
        let mut parts: SmallVec<[IoSliceMut<'_>; 3]> =
            parts.iter_mut().map(|part| IoSliceMut::new(part)).collect();
        let mut rest = &mut parts[..];
        IoSliceMut::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let vectors = rest.len().min(MAX_VECTORS);
            match preadv(&**self.file, &mut rest[..vectors], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    at += read as u64;
                    IoSliceMut::advance_slices(&mut rest, read);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn write_whole(&self, mut at: u64, parts: &[Buffer]) -> io::Result<()> {
        let mut parts: SmallVec<[IoSlice<'_>; 3]> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut parts[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match pwritev(&**self.file, &rest[..rest.len().min(MAX_VECTORS)], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl Storage for FileStorage {
    async fn read_at(&self, at: u64, mut into: Buffers) -> io::Result<Buffers> {
        self.read_whole(at, &mut into.parts)?;
        Ok(into)
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        self.write_whole(at, &from.parts)?;
        Ok(from)
    }

    async fn flush(&self, _held: Held) -> io::Result<()> {
        // Not retried on EINTR: whether what it covered is still dirty is then unknown.
        Ok(fdatasync(&**self.file)?)
    }

    async fn set_len(&self, len: u64, _held: Held) -> io::Result<()> {
        self.file.set_len(len)
    }

    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        match change_range(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len) {
            Err(Errno::OPNOTSUPP) => self.write_zeroes(at, len, held).await,
            done => Ok(done?),
        }
    }

    async fn write_zeroes(&self, at: u64, len: u64, _held: Held) -> io::Result<()> {
        // Past the end there is nothing to write, and the file system would take room for it.
        let end = self.file.metadata()?.len().min(at.saturating_add(len));
        let len = end.saturating_sub(at);
        match change_range(&self.file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, at, len) {
            Err(Errno::OPNOTSUPP) => self.write_zero_bytes(at, len),
            done => Ok(done?),
        }
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        let data = match seek(&**self.file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(Extent { len, kind: ExtentKind::Hole }),
            Err(errno) => return Err(errno.into()),
        };
        if data > at {
            return Ok(Extent { len: len.min(data - at), kind: ExtentKind::Hole });
        }
        let hole = seek(&**self.file, SeekFrom::Hole(at))?;
        Ok(Extent { len: len.min(hole.saturating_sub(at).max(1)), kind: ExtentKind::Data })
    }

    async fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn alignment(&self) -> Alignment {
        Alignment { offset: 1, memory: 1 }
    }
}

fn change_range(file: &File, how: FallocateFlags, at: u64, len: u64) -> Result<(), Errno> {
    if len == 0 {
        return Ok(());
    }
    loop {
        match fallocate(file, how, at, len) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Opens local files by path.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileOpener;

impl Opener for FileOpener {
    type Storage = FileStorage;

    async fn open(&self, name: &Path, access: Access) -> io::Result<FileStorage> {
        FileStorage::open(name, access, OpenOptions::new().read(true).write(access == Access::Write))
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<FileStorage> {
        // Looked at and emptied only once the lock is had: another's image must survive a refused create, and one that
        // another makes in this moment.
        let options = &mut OpenOptions::new();
        let storage = FileStorage::open(
            name,
            Access::Write,
            options.read(true).write(true).create(true).truncate(false),
        )?;
        if existing == Existing::Keep && storage.file.metadata()?.len() > 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        storage.file.set_len(0)?;
        storage.file.sync_all()?;
        let directory = match name.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()?;
        Ok(storage)
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        let metadata = fs::metadata(name)?;
        Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
    }
}

const _: () = assert!(MEMORY_ALIGNMENT.is_power_of_two());
