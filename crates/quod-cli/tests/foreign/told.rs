//! nbdinfo: what a server says of its exports, and maps of them.

use crate::common::servers::Wanted;
use crate::compare;
use crate::differences::Difference;
use crate::images::{LARGE, OVER, PLAIN};
use crate::listed::{DEPTHS_OF_OVER, FACTS_OF_LARGE, FACTS_OF_OVER, FACTS_OF_PLAIN, LISTED_BY_QEMU};
use crate::script::{Script, Step};

const URI: &str = "{uri}";

const FACTS: &[Step] = &[
    Step::new("size", &["nbdinfo", "--size", URI]),
    Step::new("info", &["nbdinfo", "--json", "--no-content", URI]),
    Step::new("info of the list", &["nbdinfo", "--json", "--list", URI]),
    Step::new("info and content", &["nbdinfo", "--json", "--content", URI]),
    Step::new("can connect", &["nbdinfo", "--can", "connect", URI]),
    Step::new("can read", &["nbdinfo", "--can", "read", URI]),
    Step::new("can cache", &["nbdinfo", "--can", "cache", URI]),
    Step::new("can df", &["nbdinfo", "--can", "df", URI]),
    Step::new("can flush", &["nbdinfo", "--can", "flush", URI]),
    Step::new("can fua", &["nbdinfo", "--can", "fua", URI]),
    Step::new("can multi-conn", &["nbdinfo", "--can", "multi-conn", URI]),
    Step::new("is rotational", &["nbdinfo", "--is", "rotational", URI]).exiting(2),
    Step::new("is tls", &["nbdinfo", "--is", "tls", URI]).exiting(2),
];

const LISTS: &[Step] =
    &[Step::new("list of qemu-nbd", &["qemu-nbd", "--list", "--socket", "{room}nbd.sock"])];

const CHANGES: &[Step] = &[
    Step::new("can write", &["nbdinfo", "--can", "write", URI]),
    Step::new("can fast-zero", &["nbdinfo", "--can", "fast-zero", URI]),
    Step::new("can trim", &["nbdinfo", "--can", "trim", URI]),
    Step::new("can zero", &["nbdinfo", "--can", "zero", URI]),
    Step::new("is read-only", &["nbdinfo", "--is", "read-only", URI]).exiting(2),
];

const NO_CHANGES: &[Step] = &[
    Step::new("can write", &["nbdinfo", "--can", "write", URI]).exiting(2),
    Step::new("can fast-zero", &["nbdinfo", "--can", "fast-zero", URI]).exiting(2),
    Step::new("can trim", &["nbdinfo", "--can", "trim", URI]).exiting(2),
    Step::new("can zero", &["nbdinfo", "--can", "zero", URI]).exiting(2),
    Step::new("is read-only", &["nbdinfo", "--is", "read-only", URI]),
];

const MAPS: &[Step] = &[
    Step::new("map", &["nbdinfo", "--map", URI]),
    Step::new("map json", &["nbdinfo", "--json", "--map", URI]),
    Step::new("map totals", &["nbdinfo", "--map", "--totals", URI]),
    Step::new("map depth", &["nbdinfo", "--map=qemu:allocation-depth", URI]),
    Step::new("totals of depth", &["nbdinfo", "--json", "--map=qemu:allocation-depth", "--totals", URI]),
    Step::new("map of an unknown context", &["nbdinfo", "--map=other:thing", URI]).exiting(1),
];

#[track_caller]
fn check(image: &'static str, read_only: bool, steps: &'static [Step], differences: &[Difference]) {
    compare(&Script { image, wanted: Wanted { read_only }, steps }, differences);
}

#[test]
fn a_disk() {
    check(PLAIN, false, FACTS, FACTS_OF_PLAIN);
    check(PLAIN, false, LISTS, LISTED_BY_QEMU);
    check(PLAIN, false, CHANGES, &[]);
    check(PLAIN, false, MAPS, &[]);
}

#[test]
fn a_disk_that_may_not_change() {
    check(PLAIN, true, FACTS, FACTS_OF_PLAIN);
    check(PLAIN, true, NO_CHANGES, &[]);
    check(PLAIN, true, MAPS, &[]);
}

#[test]
fn a_disk_over_a_backing_file() {
    check(OVER, false, FACTS, FACTS_OF_OVER);
    check(OVER, false, MAPS, DEPTHS_OF_OVER);
}

#[test]
fn a_disk_of_more_than_4_gib() {
    check(LARGE, false, FACTS, FACTS_OF_LARGE);
    check(LARGE, false, MAPS, &[]);
}
