//! Room at the end of the file: no cluster for two, and a length that covers what was reached.

use quod_storage::Held;

use super::disk::Disk;
use super::{block_on, explore, explore_within, side_by_side};
use crate::allocate::FileEnd;
use crate::geometry::Geometry;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::units::ClusterCount;

const CLUSTER: u64 = 4096;
const START: u64 = 2 * CLUSTER;

struct File {
    end: FileEnd,
    disk: Disk,
    within: AtomicU64,
    reached: Mutex<Vec<(u64, u64)>>,
}

impl File {
    fn new(may_grow_ahead: bool) -> Self {
        let geometry = Geometry::new(CLUSTER as u32, 1, 1).expect("a legal geometry");
        File {
            end: FileEnd::new(geometry, START, may_grow_ahead),
            disk: Disk::of_length(START),
            within: AtomicU64::new(START),
            reached: Mutex::default(),
        }
    }

    fn grow(&self, clusters: u64) {
        let room = self.end.allocate(&self.disk, ClusterCount(clusters), &Held::NOTHING);
        let at = block_on(room).expect("no bound is met").0;
        let room = at..at + clusters * CLUSTER;
        if block_on(self.end.reach(&self.disk, room.clone(), &Held::NOTHING, &self.within)).is_ok() {
            assert!(self.disk.now() >= room.end, "an entry may name what the file has");
            assert!(self.within.load(Ordering::Acquire) >= room.end, "and readers take it for good");
            self.end.note_referenced(room.end);
            self.reached.lock().unwrap().push((room.start, room.end));
        }
    }

    fn validate(&self, wanted: usize) {
        let mut reached = self.reached.lock().unwrap().clone();
        reached.sort_unstable();
        assert!(reached.len() >= wanted, "{reached:?}");
        assert!(reached.windows(2).all(|pair| pair[0].1 <= pair[1].0), "a cluster for two: {reached:?}");
        let end = reached.last().map_or(START, |(_, end)| *end);
        self.end.validate(self.disk.now(), end);
    }
}

#[test]
fn no_cluster_is_handed_out_twice() {
    for may_grow_ahead in [false, true] {
        explore_within(Some(5), move || {
            let file = side_by_side(File::new(may_grow_ahead), &[|file| file.grow(1), |file| file.grow(2)]);
            file.validate(2);
        });
    }
}

#[test]
fn room_that_the_file_did_not_get_is_handed_out_again_and_never_to_two() {
    explore(|| {
        let file = File::new(false);
        file.disk.failing.store(1, Ordering::Release);
        let file = side_by_side(file, &[|file| file.grow(1), |file| file.grow(2)]);
        file.grow(1);
        file.validate(2);
    });
}
