//! What the tests share: servers that end with the test.
#![allow(dead_code, reason = "every test file is a crate of its own and uses a part of this")]

pub(crate) mod scripted;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use quod_remote::{NbdStorage, NbdUri};
use quod_storage::{AnyRange, Buffer, Extent, ExtentKind, Held, Storage};
use tempfile::TempDir;

pub(crate) use futures_lite::future::block_on;

/// A disk that any range can be asked of.
pub(crate) type Remote = AnyRange<NbdStorage>;

/// A server on a Unix socket in a directory of its own.
pub(crate) struct Server {
    child: Child,
    directory: TempDir,
}

impl Server {
    fn start(directory: TempDir, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn().expect("the peer is installed");
        let server = Server { child, directory };
        let patience = Instant::now() + Duration::from_secs(30);
        while !listens(&server.socket()) {
            assert!(Instant::now() < patience, "the server does not start");
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// `qemu-nbd` over a file that `make` makes.
    pub(crate) fn qemu_nbd(arguments: &[&str], make: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        make(&directory.path().join("disk"));
        let mut command = Command::new("qemu-nbd");
        command.args(["-t", "--shared=8", "-k"]).arg(directory.path().join("socket")).args(arguments);
        command.arg(directory.path().join("disk"));
        Server::start(directory, &mut command)
    }

    /// `nbdkit` with those arguments.
    pub(crate) fn nbdkit(arguments: &[&str]) -> Self {
        Server::nbdkit_in(tempfile::tempdir().expect("a directory"), arguments)
    }

    pub(crate) fn nbdkit_in(directory: TempDir, arguments: &[&str]) -> Self {
        let mut command = Command::new("nbdkit");
        command.args(["-f", "--exit-with-parent", "-U"]).arg(directory.path().join("socket")).args(arguments);
        Server::start(directory, &mut command)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket().display())
    }

    pub(crate) fn connect(&self) -> Remote {
        connect(&self.uri()).expect("the server takes us")
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is a child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended: bool = self.child.kill().and_then(|()| self.child.wait().map(drop)).is_ok();
    }
}

/// Whether somebody listens on the Unix socket of that absolute name. Its file is there a moment earlier.
pub(crate) fn listens(socket: &Path) -> bool {
    const ACCEPTS: &str = "00010000";
    let sockets = fs::read_to_string("/proc/net/unix").expect("the kernel lists them");
    let name = format!(" {}", socket.display());
    sockets.lines().any(|line| line.ends_with(&name) && line.split_whitespace().nth(3) == Some(ACCEPTS))
}

pub(crate) fn connect(name: &str) -> io::Result<Remote> {
    NbdStorage::connect(&NbdUri::parse(name).expect("a good name")).map(AnyRange::of)
}

pub(crate) fn read(storage: &Remote, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let read = block_on(storage.read_at(at, Buffer::zeroed(len).into()))?;
    Ok(read.into_single().to_vec())
}

pub(crate) fn write(storage: &Remote, at: u64, bytes: &[u8]) -> io::Result<()> {
    block_on(storage.write_at(at, Buffer::copy_of(bytes).into())).map(drop)
}

pub(crate) fn flush(storage: &Remote) -> io::Result<()> {
    block_on(storage.flush(Held::NOTHING))
}

/// The extents of the whole disk, joined: where each ends, and whether it is data.
pub(crate) fn map(storage: &Remote) -> Vec<(u64, bool)> {
    let size = block_on(storage.length()).expect("it is known");
    let (mut at, mut found) = (0, Vec::<(u64, bool)>::new());
    while at < size {
        let Extent { len, kind } = block_on(storage.extent(at, size - at)).expect("the server tells");
        assert!(len > 0 && len <= size - at);
        at += len;
        let is_data = kind == ExtentKind::Data;
        match found.last_mut() {
            Some(last) if last.1 == is_data => last.0 = at,
            _ => found.push((at, is_data)),
        }
    }
    found
}
