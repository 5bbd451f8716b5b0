//! The same random requests by qemu-io and by us, to twin images: the same disk, clean tables, and the same map of one
//! image by both tools.
//!
//! Requests stay at or under 1 MiB and images under cluster_size - 1 clusters, where the reference can be trusted.
//! QUOD_DIFFERENTIAL_SEEDS sets the seeds a geometry; the default makes 200 in all.

mod common;

use std::collections::BTreeSet;

use common::{Ran, Room, same_output};
use fastrand::Rng;

/// qemu-io sometimes aborts by an assertion of its own; then its image is made anew.
const ATTEMPTS: usize = 8;

struct Case {
    seed: u64,
    cluster_size: u64,
    table_size: u64,
    size: u64,
    base: Option<(&'static str, u64)>,
    requests: Vec<String>,
}

fn blocks(rng: &mut Rng, most: u64) -> u64 {
    512 * rng.u64(1..=most / 512)
}

impl Case {
    fn new(seed: u64, cluster_size: u64, table_size: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ cluster_size.rotate_left(20) ^ table_size.rotate_left(50));
        let most = (40 * cluster_size).clamp(2 << 20, 24 << 20);
        let size = most / 2 + blocks(&mut rng, most / 2);
        let base_size = [size, size / 1024 * 512, size + blocks(&mut rng, 1 << 20)][rng.usize(..3)];
        let base = [None, Some(("base.raw", base_size)), Some(("base.qed", base_size))][rng.usize(..3)];
        let mut script =
            Script { size, cluster: cluster_size, over: base.is_some(), zeroed: BTreeSet::new() };
        let requests = (0..rng.usize(4..16)).filter_map(|_| script.next(&mut rng)).collect();
        Case { seed, cluster_size, table_size, size, base, requests }
    }

    /// The file below, with data here and there.
    fn make_base(&self, room: &Room) {
        let Some((name, size)) = self.base else { return };
        room.create_by_peer(&["-f", &name[5..], name, &size.to_string()]);
        let mut rng = Rng::with_seed(self.seed);
        for _ in 0..4 {
            let at = 512 * rng.u64(..size / 512);
            let len = blocks(&mut rng, 256 << 10).min(size - at);
            room.write_by_peer(name, &[&format!("write -q -P {} {at} {len}", rng.u8(1..=255))]);
        }
    }

    fn create(&self, room: &Room, tool: &str, name: &str) -> Ran {
        let options = format!("cluster_size={},table_size={}", self.cluster_size, self.table_size);
        let size = self.size.to_string();
        let mut args = vec!["create", "-q", "-f", "qed", "-o", &options];
        if let Some((base, _)) = self.base {
            args.extend(["-b", base, "-F", &base[5..]]);
        }
        args.extend([name, &size]);
        room.run(tool, &args, "").exits(0)
    }

    fn arguments<'a>(&'a self, image: &'a str) -> Vec<&'a str> {
        let commands = self.requests.iter().flat_map(|request| ["-c", request]);
        ["-f", "qed", image].into_iter().chain(commands).collect()
    }
}

/// Requests of one case, in order.
struct Script {
    size: u64,
    cluster: u64,
    /// There is a file below.
    over: bool,
    /// Clusters that may be zero markers.
    zeroed: BTreeSet<u64>,
}

impl Script {
    /// A write, a zero write, or a read whose bytes are dumped; nothing where the reference would be wrong: a write to a
    /// part of a zero cluster brings the rest of it back from the file below.
    fn next(&mut self, rng: &mut Rng) -> Option<String> {
        let whole = rng.bool();
        let unit = if whole { self.cluster } else { 512 };
        let at = rng.u64(..self.size / unit) * unit;
        let most = if rng.u8(..4) == 0 { 1 << 20 } else { 64 << 10 };
        let len = if whole { unit * rng.u64(1..=4) } else { blocks(rng, most) };
        let len = len.min(1 << 20).min(self.size - at);
        let kind = rng.u8(..10);
        if kind >= 8 {
            return Some(format!("read -v {at} {}", len.min(4096)));
        }
        let (first, last) = (at / self.cluster, (at + len - 1) / self.cluster);
        let partial = |edge: u64| !edge.is_multiple_of(self.cluster);
        let hits = |edge: u64, cluster: u64| partial(edge) && self.zeroed.contains(&cluster);
        if self.over && (hits(at, first) || hits(at + len, last)) {
            return None;
        }
        if kind < 5 {
            return Some(format!("write -P {} {at} {len}", rng.u8(1..=255)));
        }
        self.zeroed.extend(first..=last);
        Some(format!("write -z {at} {len}"))
    }
}

/// The lines of dumped bytes; the others tell times.
fn dumped(ran: &Ran) -> Vec<&str> {
    ran.out.lines().filter(|line| line.as_bytes().get(8) == Some(&b':')).collect()
}

fn theirs(case: &Case, room: &Room) -> Ran {
    for _ in 0..ATTEMPTS {
        case.create(room, "qemu-img", "theirs.qed");
        let ran = room.peer("qemu-io", &case.arguments("theirs.qed"));
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
    let ran = room.quod(&[&["io"], &case.arguments("ours.qed")[..]].concat()).exits(0);
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
        let told = format!(
            "seed {seed}, clusters of {cluster_size}, tables of {table_size}, {} bytes over {:?}:\n{}",
            case.size,
            case.base,
            case.requests.join("\n")
        );
        let checked = std::panic::catch_unwind(|| check(&case));
        assert!(checked.is_ok(), "{told}");
    }
}

macro_rules! geometries {
    ($($name:ident: $cluster:expr, $table:expr;)*) => {
        $(
            #[test]
            fn $name() {
                geometry($cluster, $table);
            }
        )*
    };
}

geometries! {
    clusters_of_4k_tables_of_2: 4 << 10, 2;
    clusters_of_4k_tables_of_16: 4 << 10, 16;
    clusters_of_8k_tables_of_4: 8 << 10, 4;
    clusters_of_16k_tables_of_2: 16 << 10, 2;
    clusters_of_32k_tables_of_8: 32 << 10, 8;
    clusters_of_64k_tables_of_4: 64 << 10, 4;
    clusters_of_64k_tables_of_16: 64 << 10, 16;
    clusters_of_256k_tables_of_4: 256 << 10, 4;
    clusters_of_1m_tables_of_2: 1 << 20, 2;
    clusters_of_2m_tables_of_4: 2 << 20, 4;
}
