//! The image that is served, killed over and looked at.
//!
//! Role: makes it, with stamped bytes below; tells what it holds, by the reference and by its server.
//!
//! Invariant: looking changes nothing in the file.

use fastrand::Rng;
use quod_nbd::Command;
use quod_sim::{SECTOR, stamp};

use crate::common::Room;
use crate::common::serving::Serving;
use crate::common::wire::{Ask, Wire};

/// Rounds that one image lives.
pub(crate) const LIFE: u64 = 10;

/// The sort of disk that a test kills servers of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sort {
    pub(crate) cluster: u64,
    /// In clusters.
    pub(crate) table: u64,
    /// `raw` or `qed`.
    pub(crate) over: Option<&'static str>,
    /// `through` or `grouped`.
    pub(crate) commit: &'static str,
}

pub(crate) struct Disk {
    /// On the disk of the checkout.
    pub(crate) room: Room,
    /// Where a path is short enough for a socket.
    sockets: Room,
    pub(crate) sort: Sort,
    /// What a round finds untouched, in bytes.
    pub(crate) window: u64,
    pub(crate) size: u64,
    /// What it held when it was last looked at.
    pub(crate) contents: Vec<u8>,
}

impl Disk {
    pub(crate) fn make(sort: Sort, rng: &mut Rng) -> Self {
        let room = Room::on_disk();
        // In all less than the reference can count leaks in (cluster_size - 1 clusters).
        let window = sort.cluster * if sort.cluster > 4096 { 128 } else { 256 };
        // One window more than there are rounds. The last cluster is not whole.
        let size = window * (LIFE + 1) - 3 * SECTOR;
        let mut contents = Vec::new();
        let options = format!("cluster_size={},table_size={}", sort.cluster, sort.table);
        let mut args = vec!["create", "-q", "-f", "qed", "-o", &options];
        if let Some(format) = sort.over {
            contents = base(size * 2 / 3 / SECTOR * SECTOR, rng);
            room.write("base.raw", &contents);
            if format == "qed" {
                room.peer("qemu-img", &["convert", "-f", "raw", "-O", "qed", "base.raw", "base.qed"])
                    .exits(0);
            }
            args.extend(["-b", if format == "qed" { "base.qed" } else { "base.raw" }, "-F", format]);
        }
        let length = size.to_string();
        args.extend(["a.qed", &length]);
        room.quod(&args).exits(0);
        contents.resize(size as usize, 0);
        Disk { room, sockets: Room::new(), sort, window, size, contents }
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.sockets.path("socket")
    }

    /// What `quod serve` is run with.
    pub(crate) fn arguments(&self) -> [String; 7] {
        let socket = self.socket().display().to_string();
        let commit = self.sort.commit.into();
        [
            "--format".into(),
            "qed".into(),
            "--commit".into(),
            commit,
            "--socket".into(),
            socket,
            "a.qed".into(),
        ]
    }

    pub(crate) fn serve(&self) -> Serving {
        Serving::start(&self.room, &self.arguments().each_ref().map(String::as_str))
    }

    /// Has its server write a cluster where no round has been.
    #[track_caller]
    pub(crate) fn write_fresh(&mut self, sequence: u64) {
        let at = self.window * LIFE;
        let bytes = stamp::bytes(at, self.sort.cluster as usize, sequence);
        Wire::connect(&self.socket()).ask(&Ask::write(at, &bytes)).expect("it can be written");
        self.contents[at as usize..][..bytes.len()].copy_from_slice(&bytes);
    }

    /// The whole disk as the reference reads it.
    #[track_caller]
    pub(crate) fn read_by_peer(&self) -> Vec<u8> {
        self.room.read_by_peer("a.qed")
    }

    /// The whole disk as its server reads it.
    #[track_caller]
    pub(crate) fn read_by_server(&self) -> Vec<u8> {
        let mut wire = Wire::connect(&self.socket());
        let mut bytes = Vec::with_capacity(self.size as usize);
        while (bytes.len() as u64) < self.size {
            let at = bytes.len() as u64;
            let read = wire.ask(&Ask::of(Command::Read, at, (self.size - at).min(1 << 20)));
            bytes.extend(read.expect("it can be read"));
        }
        bytes
    }
}

/// A disk with stamped bytes in about half of it.
fn base(size: u64, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    let mut at = 0;
    while at < size {
        let end = (at + SECTOR * rng.u64(1..256)).min(size);
        if rng.bool() {
            stamp::fill(&mut bytes[at as usize..end as usize], at, stamp::BACKING);
        }
        at = end;
    }
    bytes
}
