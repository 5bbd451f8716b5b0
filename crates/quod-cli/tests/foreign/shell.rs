//! nbdsh: each command with each flag, each error, and the options of the handshake.

use crate::common::servers::Wanted;
use crate::compare;
use crate::differences::Difference;
use crate::images::{LARGE, OVER, PLAIN};
use crate::listed;
use crate::script::{Script, Step};

macro_rules! shell {
    ($name:literal) => {
        Step::nbdsh(
            $name,
            concat!(include_str!("nbdsh/prelude.py"), include_str!(concat!("nbdsh/", $name, ".py"))),
        )
    };
}

#[track_caller]
fn check(image: &'static str, read_only: bool, steps: &'static [Step], differences: &[Difference]) {
    compare(&Script { image, wanted: Wanted { read_only }, steps }, differences);
}

#[test]
fn reads_and_their_chunks() {
    check(PLAIN, false, const { &[shell!("reads")] }, listed::READS);
}

#[test]
fn writes_and_flushes() {
    check(PLAIN, false, const { &[shell!("writes")] }, listed::WRITES);
}

#[test]
fn zeroes_and_trims() {
    check(PLAIN, false, const { &[shell!("zeroes")] }, listed::ZEROES);
}

#[test]
fn status_and_cache() {
    check(PLAIN, false, const { &[shell!("status")] }, &[]);
}

#[test]
fn status_over_a_backing_file() {
    check(OVER, false, const { &[shell!("status")] }, listed::STATUS_OVER);
}

#[test]
fn every_flag_of_every_command() {
    check(PLAIN, false, const { &[shell!("flags")] }, listed::FLAGS);
}

#[test]
fn a_disk_that_may_not_change() {
    check(PLAIN, true, const { &[shell!("read_only")] }, listed::READ_ONLY);
}

#[test]
fn options_of_the_handshake() {
    check(PLAIN, false, const { &[shell!("handshake")] }, listed::HANDSHAKE);
}

#[test]
fn lengths_beyond_32_bits_and_blocks_too_large() {
    check(LARGE, false, const { &[shell!("large")] }, &[]);
}
