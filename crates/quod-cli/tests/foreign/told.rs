//! nbdinfo: what a server says of its exports, and maps of them.

use crate::common::servers::Wanted;
use crate::compare;
use crate::differences::Difference;
use crate::images::{LARGE, OVER, PLAIN};
use crate::listed::{DEPTHS_OF_OVER, FACTS_OF_LARGE, FACTS_OF_OVER, FACTS_OF_PLAIN};
use crate::script::{Script, Step};

const URI: &str = "{uri}";

const FACTS: &[Step] = &[
    Step::new("size", &["nbdinfo", "--size", URI]),
    Step::new("info", &["nbdinfo", "--json", "--no-content", URI]),
    Step::new("info of the list", &["nbdinfo", "--json", "--list", URI]),
    Step::new("info and content", &["nbdinfo", "--json", "--content", URI]),
    Step::new("can connect", &["nbdinfo", "--can", "connect", URI]),
    Step::new("can read", &["nbdinfo", "--can", "read", URI]),
    Step::new("can write", &["nbdinfo", "--can", "write", URI]),
    Step::new("can cache", &["nbdinfo", "--can", "cache", URI]),
    Step::new("can df", &["nbdinfo", "--can", "df", URI]),
    Step::new("can fast-zero", &["nbdinfo", "--can", "fast-zero", URI]),
    Step::new("can flush", &["nbdinfo", "--can", "flush", URI]),
    Step::new("can fua", &["nbdinfo", "--can", "fua", URI]),
    Step::new("can multi-conn", &["nbdinfo", "--can", "multi-conn", URI]),
    Step::new("can trim", &["nbdinfo", "--can", "trim", URI]),
    Step::new("can zero", &["nbdinfo", "--can", "zero", URI]),
    Step::new("has structured replies", &["nbdinfo", "--has", "structured-reply", URI]),
    Step::new("is read-only", &["nbdinfo", "--is", "read-only", URI]),
    Step::new("is rotational", &["nbdinfo", "--is", "rotational", URI]),
    Step::new("is tls", &["nbdinfo", "--is", "tls", URI]),
    Step::new("qemu-nbd lists", &["qemu-nbd", "--list", "--socket", "nbd.sock"]),
];

const MAPS: &[Step] = &[
    Step::new("map", &["nbdinfo", "--map", URI]),
    Step::new("map json", &["nbdinfo", "--json", "--map", URI]),
    Step::new("map totals", &["nbdinfo", "--map", "--totals", URI]),
    Step::new("map depth", &["nbdinfo", "--map=qemu:allocation-depth", URI]),
    Step::new("totals of depth", &["nbdinfo", "--json", "--map=qemu:allocation-depth", "--totals", URI]),
    Step::new("map of an unknown context", &["nbdinfo", "--map=other:thing", URI]),
];

#[track_caller]
fn check(image: &'static str, read_only: bool, steps: &'static [Step], differences: &[Difference]) {
    compare(&Script { image, wanted: Wanted { read_only }, steps }, differences);
}

#[test]
fn a_disk() {
    check(PLAIN, false, FACTS, FACTS_OF_PLAIN);
    check(PLAIN, false, MAPS, &[]);
}

#[test]
fn a_disk_that_may_not_change() {
    check(PLAIN, true, FACTS, FACTS_OF_PLAIN);
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
