//! What the tests of the verbs share: a directory, the command and its peers, and images written byte by byte.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "every test file is a crate of its own and uses a part of this"
)]

pub(crate) mod cases;
pub(crate) mod found;
pub(crate) mod header;
pub(crate) mod scrape;
pub(crate) mod servers;
pub(crate) mod serving;
pub(crate) mod wire;

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The command under test.
pub(crate) const QUOD: &str = env!("CARGO_BIN_EXE_quod");

/// What a run of a command gave.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {:?}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }
}

impl Ran {
    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Checks that standard error holds a text.
    #[track_caller]
    pub(crate) fn tells(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no {text:?} in {self:?}");
        self
    }

    /// Checks that standard output holds a text.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.out.contains(text), "no {text:?} in {self:?}");
        self
    }
}

/// A directory that goes with the test. Commands run in it.
pub(crate) struct Room {
    directory: TempDir,
}

impl Room {
    pub(crate) fn new() -> Self {
        Room { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    /// A room on the file system that holds what cargo builds, where `/tmp` may be in memory.
    pub(crate) fn on_disk() -> Self {
        Room::within(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    pub(crate) fn within(directory: &Path) -> Self {
        Room { directory: tempfile::tempdir_in(directory).expect("a temporary directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs our command.
    #[track_caller]
    pub(crate) fn quod(&self, args: &[&str]) -> Ran {
        self.run(QUOD, args, "")
    }

    /// Runs a peer. That it is missing fails the test.
    #[track_caller]
    pub(crate) fn peer(&self, program: &str, args: &[&str]) -> Ran {
        self.run(program, args, "")
    }

    /// Runs a program with something on its standard input.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(program);
        let child =
            command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child
            .unwrap_or_else(|error| panic!("{program} is needed here: {error} (cargo xtask test gets it)"));
        let mut stdin = child.stdin.take().expect("it is piped");
        // A command that ends early does not read it all.
        let _written: bool = stdin.write_all(input.as_bytes()).is_ok();
        drop(stdin);
        let output = child.wait_with_output().expect("the child is ours");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// A command that runs here, with nothing of the user's settings.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).env_remove("RUST_LOG").env("LC_ALL", "C");
        command
    }

    /// Runs qemu-io on an image.
    #[track_caller]
    pub(crate) fn write_by_peer(&self, image: &str, commands: &[&str]) {
        let mut args = vec!["-f", if image.ends_with(".raw") { "raw" } else { "qed" }, image];
        commands.iter().for_each(|command| args.extend(["-c", command]));
        self.peer("qemu-io", &args).exits(0);
    }

    /// The whole disk of a QED image, as qemu-img reads it.
    #[track_caller]
    pub(crate) fn read_by_peer(&self, image: &str) -> Vec<u8> {
        // There may be no room here.
        let elsewhere = Room::new();
        let seen = elsewhere.path("seen.raw").display().to_string();
        self.peer("qemu-img", &["convert", "-f", "qed", "-O", "raw", image, &seen]).exits(0);
        elsewhere.read("seen.raw")
    }

    /// Runs qemu-img, quietly.
    #[track_caller]
    pub(crate) fn create_by_peer(&self, args: &[&str]) {
        self.peer("qemu-img", &[&["create", "-q"], args].concat()).exits(0);
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("the file is written");
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("the file is there")
    }

    /// Copies a file.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).expect("the file is copied");
    }

    /// Copies all files of another room; holes stay holes.
    pub(crate) fn take_from(&self, other: &Room) {
        let from = format!("{}/.", other.directory.path().display());
        self.peer("cp", &["--sparse=always", "-r", &from, "."]).exits(0);
    }

    /// Sets the length of a file, making it if it is missing.
    pub(crate) fn set_len(&self, name: &str, len: u64) {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.path(name));
        file.expect("the file is there").set_len(len).expect("its length is set");
    }

    /// Overwrites bytes of a file.
    pub(crate) fn patch(&self, name: &str, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(self.path(name)).expect("the file is there");
        file.write_all_at(bytes, at).expect("the bytes are written");
    }
}

/// Runs the same thing by qemu-img and by us, each in a room of its own that `prepare` has furnished, and checks that
/// standard output and exit code are the same.
#[track_caller]
pub(crate) fn same_as_qemu_img(prepare: impl Fn(&Room), args: &[&str]) {
    let (theirs, ours) = (Room::new(), Room::new());
    prepare(&theirs);
    prepare(&ours);
    let expected = theirs.peer("qemu-img", args);
    let ran = ours.quod(args);
    assert_eq!(
        (&expected.out, expected.code),
        (&ran.out, ran.code),
        "{args:?}\ntheirs {expected:?}\nours {ran:?}"
    );
}

/// Runs the same arguments by qemu-img and by us on the same files.
#[track_caller]
pub(crate) fn same_output(room: &Room, args: &[&str]) -> Ran {
    let expected = room.peer("qemu-img", args);
    let ran = room.quod(args);
    assert_eq!(
        (&expected.out, expected.code),
        (&ran.out, ran.code),
        "{args:?}\ntheirs {expected:?}\nours {ran:?}"
    );
    ran
}

/// Far longer than any program takes to begin or to end, also on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not so in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether somebody listens on the Unix socket of that absolute name. Its file is there a moment earlier.
pub(crate) fn listens(socket: &Path) -> bool {
    const ACCEPTS: &str = "00010000";
    let sockets = fs::read_to_string("/proc/net/unix").expect("the kernel lists them");
    let name = format!(" {}", socket.display());
    sockets.lines().any(|line| line.ends_with(&name) && line.split_whitespace().nth(3) == Some(ACCEPTS))
}

/// A child that does not outlive its test, also when that fails.
pub(crate) struct Killed(pub(crate) Child);

impl Killed {
    /// Starts it. That it is missing fails the test.
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Killed(child),
            Err(error) => panic!("needed here: {command:?}: {error} (cargo xtask test gets it)"),
        }
    }

    /// Sends a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill is there").success());
    }

    /// Waits for its end; gives what it printed, as far as that is piped.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ran {
        let (mut out, mut err) = (String::new(), String::new());
        if let Some(mut stdout) = self.0.stdout.take() {
            stdout.read_to_string(&mut out).expect("it prints text");
        }
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut err).expect("it prints text");
        }
        Ran { code: self.0.wait().expect("it is our child").code(), out, err }
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _killed: bool = self.0.kill().is_ok();
        let _reaped: bool = self.0.wait().is_ok();
    }
}

