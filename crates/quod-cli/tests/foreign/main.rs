//! The same scripts of foreign clients against `quod serve`, qemu-nbd and qemu-storage-daemon, with the same images.
//!
//! Role: a file each for what clients are used: `told.rs`, `shell.rs`, `tools.rs`, `between.rs`. What they print is
//! compared line by line; what may differ is in the tables of these files, with its reason.
//!
//! Invariant: every difference is in a table, and every row of a table is a difference. No server outlives its test.

#[path = "../common/mod.rs"]
mod common;

mod between;
mod differences;
mod images;
mod listed;
mod script;
mod shell;
mod told;
mod tools;

use common::Room;
use common::servers::Kind;
use differences::Difference;
use script::Script;

/// Runs a script against all three, and compares; then the disks too.
#[track_caller]
fn compare(script: &Script, differences: &[Difference]) {
    let run = |kind| {
        let room = Room::new();
        images::furnish(&room);
        let told = script.run(&room, kind);
        (room, told)
    };
    let peers = [Kind::QemuNbd, Kind::StorageDaemon].map(|kind| (kind, run(kind)));
    let (room, ours) = run(Kind::Quod);
    let told: Vec<_> = peers.iter().map(|(kind, (_, told))| (*kind, told.clone())).collect();
    differences::check(differences, &ours, &told);
    for (kind, (theirs, _)) in &peers {
        let theirs = theirs.path(script.image).display().to_string();
        let ran = room.peer("qemu-img", &["compare", "-f", "qed", "-F", "qed", script.image, &theirs]);
        assert_eq!(ran.code, Some(0), "{kind:?}: {ran:?}");
    }
}
