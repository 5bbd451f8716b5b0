//! A list of foreign commands, run against one server after the other.
//!
//! Invariant: what is left of a command's output after [`Step::run`] depends on what the server did, and neither on
//! time, nor on names of files, nor on the order in which requests in flight end.

use std::io::Write;
use std::process::Stdio;

use crate::common::Room;
use crate::common::servers::{Kind, Server, Wanted};

/// One command.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    program: &'static str,
    /// `{uri}` stands for the server, `{room}` for where it runs.
    args: &'static [&'static str],
    input: &'static str,
    /// What is kept of a line of output, if anything.
    keep: fn(&str) -> Option<String>,
    /// The exit code with every server: what fails everywhere compares nothing.
    code: i32,
}

impl Step {
    /// Every line of the output counts.
    pub(crate) const fn new(name: &'static str, args: &'static [&'static str]) -> Self {
        Step {
            name,
            program: args[0],
            args: args.split_at(1).1,
            input: "",
            keep: |line| Some(line.to_owned()),
            code: 0,
        }
    }

    /// Python for nbdsh, which finds the server's URI in `uri`.
    pub(crate) const fn nbdsh(name: &'static str, input: &'static str) -> Self {
        Step { input, ..Step::new(name, &["nbdsh", "-n", "-c", "uri = '{uri}'", "-c", "-"]) }
    }

    pub(crate) const fn keeping(self, keep: fn(&str) -> Option<String>) -> Self {
        Step { keep, ..self }
    }

    pub(crate) const fn exiting(self, code: i32) -> Self {
        Step { code, ..self }
    }

    /// Runs the command, and returns its output line by line.
    #[track_caller]
    fn run(&self, room: &Room, uri: &str) -> Vec<String> {
        let place = room.path("").display().to_string();
        let args: Vec<String> =
            self.args.iter().map(|arg| arg.replace("{uri}", uri).replace("{room}", &place)).collect();
        let mut command = room.command(self.program);
        // nbdsh takes the first python3 that it finds, and its module is there for the system's.
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(&args).env("PATH", format!("/usr/bin:{path}:/usr/sbin:/sbin"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("{} is needed here: {error} (cargo xtask test gets it)", self.program)
        });
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(self.input.as_bytes()).expect("it reads all of it");
        drop(stdin);
        let output = child.wait_with_output().expect("the child is ours");
        let mut lines = Vec::new();
        for (stream, bytes) in [("", &output.stdout), ("stderr: ", &output.stderr)] {
            let text = String::from_utf8_lossy(bytes).replace(uri, "{uri}").replace(&place, "{room}");
            let kept = text.lines().filter_map(self.keep);
            lines.extend(kept.map(|line| format!("{stream}{}", line.trim())));
        }
        assert_eq!(output.status.code(), Some(self.code), "{}: {lines:#?}", self.name);
        lines
    }
}

/// What one server gave: the lines of each step.
pub(crate) type Told = Vec<(&'static str, Vec<String>)>;

/// Steps that follow each other on one server and one copy of an image.
pub(crate) struct Script {
    pub(crate) image: &'static str,
    pub(crate) wanted: Wanted,
    pub(crate) steps: &'static [Step],
}

impl Script {
    /// Runs all of it, stops the server in order, and leaves the image checked by QEMU and by us.
    #[track_caller]
    pub(crate) fn run(&self, room: &Room, kind: Kind) -> Told {
        let server = Server::start(room, kind, self.image, self.wanted);
        let told = self.steps.iter().map(|step| (step.name, step.run(room, &server.uri))).collect();
        server.stop();
        room.quod(&["check", self.image]).exits(0);
        room.peer("qemu-img", &["check", self.image]).exits(0);
        told
    }
}
