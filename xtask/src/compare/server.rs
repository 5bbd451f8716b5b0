//! A server under measurement: started, waited for, stopped.
//!
//! Invariant: no server outlives its value.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const START_WITHIN: Duration = Duration::from_secs(10);

/// An NBD server on a Unix socket.
pub(super) struct Server {
    process: Child,
    socket: PathBuf,
}

impl Server {
    /// `quod serve`.
    pub(super) fn quod(quod: &Path, image: &Path, socket: PathBuf, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(quod);
        command.arg("serve").args(options).arg("--socket").arg(&socket).arg(image);
        Server::start(command, socket)
    }

    /// qemu-storage-daemon, reading only, with its defaults.
    pub(super) fn qemu_storage(image: &Path, format: &str, socket: PathBuf) -> Result<Self> {
        let mut command = Command::new("qemu-storage-daemon");
        command
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=file,read-only=on,filename={}", image.display()));
        command.arg("--blockdev").arg(format!("driver={format},node-name=image,file=file,read-only=on"));
        command.arg("--nbd-server").arg(format!("addr.type=unix,addr.path={}", socket.display()));
        command.args(["--export", "type=nbd,id=export,node-name=image,name="]);
        Server::start(command, socket)
    }

    /// qemu-nbd, with room for the connections of any client.
    pub(super) fn qemu_nbd(image: &Path, socket: PathBuf) -> Result<Self> {
        let mut command = Command::new("qemu-nbd");
        command.args(["-t", "-e", "8", "-f", "qed", "-k"]).arg(&socket).arg(image);
        Server::start(command, socket)
    }

    /// What clients call it.
    pub(super) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    fn start(mut command: Command, socket: PathBuf) -> Result<Self> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let process = process.with_context(|| format!("could not start {:?}", command.get_program()))?;
        let mut server = Server { process, socket };
        let give_up = Instant::now() + START_WITHIN;
        while UnixStream::connect(&server.socket).is_err() {
            if let Some(status) = server.process.try_wait()? {
                bail!("{:?} ended before it served: {status}", command.get_program());
            }
            if Instant::now() > give_up {
                bail!("{:?} does not listen on {}", command.get_program(), server.socket.display());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that is gone already has said why on standard error.
        let stopped = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = stopped.and_then(|_| std::fs::remove_file(&self.socket)) {
            eprintln!("after a measurement: {error}");
        }
    }
}
