//! System calls of a running server that are made to fail.
//!
//! Invariant: only calls on one file are touched, from the beginning of [`Sabotage`] to its end. Each thread of the server
//! counts its own calls.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::Stdio;

use crate::common::serving::Serving;
use crate::common::{Killed, Room};

/// A strace at work.
pub(crate) struct Sabotage {
    strace: Killed,
    log: PathBuf,
}

impl Sabotage {
    /// From now on the `calls` on `file` come out as `outcome` says, in strace's words: `error=EIO`, `error=EIO:when=2`.
    #[track_caller]
    pub(crate) fn of(serving: &Serving, room: &Room, file: &str, calls: &str, outcome: &str) -> Self {
        Sabotage::among(serving, room, file, calls, calls, outcome)
    }

    /// The same, where the log is to tell of other calls too: `noted` names all.
    #[track_caller]
    pub(crate) fn among(
        serving: &Serving,
        room: &Room,
        file: &str,
        noted: &str,
        calls: &str,
        outcome: &str,
    ) -> Self {
        let (id, path) = (serving.server.0.id().to_string(), room.path(file));
        let log = room.path("strace.log");
        let mut command = room.command("strace");
        command.arg("-f").arg("-o").arg(&log).args(["-p", &id, "-P"]).arg(path);
        command.args(["-e", &format!("trace={noted}"), "-e", &format!("inject={calls}:{outcome}")]);
        let mut strace = Killed::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
        let mut told = String::new();
        let mut lines = BufReader::new(strace.0.stderr.as_mut().expect("it is piped"));
        while !told.contains(" attached") {
            let read = lines.read_line(&mut told).expect("it prints text");
            assert!(
                read > 0 && !told.contains("Operation not permitted"),
                "strace must be allowed to attach (be root, or set kernel.yama.ptrace_scope to 0): {told}"
            );
        }
        Sabotage { strace, log }
    }

    /// Calls succeed again. Some must have failed. Gives the log.
    #[track_caller]
    pub(crate) fn end(mut self) -> String {
        self.strace.signal("-INT");
        let mut rest = String::new();
        self.strace.0.stderr.take().expect("it is piped").read_to_string(&mut rest).expect("it prints text");
        self.strace.0.wait().expect("it is our child");
        let log = std::fs::read_to_string(&self.log).expect("it writes a log");
        assert!(log.contains("(INJECTED)"), "no call was touched: {rest}\n{log}");
        log
    }
}
