//! Calls after whose failure nothing that writes can be promised (D10): every later change is refused, reads go on, the
//! server's end says so, NEED_CHECK stays, and the next writable open repairs.

use quod_nbd::{CMD_FLAG_FUA, Command, Errno};

use crate::BELOW;
use crate::common::Room;
use crate::common::serving::Serving;
use crate::common::wire::{Ask, Wire};
use crate::guest::{CLUSTER, Guest, IMAGE};
use crate::sabotage::Sabotage;

/// The disk is latched by what `fail` does while `calls` come out as `outcome` says.
#[track_caller]
fn check(over: Option<&str>, calls: &str, outcome: &str, fail: impl FnOnce(&mut Guest)) {
    let mut guest = Guest::with_data(over);
    // So that metadata was changed a moment ago.
    assert_eq!(guest.write(4 * CLUSTER, CLUSTER), Ok(()));
    check_on(guest, calls, outcome, fail);
}

#[track_caller]
fn check_on(mut guest: Guest, calls: &str, outcome: &str, fail: impl FnOnce(&mut Guest)) {
    let sabotage = guest.sabotage(IMAGE, calls, outcome);
    fail(&mut guest);
    guest.is_latched();
    sabotage.end();
    guest.is_latched();
    let stopped = guest.stop().was_not_closed();
    assert!(stopped.ran.err.contains("latched: no more writes"), "{:?}", stopped.ran);
    stopped.recovers();
}

#[test]
fn a_failed_flush_latches() {
    for over in BELOW {
        check(over, "fdatasync", "error=EIO", |guest| {
            assert_eq!(guest.write(0, CLUSTER), Ok(()));
            assert_eq!(guest.flush(), Err(Errno::Io));
        });
    }
}

#[test]
fn a_failed_flush_of_a_durable_write_latches() {
    for over in BELOW {
        check(over, "fdatasync", "error=EIO", |guest| {
            assert_eq!(guest.write_durably(0, 4096), Err(Errno::Io));
        });
    }
}

#[test]
fn a_failed_flush_for_want_of_space_latches_and_is_not_told_as_that() {
    for over in BELOW {
        check(over, "fdatasync", "error=ENOSPC", |guest| {
            assert_eq!(guest.write(0, CLUSTER), Ok(()));
            assert_eq!(guest.flush(), Err(Errno::Io), "more room would not help: what is lost is lost");
        });
    }
}

#[test]
fn a_failed_flush_before_an_entry_over_a_backing_file_latches() {
    check(Some("raw"), "fdatasync", "error=EIO", |guest| {
        assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Err(Errno::Io));
    });
}

#[test]
fn a_failed_flush_of_the_bit_latches_before_the_first_entry() {
    let guest = Guest::new(Room::on_disk(), None);
    check_on(guest, "fdatasync", "error=EIO", |guest| {
        assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Err(Errno::Io));
    });
}

#[test]
fn a_bit_that_cannot_be_written_latches_before_the_first_entry() {
    let mut guest = Guest::new(Room::on_disk(), None);
    let sabotage = guest.sabotage(IMAGE, "pwritev", "error=EIO");
    assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Err(Errno::Io));
    guest.is_latched();
    sabotage.end();
    guest.is_latched();
    let stopped = guest.stop();
    assert_eq!(stopped.ran.code, Some(1), "{:?}", stopped.ran);
    assert!(!stopped.found.needs_check, "it was never written, and there is nothing to check");
    stopped.recovers();
}

#[test]
fn a_failed_write_of_an_entry_latches() {
    for over in BELOW {
        check(over, "pwritev", "error=EIO:when=2", |guest| {
            assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Err(Errno::Io));
        });
    }
}

#[test]
fn a_failed_write_of_a_zero_marker_latches() {
    check(Some("raw"), "pwritev", "error=EIO", |guest| {
        assert_eq!(guest.zero(8 * CLUSTER, CLUSTER), Err(Errno::Io));
    });
}

#[test]
fn a_file_system_that_went_read_only_is_told_as_that_until_it_latches() {
    for over in BELOW {
        check(over, "pwritev,ftruncate,fallocate,fdatasync", "error=EROFS", |guest| {
            assert_eq!(guest.write(0, 4096), Err(Errno::Perm));
            assert_eq!(guest.write(20 * CLUSTER, 20 * CLUSTER), Err(Errno::Perm));
            assert_eq!(guest.zero(0, CLUSTER), Err(Errno::Perm));
            assert_eq!(guest.trim(0, CLUSTER), Err(Errno::Perm));
            guest.reads_all();
            assert_eq!(guest.flush(), Err(Errno::Perm), "and that latches");
        });
    }
}

/// Only the end fails: every request was answered well before.
#[track_caller]
fn check_end(over: Option<&str>, calls: &str) {
    let mut guest = Guest::with_data(over);
    assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Ok(()));
    let sabotage = guest.sabotage(IMAGE, calls, "error=EIO");
    guest.reads_all();
    let stopped = guest.stop().was_not_closed();
    sabotage.end();
    stopped.recovers();
}

#[test]
fn an_end_that_cannot_flush_or_cut_or_clear_the_bit_says_so() {
    for over in BELOW {
        check_end(over, "fdatasync");
    }
    check_end(None, "ftruncate");
    check_end(None, "pwritev");
}

#[test]
fn a_durable_clearing_in_many_stretches_is_flushed_once_behind_the_last() {
    const GIB: u64 = 1 << 30;
    for command in [Command::WriteZeroes, Command::Trim] {
        let room = Room::on_disk();
        let sockets = Room::new();
        let socket = sockets.path("socket");
        room.quod(&["create", "-q", IMAGE, "4G"]).exits(0);
        let place = socket.to_str().expect("temporary directories have plain names");
        let serving = Serving::start(&room, &["--aio", "threads", "--socket", place, IMAGE]);
        let mut wire = Wire::connect(&socket);
        for at in [0, GIB, 3 * GIB] {
            assert!(wire.ask(&Ask::write(at, &[7; 4096])).is_ok());
        }
        let sabotage =
            Sabotage::among(&serving, &room, IMAGE, "fallocate,fdatasync", "fdatasync", "error=EIO");
        let length = 4 * GIB - CLUSTER;
        assert!(wire.ask(&Ask::of(command, 0, length)).is_ok(), "{command:?} promises nothing");
        let durable = wire.ask(&Ask::of(command, 0, length).with(CMD_FLAG_FUA));
        assert_eq!(durable, Err(Errno::Io), "{command:?}");
        let log = sabotage.end();
        let calls: Vec<_> = log.lines().filter(|line| line.contains('(')).collect();
        assert_eq!(calls.iter().filter(|call| call.contains("fallocate(")).count(), 6, "{log}");
        assert_eq!(calls.iter().filter(|call| call.contains("fdatasync(")).count(), 1, "{log}");
        assert!(calls.last().is_some_and(|call| call.contains("fdatasync(")), "{log}");
        serving.stop("-TERM").exits(1).tells("a.qed was not closed in order");
    }
}
