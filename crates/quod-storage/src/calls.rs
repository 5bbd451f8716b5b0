//! A local file by blocking system calls.
//!
//! Role: what a file can be asked, one function a question; [`FileStorage`](crate::FileStorage) and
//! [`LoopFile`](crate::LoopFile) are made of them.
//!
//! Invariant: only regular files get in; reads and writes are retried until whole.
//!
//! Absent on purpose: the file position, buffering, and fsync of anything but this file and a new name's directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fdatasync, seek};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv, preadv2, pwritev, retry_on_intr};
use smallvec::SmallVec;

use crate::lock::Locked;
use crate::{Access, Buffer, Buffers, Existing, Extent, ExtentKind, FileId};

/// More parts than this in one call are an error to the kernel (IOV_MAX).
pub(crate) const MAX_VECTORS: usize = 1024;

/// Zeroes are written in pieces of at most this many bytes where the file system cannot make them itself.
const ZERO_PIECE: u64 = 1 << 20;

/// Opens an existing file, with `flags` beside the usual ones.
pub(crate) fn open(name: &Path, access: Access, flags: OFlags) -> io::Result<Locked> {
    open_as(name, access, flags, OpenOptions::new().read(true).write(access == Access::Write))
}

fn open_as(name: &Path, access: Access, flags: OFlags, options: &mut OpenOptions) -> io::Result<Locked> {
    // Without O_NONBLOCK a pipe with no writer would hang the open.
    let file = options.custom_flags((OFlags::NONBLOCK | flags).bits() as i32).open(name)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Locked::acquire(file, name, access)
}

/// Makes an empty file, and its name durable.
pub(crate) fn create(name: &Path, existing: Existing, flags: OFlags) -> io::Result<Locked> {
    // Looked at and emptied only once the lock is had: another's image must survive a refused create, and one that
    // another makes in this moment.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = open_as(name, Access::Write, flags, &mut options)?;
    if existing == Existing::Keep && file.metadata()?.len() > 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    file.set_len(0)?;
    file.sync_all()?;
    let directory = match name.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()?;
    Ok(file)
}

pub(crate) fn identify(name: &Path) -> io::Result<FileId> {
    let metadata = fs::metadata(name)?;
    Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
}

/// Fills `into` from `at`. A `block` that the end of the file lies in reads as zeroes behind it.
pub(crate) fn read(file: &File, at: u64, into: &mut Buffers, block: u64) -> io::Result<()> {
    if let ([single], 1) = (&mut into.parts[..], block) {
        return read_whole(file, at, single);
    }
    let (len, mut done) = (into.len(), 0);
    while done < len {
        let outcome = preadv(file, &mut vectors(&mut into.parts, done), at + done as u64);
        match outcome {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) if done + read == len => return Ok(()),
            Ok(read) => done = into.clear_block(at, done + read, block),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Fills `into` from `at`.
pub(crate) fn read_whole(file: &File, at: u64, into: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < into.len() {
        match pread(file, &mut into[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Fills `into` from `at` if all of it is in memory already, without waiting; tells whether it was.
///
/// # Errors
/// `Unsupported` when the file system cannot tell.
pub(crate) fn read_cached(file: &File, at: u64, into: &mut [u8]) -> io::Result<bool> {
    let len = into.len();
    match retry_on_intr(|| preadv2(file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT)) {
        Err(Errno::AGAIN) => Ok(false),
        // The end of the file is found by who waits.
        read => Ok(read? == len),
    }
}

/// Fills `into` from `at` by one call; tells whether it did. If not, who waits finds the end of the file, or goes on.
pub(crate) fn read_once(file: &File, at: u64, into: &mut [u8]) -> io::Result<bool> {
    Ok(retry_on_intr(|| pread(file, &mut *into, at))? == into.len())
}

/// What one call takes of `parts`, but for the first `done` bytes.
fn vectors(parts: &mut [Buffer], done: usize) -> SmallVec<[IoSliceMut<'_>; 3]> {
    let mut skip = done;
    let rest = parts.iter_mut().map(|part| {
        let here = skip.min(part.len());
        skip -= here;
        &mut part[here..]
    });
    rest.filter(|rest| !rest.is_empty()).take(MAX_VECTORS).map(IoSliceMut::new).collect()
}

/// Writes `parts` at `at`.
pub(crate) fn write(file: &File, mut at: u64, parts: &[Buffer]) -> io::Result<()> {
    let mut from: SmallVec<[IoSlice<'_>; 3]> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut from[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match pwritev(file, &rest[..rest.len().min(MAX_VECTORS)], at) {
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

pub(crate) fn flush(file: &File) -> io::Result<()> {
    // Not retried on EINTR: whether what it covered is still dirty is then unknown.
    Ok(fdatasync(file)?)
}

pub(crate) fn punch(file: &File, at: u64, len: u64) -> io::Result<()> {
    match change_range(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len) {
        Err(Errno::OPNOTSUPP) => write_zeroes(file, at, len),
        done => Ok(done?),
    }
}

pub(crate) fn write_zeroes(file: &File, at: u64, len: u64) -> io::Result<()> {
    // Past the end there is nothing to write, and the file system would take room for it.
    let end = file.metadata()?.len().min(at.saturating_add(len));
    let len = end.saturating_sub(at);
    match change_range(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, at, len) {
        Err(Errno::OPNOTSUPP) => write_zero_bytes(file, at, len),
        done => Ok(done?),
    }
}

/// Writes zero bytes where no system call makes them.
fn write_zero_bytes(file: &File, mut at: u64, len: u64) -> io::Result<()> {
    let end = at + len;
    while at < end {
        let piece = (end - at).min(ZERO_PIECE);
        write(file, at, &[Buffer::zeroed(piece as usize)])?;
        at += piece;
    }
    Ok(())
}

fn change_range(file: &File, how: FallocateFlags, at: u64, len: u64) -> Result<(), Errno> {
    if len == 0 {
        return Ok(());
    }
    retry_on_intr(|| fallocate(file, how, at, len))
}

pub(crate) fn extent(file: &File, at: u64, len: u64) -> io::Result<Extent> {
    let data = match seek(file, SeekFrom::Data(at)) {
        Ok(data) => data,
        Err(Errno::NXIO) => return Ok(Extent { len, kind: ExtentKind::Hole }),
        Err(errno) => return Err(errno.into()),
    };
    if data > at {
        return Ok(Extent { len: len.min(data - at), kind: ExtentKind::Hole });
    }
    let hole = seek(file, SeekFrom::Hole(at))?;
    Ok(Extent { len: len.min(hole.saturating_sub(at).max(1)), kind: ExtentKind::Data })
}

pub(crate) fn length(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}
