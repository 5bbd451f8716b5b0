//! Image locks as QEMU takes them, so that Quod and QEMU keep each other out.
//!
//! Role: byte 100 + i of the file marks a permission that is held, byte 200 + i one that is not shared, both by OFD
//! read locks, which exclude nobody; each side then asks, as for a write lock, whether another holds the byte that
//! would contradict it. The locks go with the open file description, so a killed process leaves none behind, and are taken
//! back explicitly at the end.
//!
//! Absent on purpose: mandatory locks, lock files, and any lock on images opened by [`Access::ReadShared`] but the
//! mark of a reader.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::Access;

/// Numbers of the permissions, as bytes 100 + i and 200 + i know them.
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

const HELD: i64 = 100;
const NOT_SHARED: i64 = 200;

/// A process that was killed just now holds its locks until the kernel has done with the requests of its ring.
const RETRY_FOR: Duration = Duration::from_secs(1);
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// Another user of the image is in the way. Found inside the `io::Error` of a refused open.
#[derive(Debug)]
pub struct LockConflict {
    image: PathBuf,
    permission: &'static str,
    shared: bool,
    holders: Vec<String>,
}

impl fmt::Display for LockConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = if self.shared { "shared " } else { "" };
        writeln!(f, "Failed to get {shared}\"{}\" lock", self.permission)?;
        write!(f, "Is another process using the image [{}]?", self.image.display())?;
        if !self.holders.is_empty() {
            write!(f, " It is open in {}.", self.holders.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for LockConflict {}

/// Which permissions an open holds, and which it does not share with others.
struct Claim {
    held: &'static [i64],
    not_shared: &'static [i64],
}

impl Claim {
    fn of(access: Access) -> Self {
        match access {
            Access::Read => Claim { held: &[CONSISTENT_READ], not_shared: &[WRITE, RESIZE] },
            Access::ReadShared => Claim { held: &[CONSISTENT_READ], not_shared: &[] },
            Access::Write => Claim { held: &[CONSISTENT_READ, WRITE, RESIZE], not_shared: &[WRITE, RESIZE] },
        }
    }
}

/// An open file with its marks, which go when it is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    file: File,
    access: Access,
}

impl Locked {
    /// Takes the locks of `access` on `file`, waiting up to a second for a holder that is just going.
    ///
    /// # Errors
    /// [`LockConflict`] inside a `ResourceBusy` error, or what the system says.
    pub(crate) fn acquire(file: File, path: &Path, access: Access) -> io::Result<Self> {
        // First, so that marks go also when taking the others fails.
        let locked = Locked { file, access };
        acquire(&locked.file, path, access)?;
        Ok(locked)
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl AsFd for Locked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // A child that another thread forks shares the open file until its exec, and would keep the marks as long.
        for byte in Claim::of(self.access).bytes() {
            // Refused only for a file that is gone: then nobody is kept out by its marks.
            let _gone: bool = mark(&self.file, byte, libc::F_UNLCK).is_err();
        }
    }
}

fn acquire(file: &File, path: &Path, access: Access) -> io::Result<()> {
    let claim = Claim::of(access);
    let give_up = Instant::now() + RETRY_FOR;
    loop {
        for byte in claim.bytes() {
            mark(file, byte, libc::F_RDLCK)?;
        }
        let Some((permission, shared)) = claim.contradiction(file)? else { return Ok(()) };
        for byte in claim.bytes() {
            mark(file, byte, libc::F_UNLCK)?;
        }
        if Instant::now() >= give_up {
            let holders = holders(file).unwrap_or_default();
            let conflict = LockConflict { image: path.to_owned(), permission, shared, holders };
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, conflict));
        }
        thread::sleep(RETRY_EVERY);
    }
}

impl Claim {
    fn bytes(&self) -> impl Iterator<Item = i64> {
        let held = self.held.iter().map(|permission| HELD + permission);
        held.chain(self.not_shared.iter().map(|permission| NOT_SHARED + permission))
    }

    /// The first permission that another user has a mark against, and whether it is our sharing that it is against.
    fn contradiction(&self, file: &File) -> io::Result<Option<(&'static str, bool)>> {
        for &permission in self.held {
            if marked_by_another(file, NOT_SHARED + permission)? {
                return Ok(Some((name(permission), false)));
            }
        }
        for &permission in self.not_shared {
            if marked_by_another(file, HELD + permission)? {
                return Ok(Some((name(permission), true)));
            }
        }
        Ok(None)
    }
}

fn name(permission: i64) -> &'static str {
    match permission {
        CONSISTENT_READ => "consistent read",
        WRITE => "write",
        _ => "resize",
    }
}

fn one_byte(byte: i64, kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: byte, l_len: 1, l_pid: 0 }
}

fn mark(file: &File, byte: i64, kind: libc::c_int) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&one_byte(byte, kind)))?;
    Ok(())
}

fn marked_by_another(file: &File, byte: i64) -> io::Result<bool> {
    let mut question = one_byte(byte, libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut question))?;
    Ok(question.l_type != libc::F_UNLCK as i16)
}

/// Processes that have OFD locks on this file, by /proc/PID/fdinfo: the kernel names no holder itself.
fn holders(file: &File) -> io::Result<Vec<String>> {
    let wanted = file.metadata()?;
    let own = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let root = process.path();
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(root.join("fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            let same = fs::metadata(descriptor.path())
                .is_ok_and(|it| (it.dev(), it.ino()) == (wanted.dev(), wanted.ino()));
            let info = root.join("fdinfo").join(descriptor.file_name());
            same && descriptor.path() != Path::new(&own)
                && fs::read_to_string(info).is_ok_and(|text| text.contains("OFDLCK"))
        });
        if holds {
            let command = fs::read_to_string(root.join("comm")).unwrap_or_default();
            found.push(format!("process {pid} ({})", command.trim_end()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_at_the_end_though_a_forked_child_still_shares_the_open_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let name = directory.path().join("disk");
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).open(&name).expect("a file")
        };
        let first = Locked::acquire(open(), &name, Access::Write).expect("nobody has it");
        // What a child has until its exec: the same open file.
        let shared = first.file.try_clone().expect("a descriptor");
        drop(first);
        Locked::acquire(open(), &name, Access::Write).expect("nobody has it any more");
        drop(shared);
    }
}
