//! `quod serve` as a child of a test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use super::{Killed, QUOD, Ran, Room};

/// A server that runs until it is told to stop.
pub(crate) struct Serving {
    pub(crate) server: Killed,
    /// What it printed before it began to wait.
    pub(crate) welcome: String,
}

impl Serving {
    /// Starts a server, and waits until it says that it serves.
    #[track_caller]
    pub(crate) fn start(room: &Room, args: &[&str]) -> Self {
        let mut command = room.command(QUOD);
        Serving::start_as(command.arg("serve").args(args))
    }

    #[track_caller]
    pub(crate) fn start_as(command: &mut Command) -> Self {
        let mut server =
            Killed::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let child = &mut server.0;
        let mut lines = BufReader::new(child.stdout.as_mut().expect("it is piped"));
        let mut welcome = String::new();
        while !welcome.contains("Ctrl-C") {
            if lines.read_line(&mut welcome).expect("it prints text") == 0 {
                let mut err = String::new();
                child.stderr.take().expect("it is piped").read_to_string(&mut err).expect("it prints text");
                panic!("no server: {welcome}{err}");
            }
        }
        Serving { server, welcome }
    }

    /// The URI that the server names for a client.
    pub(crate) fn uri(&self) -> &str {
        let line = self
            .welcome
            .lines()
            .find_map(|line| line.trim().strip_prefix("nbdinfo '"))
            .expect("it names nbdinfo");
        line.strip_suffix('\'').expect("it is quoted")
    }

    /// What the system says about it: `Threads:`, or memory in KiB, as `VmRSS:` now and `VmHWM:` at most so far.
    pub(crate) fn status(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.server.0.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("Linux tells");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Sends a signal, and waits for the end.
    #[track_caller]
    pub(crate) fn stop(self, signal: &str) -> Ran {
        self.server.signal(signal);
        self.wait()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(self) -> Ran {
        let ran = self.server.wait();
        Ran { out: self.welcome + &ran.out, ..ran }
    }
}
