//! The same random requests by qemu-io and by us, to twin images: the same disk, clean tables, and the same map of one
//! image by both tools.
//!
//! QUOD_DIFFERENTIAL_SEEDS sets the seeds a geometry; the default makes 200 in all.

mod common;

use common::cases::{ATTEMPTS, Case, dumped, for_each_geometry};
use common::{Ran, Room, same_output};

fn theirs(case: &Case, room: &Room) -> Ran {
    for _ in 0..ATTEMPTS {
        case.create(room, "qemu-img", "theirs.qed");
        let ran = room.peer("qemu-io", &case.arguments("qed", "theirs.qed"));
        if ran.code.is_some() {
            return ran.exits(0);
        }
    }
    panic!("seed {}: qemu-io aborts {ATTEMPTS} times", case.seed);
}

fn check(case: &Case) {
    let room = Room::new();
    case.make_base(&room);
    case.create(&room, common::QUOD, "ours.qed");
    let expected = theirs(case, &room);
    let ran = room.quod(&[&["io"], &case.arguments("qed", "ours.qed")[..]].concat()).exits(0);
    let (read, wanted) = (dumped(&ran), dumped(&expected));
    assert_eq!(read.len(), wanted.len(), "lines of what was read");
    let differing = read.iter().zip(&wanted).find(|(read, wanted)| read != wanted);
    assert_eq!(differing, None, "ours and theirs of what was read");
    let compare = ["compare", "-f", "qed", "-F", "qed", "ours.qed", "theirs.qed"];
    room.quod(&compare).exits(0).prints("Images are identical.");
    room.peer("qemu-img", &compare).exits(0).prints("Images are identical.");
    for image in ["ours.qed", "theirs.qed"] {
        room.quod(&["check", image]).exits(0);
        room.peer("qemu-img", &["check", image]).exits(0);
        same_output(&room, &["map", "-f", "qed", "--output=json", image]);
    }
}

fn geometry(cluster_size: u64, table_size: u64) {
    let seeds =
        std::env::var("QUOD_DIFFERENTIAL_SEEDS").map_or(20, |text| text.parse().expect("a number of seeds"));
    for seed in 0..seeds {
        let case = Case::new(seed, cluster_size, table_size);
        case.passes(check);
    }
}

for_each_geometry!(geometry);
