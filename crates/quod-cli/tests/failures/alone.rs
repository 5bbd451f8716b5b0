//! Calls that fail and cost no more than their request: the next one goes through, and the image closes in order.

use quod_nbd::Errno;
use quod_sim::stamp::{self, Finding};

use crate::BELOW;
use crate::guest::{CLUSTER, Guest, IMAGE};

/// A first write of a whole cluster brings its data to the file, and then its entry.
const THE_ENTRY: &str = ":when=2";

/// Has writes, of data in place and in fresh room, come out as `outcome` says.
#[track_caller]
fn check_data(outcome: &str, errno: Errno) {
    for over in BELOW {
        let mut guest = Guest::with_data(over);
        let sabotage = guest.sabotage(IMAGE, "pwritev", outcome);
        assert_eq!(guest.write(0, 4096), Err(errno));
        assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Err(errno));
        assert_eq!(guest.write(9 * CLUSTER + 512, 512), Err(errno));
        guest.reads_all();
        assert_eq!(guest.flush(), Ok(()), "nothing that was answered is in danger");
        sabotage.end();
        assert_eq!(guest.write(0, 4096), Ok(()));
        assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Ok(()));
        assert_eq!(guest.write_durably(9 * CLUSTER + 512, 512), Ok(()));
        guest.reads_all();
        guest.ends_well();
    }
}

#[test]
fn data_that_cannot_be_written_fails_its_request_alone() {
    check_data("error=EIO", Errno::Io);
}

#[test]
fn a_quota_and_a_full_disk_are_told_as_no_space() {
    check_data("error=EDQUOT", Errno::NoSpc);
    check_data("error=ENOSPC", Errno::NoSpc);
}

#[test]
fn a_read_only_file_system_and_want_of_memory_are_told_as_what_they_are() {
    check_data("error=EROFS", Errno::Perm);
    check_data("error=ENOMEM", Errno::NoMem);
}

#[test]
fn an_entry_that_finds_no_space_goes_out_later_and_latches_nothing() {
    for (over, error) in BELOW.into_iter().flat_map(|over| [(over, "EDQUOT"), (over, "ENOSPC")]) {
        let mut guest = Guest::with_data(over);
        let sabotage = guest.sabotage(IMAGE, "pwritev", &format!("error={error}{THE_ENTRY}"));
        assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Err(Errno::NoSpc));
        guest.reads_all();
        sabotage.end();
        assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Ok(()));
        assert_eq!(guest.flush(), Ok(()));
        guest.reads_all();
        guest.ends_well();
    }
}

#[test]
fn a_read_that_fails_fails_alone() {
    for over in BELOW {
        let mut guest = Guest::with_data(over);
        let sabotage = guest.sabotage(IMAGE, "pread64,preadv", "error=EIO");
        assert_eq!(guest.read(0, 512), Err(Errno::Io));
        assert_eq!(guest.read(CLUSTER, 2 * CLUSTER), Err(Errno::Io));
        assert_eq!(guest.write(0, 512), Ok(()));
        assert_eq!(guest.read(8 * CLUSTER, CLUSTER), Ok(()), "nothing of it lies in this file");
        sabotage.end();
        guest.reads_all();
        guest.ends_well();
    }
}

#[test]
fn a_backing_file_that_cannot_be_read_fails_those_alone_who_need_it() {
    let mut guest = Guest::with_data(Some("raw"));
    let sabotage = guest.sabotage("base.raw", "pread64,preadv", "error=EIO");
    assert_eq!(guest.read(8 * CLUSTER, 512), Err(Errno::Io));
    assert_eq!(
        guest.write(8 * CLUSTER + 512, 512),
        Err(Errno::Io),
        "the rest of the cluster comes from there"
    );
    assert_eq!(guest.zero(9 * CLUSTER + 512, 512), Err(Errno::Io));
    assert_eq!(guest.read(0, 3 * CLUSTER), Ok(()));
    assert_eq!(guest.write(10 * CLUSTER, CLUSTER), Ok(()), "nothing of it comes from there");
    assert_eq!(guest.flush(), Ok(()));
    sabotage.end();
    guest.reads_all();
    assert_eq!(guest.write(8 * CLUSTER + 512, 512), Ok(()));
    guest.reads_all();
    guest.ends_well();
}

