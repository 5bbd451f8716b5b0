//! The same image served by us, by qemu-nbd, or by qemu-storage-daemon.

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use super::{Killed, QUOD, Room, wait_until};

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
    child: Killed,
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
        let mut child = Killed::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log));
        wait_until("it takes clients", || {
            let ended = child.0.try_wait().expect("it is our child");
            let told = || String::from_utf8_lossy(&room.read("server.log")).into_owned();
            assert!(ended.is_none(), "{kind:?} did not serve {image}: {}", told());
            UnixStream::connect(&socket).is_ok()
        });
        Server { child, uri: format!("nbd+unix:///?socket={place}") }
    }

    /// Asks it to end, and checks that it does so in order.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.child.signal("-TERM");
        let mut status = None;
        wait_until("it ends", || {
            status = self.child.0.try_wait().expect("it is our child");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
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
