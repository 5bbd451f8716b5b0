//! Telling others that the server runs: a file with its number, and the service manager.
//!
//! Role: [`PidFile`] for scripts, and systemd's notifications.
//!
//! Invariant: a pid file is there whole or not at all, holds the number of a server that was ready, and goes with it.
//! A file that is no pid file is never overwritten.
//!
//! Absent on purpose: staying in the background.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, bail};
use sd_notify::NotifyState;

use crate::output;

/// Longer than any number.
const LONGEST_NUMBER: u64 = 32;

/// A file with the number of this process, until it is dropped.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file; that of an earlier server is replaced.
    ///
    /// # Errors
    /// When something else has the name, or the system says no.
    pub(super) fn write(path: &Path) -> anyhow::Result<Self> {
        let told = || format!("{}: the pid file cannot be written", path.display());
        if !may_be_replaced(path).with_context(told)? {
            bail!("{}: exists and is not a pid file", path.display());
        }
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", process::id()));
        let fresh = PathBuf::from(fresh);
        // Left by a server of the same number that was killed before the renaming. A link there is not followed.
        if may_be_replaced(&fresh).with_context(told)? {
            remove_if_there(&fresh).with_context(told)?;
        }
        let mut file = File::create_new(&fresh).with_context(told)?;
        let written = writeln!(file, "{}", process::id());
        if let Err(error) = written.and_then(|()| fs::rename(&fresh, path)) {
            if let Err(error) = fs::remove_file(&fresh) {
                tracing::debug!(%error, "nothing of the pid file is left to be removed");
            }
            return Err(error).with_context(told);
        }
        Ok(PidFile(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Not when another server has written its own there.
        let mine = fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == process::id().to_string());
        if mine && let Err(error) = fs::remove_file(&self.0) {
            output::complain(&format_args!("{}: the pid file stays behind: {error}", self.0.display()));
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether there is nothing of that name, or nothing but a number.
fn may_be_replaced(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
        Ok(file) if !file.is_file() || file.len() > LONGEST_NUMBER => return Ok(false),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    OpenOptions::new().read(true).open(path)?.take(LONGEST_NUMBER).read_to_end(&mut bytes)?;
    Ok(bytes.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace()))
}

/// Tells the service manager, if there is one, that clients are answered.
pub(super) fn tell_ready() {
    notify(NotifyState::Ready);
}

/// Tells the service manager, if there is one, that the server is on its way out.
pub(super) fn tell_stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_pid_file_is_replaced_and_only_ones_own_is_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("pid");
        let pid = format!("{}\n", process::id());
        for stale in [None, Some(""), Some("123\n")] {
            if let Some(text) = stale {
                fs::write(&path, text).expect("a file");
            }
            let file = PidFile::write(&path).expect("it may be written");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), pid);
            drop(file);
            assert!(!path.exists());
        }
        let file = PidFile::write(&path).expect("it may be written");
        fs::write(&path, "1\n").expect("a file");
        drop(file);
        assert!(path.exists());
        fs::write(&path, "QED\0").expect("a file");
        PidFile::write(&path).expect_err("it is an image");
        assert_eq!(fs::read(&path).expect("it is there"), b"QED\0");
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 1);
    }

    #[test]
    fn no_file_is_overwritten_on_the_way_to_a_pid_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, other) = (directory.path().join("pid"), directory.path().join("other"));
        let fresh = directory.path().join(format!("pid.{}", process::id()));
        fs::write(&other, "precious").expect("a file");
        symlink(&other, &fresh).expect("a link");
        PidFile::write(&path).expect_err("a link is in the way");
        fs::remove_file(&fresh).expect("the link is there");
        fs::write(&fresh, "precious").expect("a file");
        PidFile::write(&path).expect_err("a file is in the way");
        for precious in [other, fresh.clone()] {
            assert_eq!(fs::read_to_string(precious).expect("it is there"), "precious");
        }
        fs::write(&fresh, "1").expect("a file");
        drop(PidFile::write(&path).expect("what a killed server left is replaced"));
        assert!(!fresh.exists());
    }
}