#[test]
fn a_file_that_cannot_grow_fails_those_alone_who_need_room() {
    for over in BELOW {
        for (error, errno) in [("EIO", Errno::Io), ("ENOSPC", Errno::NoSpc), ("EROFS", Errno::Perm)] {
            let mut guest = Guest::with_data(over);
            let sabotage = guest.sabotage(IMAGE, "ftruncate", &format!("error={error}"));
            // More than the file has grown ahead by.
            assert_eq!(guest.write(32 * CLUSTER, 32 * CLUSTER), Err(errno));
            assert_eq!(guest.write(0, 3 * CLUSTER), Ok(()), "that has room");
            assert_eq!(guest.flush(), Ok(()));
            guest.reads_all();
            sabotage.end();
            assert_eq!(guest.write(32 * CLUSTER, 32 * CLUSTER), Ok(()));
            guest.reads_all();
            guest.ends_well();
        }
    }
}

#[test]
fn room_that_cannot_be_cleared_fails_those_alone_who_clear_it() {
    for over in BELOW {
        for (error, errno) in [("EIO", Errno::Io), ("ENOSPC", Errno::NoSpc), ("EROFS", Errno::Perm)] {
            let mut guest = Guest::with_data(over);
            let sabotage = guest.sabotage(IMAGE, "fallocate", &format!("error={error}"));
            assert_eq!(guest.trim(0, CLUSTER), Err(errno));
            assert_eq!(guest.zero(512, CLUSTER), Err(errno));
            assert_eq!(guest.write(CLUSTER, 512), Ok(()));
            guest.reads_all();
            sabotage.end();
            assert_eq!(guest.zero(512, CLUSTER), Ok(()));
            guest.reads_all();
            guest.ends_well();
        }
    }
}

#[test]
fn where_the_file_system_cannot_clear_zeroes_are_written() {
    for over in BELOW {
        let mut guest = Guest::with_data(over);
        let sabotage = guest.sabotage(IMAGE, "fallocate", "error=EOPNOTSUPP");
        assert_eq!(guest.zero(512, 2 * CLUSTER), Ok(()));
        assert_eq!(guest.trim(2 * CLUSTER, CLUSTER), Ok(()));
        guest.reads_all();
        sabotage.end();
        guest.ends_well();
    }
}

#[test]
fn interrupted_calls_are_made_again() {
    for over in BELOW {
        let mut guest = Guest::with_data(over);
        let sabotage = guest.sabotage(IMAGE, "pread64,preadv,pwritev,fallocate", "error=EINTR:when=1+2");
        assert_eq!(guest.write(0, CLUSTER), Ok(()));
        assert_eq!(guest.write(8 * CLUSTER, CLUSTER), Ok(()));
        assert_eq!(guest.zero(CLUSTER, 512), Ok(()));
        guest.reads_all();
        sabotage.end();
        guest.reads_all();
        guest.ends_well();
    }
}

#[test]
fn what_a_call_did_not_do_the_next_one_does() {
    // strace does nothing and tells of so many bytes: those are not there, and all others are.
    const DONE: u64 = 5000;
    let mut guest = Guest::with_data(None);
    let before = guest.bytes(0, CLUSTER);
    let sabotage = guest.sabotage(IMAGE, "pwritev", &format!("retval={DONE}:when=1"));
    assert_eq!(guest.write(0, CLUSTER), Ok(()));
    sabotage.end();
    let after = guest.bytes(0, CLUSTER);
    let done = DONE as usize;
    assert!(after[..done] == before[..done], "strace has written nothing");
    let written = stamp::find(&after[8192..], 8192);
    assert!(matches!(written, Finding::Own { .. }) && written != stamp::find(&before[8192..], 8192));
    let Finding::Own { sequence } = written else { unreachable!("it was matched") };
    assert!(after[done..] == stamp::bytes(DONE, after.len() - done, sequence), "what was left to do is done");

    let sabotage = guest.sabotage(IMAGE, "pread64,preadv", &format!("retval={DONE}:when=1"));
    let read = guest.bytes(0, CLUSTER);
    sabotage.end();
    assert!(read[done..] == after[done..], "what was left to read is read");
    assert_eq!(guest.write(0, CLUSTER), Ok(()));
    guest.reads_all();
    guest.ends_well();
}
