//! Room that runs out: a file system that is full, and a limit on the length of files, each until there is room again.
//!
//! A small file system needs a mount namespace of its own: as root, or where users may make namespaces.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use quod_nbd::Errno;
use rustix::fs::statvfs;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::BELOW;
use crate::common::{Killed, Room};
use crate::guest::{CLUSTER, Guest, SIZE};

/// A file system in memory, for as long as this lives. Only who goes through `path` sees it.
struct SmallFileSystem {
    path: PathBuf,
    _holder: Killed,
    _below: Room,
}

impl SmallFileSystem {
    #[track_caller]
    fn mount(size: &str) -> Self {
        let below = Room::new();
        let script = format!("mount -t tmpfs -o size={size} small . && echo mounted && exec sleep infinity");
        let mut command = below.command("unshare");
        command.args(["--map-root-user", "--mount", "--kill-child", "sh", "-c", &script]);
        let mut holder = Killed::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let mut line = String::new();
        let mut lines = BufReader::new(holder.0.stdout.as_mut().expect("it is piped"));
        lines.read_line(&mut line).expect("it prints text");
        assert_eq!(line, "mounted\n", "a namespace is needed here: be root, or allow users to make them");
        let path = PathBuf::from(format!("/proc/{}/root{}", holder.0.id(), below.path("").display()));
        SmallFileSystem { path, _holder: holder, _below: below }
    }

    /// Takes all room but so many bytes, until the file is removed.
    fn leave(&self, bytes: u64) -> PathBuf {
        let space = statvfs(&self.path).expect("it is mounted");
        let ballast = self.path.join("ballast");
        fs::write(&ballast, vec![1; (space.f_bavail * space.f_frsize - bytes) as usize])
            .expect("it has room");
        ballast
    }
}

/// Writes cluster after cluster, from `first` on, until one fails.
fn write_until_full(guest: &mut Guest, first: u64) -> u64 {
    let mut at = first;
    while guest.write(at, CLUSTER).inspect_err(|&errno| assert_eq!(errno, Errno::NoSpc)).is_ok() {
        at += CLUSTER;
        assert!(at < SIZE, "it is not full");
    }
    assert!(at > first, "there was no room at all");
    at
}

#[test]
fn a_full_file_system_fails_what_needs_room_until_there_is_some() {
    for over in BELOW {
        let file_system = SmallFileSystem::mount("64m");
        let mut guest = Guest::new(Room::within(&file_system.path), over);
        assert_eq!(guest.write(0, CLUSTER), Ok(()));
        let ballast = file_system.leave(2 << 20);
        let full = write_until_full(&mut guest, 4 * CLUSTER);
        for _ in 0..3 {
            assert_eq!(guest.write(full, CLUSTER), Err(Errno::NoSpc));
            assert_eq!(
                guest.write(full + 5 * CLUSTER + 512, 512).err().unwrap_or(Errno::NoSpc),
                Errno::NoSpc
            );
        }
        guest.is_dirty();
        guest.reads_all();
        assert_eq!(guest.write(4 * CLUSTER, CLUSTER), Ok(()), "that has its room");
        assert_eq!(guest.flush(), Ok(()), "all that was answered is safe");
        assert_eq!(guest.write_durably(0, 4096), Ok(()));
        guest.reads_all();

        fs::remove_file(&ballast).expect("it is there");
        assert_eq!(guest.write(full, CLUSTER), Ok(()));
        assert_eq!(guest.write(full + 5 * CLUSTER + 512, 512), Ok(()));
        assert_eq!(guest.flush(), Ok(()));
        guest.reads_all();

        file_system.leave(1 << 20);
        write_until_full(&mut guest, full + 8 * CLUSTER);
        guest.reads_all();
        guest.ends_well();
    }
}

/// Limits how long files may be that the server writes; `None` lifts that.
fn limit(guest: &Guest, bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let id = Pid::from_child(&guest.serving.server.0);
    prlimit(Some(id), Resource::Fsize, Rlimit { current: bytes, maximum }).expect("it is our child");
}

#[test]
fn a_write_that_gets_in_half_fails_for_want_of_space_and_latches_nothing() {
    for over in BELOW {
        let mut guest = Guest::with_data(over);
        // In the middle of the third cluster: the header and L1 take five, the first L2 table four, the first data lies
        // behind them.
        limit(&guest, Some(11 * CLUSTER + CLUSTER / 2 - 512));
        let before = guest.bytes(0, 512);
        assert_eq!(guest.write(0, 3 * CLUSTER), Err(Errno::NoSpc));
        assert!(guest.bytes(0, 512) != before, "the first half is in");
        assert_eq!(guest.write(32 * CLUSTER, 32 * CLUSTER), Err(Errno::NoSpc), "the file cannot grow");
        guest.reads_all();
        assert_eq!(guest.flush(), Ok(()));
        limit(&guest, None);
        assert_eq!(guest.write(0, 3 * CLUSTER), Ok(()));
        assert_eq!(guest.write(32 * CLUSTER, 32 * CLUSTER), Ok(()));
        guest.reads_all();
        guest.ends_well();
    }
}
