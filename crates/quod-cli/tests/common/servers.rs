//! The same image served by us, by qemu-nbd, or by qemu-storage-daemon.

use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{QUOD, Room};

/// Far longer than any of them takes to begin or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Quod,
    QemuNbd,
    StorageDaemon,
}

/// What a server is asked for beyond an image.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) read_only: bool,
}

/// A server that is killed when it is dropped without having been stopped.
pub(crate) struct Server {
    child: Child,
    /// What its clients connect to.
    pub(crate) uri: String,
}

impl Server {
    /// Serves the QED image on a socket of the room, and waits until clients can connect.
    #[track_caller]
    pub(crate) fn start(room: &Room, kind: Kind, image: &str, wanted: Wanted) -> Self {
        let socket = room.path("nbd.sock");
        let place = socket.to_str().expect("temporary directories have plain names");
        let mut command = match kind {
            Kind::Quod => quod(room, place, image, wanted),
            Kind::QemuNbd => qemu_nbd(room, place, image, wanted),
            Kind::StorageDaemon => storage_daemon(room, place, image, wanted),
        };
        let log = std::fs::File::create(room.path("server.log")).expect("the log is made");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{kind:?} is needed here: {error} (cargo xtask test gets it)");
        });
        let mut server = Server { child, uri: format!("nbd+unix:///?socket={place}") };
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            let ended = server.child.try_wait().expect("it is our child");
            let told = || String::from_utf8_lossy(&room.read("server.log")).into_owned();
            assert!(ended.is_none(), "{kind:?} did not serve {image}: {}", told());
            assert!(begun.elapsed() < PATIENCE, "{kind:?} takes no clients: {}", told());
            sleep(Duration::from_millis(5));
        }
        server
    }

    /// Asks it to end, and checks that it does so in order.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill is there").success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _killed: bool = self.child.kill().is_ok();
        let _reaped: bool = self.child.wait().is_ok();
    }
}

fn quod(room: &Room, socket: &str, image: &str, wanted: Wanted) -> Command {
    let mut command = room.command(QUOD);
    command.args(["serve", "--format", "qed", "--socket", socket]);
    if wanted.read_only {
        command.arg("--read-only");
    }
    command.arg(image);
    command
}

fn qemu_nbd(room: &Room, socket: &str, image: &str, wanted: Wanted) -> Command {
    let mut command = room.command("qemu-nbd");
    command.args(["--persistent", "--shared=0", "--allocation-depth", "--discard=unmap", "--format=qed"]);
    command.arg(format!("--socket={socket}"));
    if wanted.read_only {
        command.arg("--read-only");
    }
    command.arg(image);
    command
}

fn storage_daemon(room: &Room, socket: &str, image: &str, wanted: Wanted) -> Command {
    let (read_only, writable) = if wanted.read_only { ("on", "off") } else { ("off", "on") };
    let mut command = room.command("qemu-storage-daemon");
    let common = format!("discard=unmap,read-only={read_only}");
    let values = [
        ("--blockdev", format!("file,node-name=file,filename={image},{common}")),
        ("--blockdev", format!("qed,node-name=disk,file=file,{common}")),
        ("--nbd-server", format!("addr.type=unix,addr.path={socket},max-connections=0")),
        ("--export", format!("nbd,id=disk,node-name=disk,name=,writable={writable},allocation-depth=on")),
    ];
    for (option, value) in &values {
        command.args([option, value.as_str()]);
    }
    command
}
