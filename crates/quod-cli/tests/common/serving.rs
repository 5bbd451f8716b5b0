//! `quod serve` as a child of a test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use super::{QUOD, Ran, Room};

/// A server that runs until it is told to stop.
pub(crate) struct Serving {
    pub(crate) child: Child,
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
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it is our command");
        let mut lines = BufReader::new(child.stdout.as_mut().expect("it is piped"));
        let mut welcome = String::new();
        while !welcome.contains("Ctrl-C") {
            if lines.read_line(&mut welcome).expect("it prints text") == 0 {
                let mut err = String::new();
                child.stderr.take().expect("it is piped").read_to_string(&mut err).expect("it prints text");
                panic!("no server: {welcome}{err}");
            }
        }
        Serving { child, welcome }
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

    /// Sends a signal, and waits for the end.
    #[track_caller]
    pub(crate) fn stop(self, signal: &str) -> Ran {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill is there").success());
        self.wait()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ran {
        let (mut out, mut err) = (std::mem::take(&mut self.welcome), String::new());
        self.child.stdout.take().expect("it is piped").read_to_string(&mut out).expect("it prints text");
        self.child.stderr.take().expect("it is piped").read_to_string(&mut err).expect("it prints text");
        Ran { code: self.child.wait().expect("it is our child").code(), out, err }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended, or the test has failed and it must not stay behind.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        assert!(ended.is_ok() || std::thread::panicking(), "the server is our child");
    }
}
