//! The images that are served: made by QEMU's tools alone, and copied into the room of each server.

use std::sync::LazyLock;

use crate::common::Room;

/// Data, zero clusters and unallocated parts; the last cluster is cut.
pub(crate) const PLAIN: &str = "plain.qed";
/// The same over a backing file that is shorter.
pub(crate) const OVER: &str = "over.qed";
/// More than 4 GiB, and empty but for a few blocks beyond.
pub(crate) const LARGE: &str = "large.qed";
/// 64 MiB of nothing.
pub(crate) const EMPTY: &str = "empty.qed";

static MADE: LazyLock<Room> = LazyLock::new(|| {
    let room = Room::new();
    let make = |name: &str, options: &[&str], commands: &[&str]| {
        let (size, before) = options.split_last().expect("the size is last");
        room.create_by_peer(&[&["-f", "qed"], before, &[name, size]].concat());
        room.write_by_peer(name, commands);
    };
    make(
        PLAIN,
        &["16777728"],
        &[
            "write -q -P 1 0 1M",
            "write -q -z 2M 1M",
            "write -q -P 3 5M 3k",
            "write -q -P 4 8M 128k",
            "write -q -z 8M 64k",
            "write -q -P 5 16M 512",
        ],
    );
    make("base.qed", &["8M"], &["write -q -P 7 0 3M", "write -q -z 1M 512k", "write -q -P 8 6M 1M"]);
    make(
        OVER,
        &["-b", "base.qed", "-F", "qed", "12M"],
        &[
            "write -q -P 9 512k 256k",
            "write -q -z 2M 512k",
            "write -q -P 10 7M 64k",
            "write -q -P 11 9M 64k",
            "write -q -z 10M 64k",
        ],
    );
    make(LARGE, &["6G"], &["write -q -P 1 1M 64k", "write -q -P 2 5G 64k", "write -q -z 5632M 1M"]);
    make(EMPTY, &["64M"], &[]);
    room
});

/// Copies of all images.
pub(crate) fn furnish(room: &Room) {
    room.take_from(&MADE);
}
