//! What guests ask for, as runs of guest clusters.

use std::collections::HashSet;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Requests of each that is made here.
const REQUESTS: usize = 100_000;
/// Entries of a table of the default geometry, each for a cluster of 64 KiB.
const TABLE: u64 = 32_768;
/// Tables of a disk of 128 GiB.
const TABLES: u64 = 64;
const CLUSTERS: u64 = TABLE * TABLES;
/// Clusters of a MiB.
const REGION: u64 = 16;
/// How uneven popularity is.
const SKEW: f64 = 0.99;
/// Images that share a budget, of as many tables together.
const IMAGES: u64 = 8;

/// A run of guest clusters that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) image: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Whether its hits are told of.
    pub(crate) counts: bool,
}

/// Requests, in order.
pub(crate) struct Workload {
    pub(crate) name: String,
    /// Entries of a table.
    pub(crate) table: u64,
    pub(crate) images: u32,
    pub(crate) requests: Vec<Request>,
}

impl Workload {
    /// How many units of so many entries it asks for.
    pub(crate) fn distinct(&self, entries: u64) -> u64 {
        let units = self.requests.iter().flat_map(|request| {
            (request.first / entries..=request.last / entries).map(|number| (request.image, number))
        });
        units.collect::<HashSet<_>>().len() as u64
    }
}

/// Those that need no file.
pub(crate) fn made() -> Vec<Workload> {
    let rng = &mut SmallRng::seed_from_u64(1);
    let one = |name: &str, requests| Workload { name: name.into(), table: TABLE, images: 1, requests };
    vec![
        one("uniform", requests(|| cluster(rng.random_range(0..CLUSTERS)))),
        one("zipf", zipf(rng)),
        one("sequential", (0..REQUESTS as u64).map(|at| cluster(at % CLUSTERS)).collect()),
        one("a hot eighth beside a scan, hits of the hot eighth", beside_a_scan(rng)),
        Workload {
            name: "eight images, zipf among them".into(),
            table: TABLE,
            images: IMAGES as u32,
            requests: images(rng),
        },
    ]
}

fn requests(mut next: impl FnMut() -> Request) -> Vec<Request> {
    (0..REQUESTS).map(|_| next()).collect()
}

fn cluster(at: u64) -> Request {
    Request { image: 0, first: at, last: at, counts: true }
}

/// MiBs by popularity, scattered over the disk.
fn zipf(rng: &mut SmallRng) -> Vec<Request> {
    let regions = CLUSTERS / REGION;
    let popularity = Zipf::new(regions as f64, SKEW).expect("a skew above 0 over at least one");
    requests(|| {
        let rank = popularity.sample(rng) as u64 - 1;
        // Odd, so that each rank has a place of its own.
        let region = rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % regions;
        cluster(region * REGION + rng.random_range(0..REGION))
    })
}

/// As many requests for an eighth of the disk, at random, as steps of a MiB through all of it, over and over.
fn beside_a_scan(rng: &mut SmallRng) -> Vec<Request> {
    let mut scanned = 0;
    requests(|| {
        if rng.random() {
            return cluster(rng.random_range(0..CLUSTERS / 8));
        }
        scanned = (scanned + REGION) % CLUSTERS;
        Request { counts: false, ..cluster(scanned) }
    })
}

/// The first image has the most requests; each is asked for everywhere.
fn images(rng: &mut SmallRng) -> Vec<Request> {
    let popularity = Zipf::new(IMAGES as f64, SKEW).expect("a skew above 0 over at least one");
    requests(|| {
        let image = popularity.sample(rng) as u32 - 1;
        Request { image, ..cluster(rng.random_range(0..CLUSTERS / IMAGES)) }
    })
}