/// Makes a pipe with a name.
pub(crate) fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo is there");
    assert!(made.success());
}

/// A qemu-io or `quod io` that has an image open until it is dropped.
pub(crate) struct Holder {
    child: Option<Killed>,
}

impl Holder {
    /// Opens the image, and waits until it is open.
    #[track_caller]
    pub(crate) fn open(room: &Room, program: &str, args: &[&str]) -> Self {
        let mut command = room.command(program);
        let child = Killed::spawn(command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut holder = Holder { child: Some(child) };
        // The answer comes once the image is open.
        holder.tell("length");
        holder
    }

    /// Gives it a command, and waits for the first line of its answer.
    #[track_caller]
    pub(crate) fn tell(&mut self, command: &str) {
        use std::io::{BufRead, BufReader};
        let child = &mut self.child.as_mut().expect("it runs").0;
        let stdin = child.stdin.as_mut().expect("it is piped");
        stdin.write_all(format!("{command}\n").as_bytes()).expect("it reads commands");
        let mut stdout = BufReader::new(child.stdout.as_mut().expect("it is piped"));
        let mut answer = String::new();
        let read = stdout.read_line(&mut answer).expect("it answers in text");
        assert_ne!(read, 0, "no answer to {command}");
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: &str) {
        self.child.as_ref().expect("it runs").signal(signal);
    }

    /// Ends it by a signal, in place of the end of its input.
    #[track_caller]
    pub(crate) fn end_by(mut self, signal: &str) -> std::process::ExitStatus {
        self.signal(signal);
        let mut child = self.child.take().expect("it runs");
        child.0.wait().expect("it is our child")
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.0.stdin.take());
        let ended = child.0.wait();
        assert!(ended.is_ok_and(|status| status.success()) || std::thread::panicking(), "the holder failed");
    }
}
