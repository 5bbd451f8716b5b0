//! Random requests to a disk of any geometry, the same for each seed.
//!
//! Requests stay at or under 1 MiB and images under cluster_size - 1 clusters, where the reference can be trusted.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::{Ran, Room};

/// qemu-io and QEMU's servers sometimes abort by an assertion of their own; then their image is made anew.
pub(crate) const ATTEMPTS: usize = 8;

/// Requests to a disk, drawn from a seed.
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) cluster_size: u64,
    pub(crate) table_size: u64,
    pub(crate) size: u64,
    pub(crate) base: Option<(&'static str, u64)>,
    pub(crate) requests: Vec<String>,
}

fn blocks(rng: &mut Rng, most: u64) -> u64 {
    512 * rng.u64(1..=most / 512)
}

impl Case {
    pub(crate) fn new(seed: u64, cluster_size: u64, table_size: u64) -> Self {
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
    pub(crate) fn make_base(&self, room: &Room) {
        let Some((name, size)) = self.base else { return };
        room.create_by_peer(&["-f", &name[5..], name, &size.to_string()]);
        let mut rng = Rng::with_seed(self.seed);
        for _ in 0..4 {
            let at = 512 * rng.u64(..size / 512);
            let len = blocks(&mut rng, 256 << 10).min(size - at);
            room.write_by_peer(name, &[&format!("write -q -P {} {at} {len}", rng.u8(1..=255))]);
        }
    }

    /// Makes the image, by us or by qemu-img.
    pub(crate) fn create(&self, room: &Room, tool: &str, name: &str) -> Ran {
        let options = format!("cluster_size={},table_size={}", self.cluster_size, self.table_size);
        let size = self.size.to_string();
        let mut args = vec!["create", "-q", "-f", "qed", "-o", &options];
        if let Some((base, _)) = self.base {
            args.extend(["-b", base, "-F", &base[5..]]);
        }
        args.extend([name, &size]);
        room.run(tool, &args, "").exits(0)
    }

    /// What qemu-io and `quod io` are run with.
    pub(crate) fn arguments<'a>(&'a self, format: &'a str, image: &'a str) -> Vec<&'a str> {
        let commands = self.requests.iter().flat_map(|request| ["-c", request]);
        ["-f", format, image].into_iter().chain(commands).collect()
    }

    /// Runs a check of it, and tells what it is when that fails.
    pub(crate) fn passes(&self, check: impl FnOnce(&Case) + std::panic::UnwindSafe) {
        let Case { seed, cluster_size, table_size, size, base, requests } = self;
        let requests = requests.join("\n");
        let told = format!(
            "seed {seed}, clusters of {cluster_size}, tables of {table_size}, {size} bytes over {base:?}:\n{requests}"
        );
        let checked = std::panic::catch_unwind(|| check(self));
        assert!(checked.is_ok(), "{told}");
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
pub(crate) fn dumped(ran: &Ran) -> Vec<&str> {
    ran.out.lines().filter(|line| line.as_bytes().get(8) == Some(&b':')).collect()
}

/// Tests of `$check`, a function of cluster size and table size, one for each geometry.
macro_rules! for_each_geometry {
    ($check:ident) => {
        for_each_geometry! { $check
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
    };
    ($check:ident $($name:ident: $cluster:expr, $table:expr;)*) => {
        $(
            #[test]
            fn $name() {
                $check($cluster, $table);
            }
        )*
    };
}
pub(crate) use for_each_geometry;
