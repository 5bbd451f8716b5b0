//! The image that is served, killed over and looked at.
//!
//! Role: makes it, with stamped bytes below; tells what it holds, by the reference and by its server, and what both
//! checks find in it.
//!
//! Invariant: looking changes nothing in the file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use fastrand::Rng;
use quod_nbd::Command;
use quod_sim::{SECTOR, stamp};

use crate::common::Room;
use crate::common::header::NEED_CHECK;
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

/// What a check of the file found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) leaks: u64,
    pub(crate) needs_check: bool,
}

impl Disk {
    pub(crate) fn make(sort: Sort, rng: &mut Rng) -> Self {
        let room = Room::on_disk();
        // In all less than the reference can count leaks in (cluster_size - 1 clusters).
        let window = sort.cluster * if sort.cluster > 4096 { 128 } else { 256 };
        // The last cluster is not whole.
        let size = window * LIFE - 3 * SECTOR;
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
    pub(crate) fn arguments(&self) -> [String; 5] {
        let socket = self.socket().display().to_string();
        ["--format".into(), "qed".into(), "--socket".into(), socket, "a.qed".into()]
    }

    pub(crate) fn serve(&self) -> Serving {
        Serving::start(&self.room, &self.arguments().each_ref().map(String::as_str))
    }

    /// Checks the file by both tools: there may be leaks, and nothing worse.
    #[track_caller]
    pub(crate) fn check(&self) -> Found {
        let theirs = self.room.peer("qemu-img", &["check", "-f", "qed", "--output=json", "a.qed"]);
        let ours = self.room.quod(&["check", "-f", "qed", "--output=json", "a.qed"]);
        let leaks = [&theirs, &ours].map(|ran| {
            assert!(matches!(ran.code, Some(0 | 3)), "{theirs:?}\n{ours:?}");
            let report: serde_json::Value = serde_json::from_str(&ran.out).expect("it is JSON");
            assert!(report.get("corruptions").is_none(), "{ran:?}");
            assert_eq!(report["check-errors"], 0, "{ran:?}");
            report.get("leaks").map_or(0, |leaks| leaks.as_u64().expect("a number"))
        });
        assert_eq!(leaks[0], leaks[1], "the tools differ");
        Found { leaks: leaks[1], needs_check: self.needs_check() }
    }

    fn needs_check(&self) -> bool {
        let mut features = [0; 8];
        let file = File::open(self.room.path("a.qed")).expect("the image is there");
        file.read_exact_at(&mut features, 16).expect("it has a header");
        u64::from_le_bytes(features) & NEED_CHECK != 0
    }

    /// The whole disk as the reference reads it.
    #[track_caller]
    pub(crate) fn read_by_peer(&self) -> Vec<u8> {
        self.room.peer("qemu-img", &["convert", "-f", "qed", "-O", "raw", "a.qed", "seen.raw"]).exits(0);
        self.room.read("seen.raw")
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
