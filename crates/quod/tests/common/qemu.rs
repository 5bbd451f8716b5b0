//! The reference tools, run as people run them. Missing ones fail the test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

/// Runs a tool to its end.
pub(crate) fn run(tool: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    let output = Command::new(tool).args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{tool} is needed for this test: {error}"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a tool that must succeed; returns what it said.
#[track_caller]
pub(crate) fn succeed(tool: &str, arguments: &[&OsStr]) -> String {
    let output = run(tool, arguments);
    assert!(output.status.success(), "{tool} {arguments:?}: {}", text(&output));
    text(&output)
}

/// Makes an image; false when the tool refuses the geometry, or cannot open what it made.
pub(crate) fn create(
    image: &Path,
    size: u64,
    cluster: u32,
    table: u32,
    backing: Option<(&Path, &str)>,
) -> bool {
    let options = format!("cluster_size={cluster},table_size={table}");
    let mut arguments: Vec<&OsStr> = ["create", "-q", "-f", "qed", "-o", &options].map(OsStr::new).into();
    if let Some((file, format)) = &backing {
        arguments.extend([OsStr::new("-b"), file.as_os_str(), OsStr::new("-F"), OsStr::new(*format)]);
    }
    let size = size.to_string();
    arguments.extend([image.as_os_str(), OsStr::new(&size)]);
    run("qemu-img", arguments).status.success()
        && run("qemu-img", ["info".as_ref(), image.as_os_str()]).status.success()
}

/// Runs commands of qemu-io on an image; every one must succeed, patterns included.
#[track_caller]
pub(crate) fn io(format: &str, image: &Path, commands: &[String]) {
    let mut arguments: Vec<&OsStr> = vec!["-f".as_ref(), format.as_ref()];
    commands.iter().for_each(|command| arguments.extend([OsStr::new("-c"), command.as_ref()]));
    arguments.push(image.as_os_str());
    let said = succeed("qemu-io", &arguments);
    assert!(!said.contains("failed"), "{commands:?}: {said}");
}

/// Checks an image; it must be clean.
#[track_caller]
pub(crate) fn check(image: &Path) {
    let said = succeed("qemu-img", &["check".as_ref(), "-f".as_ref(), "qed".as_ref(), image.as_os_str()]);
    assert!(said.contains("No errors were found"), "{said}");
}

/// The content of an image by `qemu-img convert`.
pub(crate) fn content(image: &Path) -> Vec<u8> {
    let raw = image.with_extension("converted");
    let (convert, from, to) =
        ("convert".as_ref(), ["-f", "qed"].map(OsStr::new), ["-O", "raw"].map(OsStr::new));
    succeed("qemu-img", &[convert, from[0], from[1], to[0], to[1], image.as_os_str(), raw.as_os_str()]);
    std::fs::read(&raw).expect("what was converted")
}

/// A qemu-io that has an image open.
pub(crate) struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Holder {
    /// Opens the image and waits until it is open.
    pub(crate) fn open(image: &Path, flags: &[&str]) -> Self {
        let child = Command::new("qemu-io")
            .args(["-f", "qed"])
            .args(flags)
            .arg(image)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("qemu-io is needed for this test: {error}"));
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        let mut holder = Holder { child, input, output: BufReader::new(output) };
        let said = holder.ask("length");
        assert!(said.contains('B'), "the image is open: {said}");
        holder
    }

    /// Runs one command; returns the first line it says.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        let input = self.input.as_mut().expect("it still listens");
        writeln!(input, "{command}").expect("it still listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        line
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go as it wishes, and waits for its end.
    pub(crate) fn quit(mut self) {
        drop(self.input.take());
        self.child.wait().expect("it ends");
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it ends");
    }
}
