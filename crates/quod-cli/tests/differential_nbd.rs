//! The first random requests of `differential.rs` again, by qemu-io through NBD on both sides: `quod serve` has one image,
//! qemu-nbd or qemu-storage-daemon its twin.
//!
//! QUOD_DIFFERENTIAL_NBD_SEEDS sets the seeds a geometry; the default makes 30 in all.

mod common;

use common::cases::{ATTEMPTS, Case, dumped, for_each_geometry};
use common::servers::{Kind, Server, Wanted};
use common::{Ran, Room, same_output};

/// Makes the image, serves it, and runs the requests. Nothing where the server did not live to the end.
fn run(case: &Case, room: &Room, kind: Kind, image: &str) -> Option<Ran> {
    case.create(room, if kind == Kind::Quod { common::QUOD } else { "qemu-img" }, image);
    let server = Server::start(room, kind, image, Wanted::default());
    let ran = room.peer("qemu-io", &case.arguments("raw", &server.uri));
    if ran.code != Some(0) && kind != Kind::Quod {
        return None;
    }
    server.stop();
    Some(ran.exits(0))
}

/// What libnbd is told of an image, by us and by the peer.
fn same_map(room: &Room, peer: Kind, image: &str, context: &str) {
    let map = |kind| {
        let server = Server::start(room, kind, image, Wanted { read_only: true });
        let ran = room.peer("nbdinfo", &[&format!("--map={context}"), &server.uri]).exits(0);
        server.stop();
        ran.out
    };
    assert_eq!(map(Kind::Quod), map(peer), "{context} of {image}, ours and that of {peer:?}");
}

fn check(case: &Case) {
    let peer = [Kind::QemuNbd, Kind::StorageDaemon][case.seed as usize % 2];
    let room = Room::new();
    case.make_base(&room);
    let expected = (0..ATTEMPTS).find_map(|_| run(case, &room, peer, "theirs.qed"));
    let expected = expected.unwrap_or_else(|| panic!("{peer:?} fails {ATTEMPTS} times"));
    let ran = run(case, &room, Kind::Quod, "ours.qed").expect("ours always gives its answer");
    assert_eq!(dumped(&ran), dumped(&expected), "ours and theirs of what was read");
    let compare = ["compare", "-f", "qed", "-F", "qed", "ours.qed", "theirs.qed"];
    room.quod(&compare).exits(0).prints("Images are identical.");
    room.peer("qemu-img", &compare).exits(0).prints("Images are identical.");
    for image in ["ours.qed", "theirs.qed"] {
        room.quod(&["check", image]).exits(0);
        room.peer("qemu-img", &["check", image]).exits(0);
        same_output(&room, &["map", "-f", "qed", "--output=json", image]);
        same_map(&room, peer, image, "base:allocation");
        // Past the end of a shorter file below, we say that nothing is allocated, and the others name its depth.
        if case.base.is_none_or(|(_, size)| size >= case.size) {
            same_map(&room, peer, image, "qemu:allocation-depth");
        }
    }
}

fn geometry(cluster_size: u64, table_size: u64) {
    let seeds = std::env::var("QUOD_DIFFERENTIAL_NBD_SEEDS")
        .map_or(3, |text| text.parse().expect("a number of seeds"));
    for seed in 0..seeds {
        Case::new(seed, cluster_size, table_size).passes(check);
    }
}

for_each_geometry!(geometry);
