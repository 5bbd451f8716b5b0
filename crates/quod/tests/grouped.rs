//! Commit policy `grouped`: what reaches the file when, and what becomes of it when something fails (D7, D10).

mod common;

use std::io::ErrorKind::StorageFull;
use std::path::Path;

use common::backing::Backing;
use common::gate::{GateOpener, Kind};
use common::probe::{Op, Probe, ProbeOpener};
use common::task::Task;
use common::*;
use quod::{CacheBudget, CommitPolicy, ErrorKind, Fua, Image, OpenOptions, PendingBounds, Room, block_on};
use quod_storage::{Access, Buffer, Memory, Opener};

const SHAPE: Shape = Shape { size: 64 << 20, cluster: 4096, table: 2 };
/// Guest bytes under one L1 entry.
const SPAN: u64 = 1024 * 4096;

fn grouped() -> OpenOptions {
    OpenOptions { commit: Some(CommitPolicy::Grouped), ..options(Access::Write) }
}

fn fresh_grouped<O: Opener>(
    opener: &O,
    backing: Option<(&str, quod::Format)>,
    options: &OpenOptions,
) -> Image<O::Storage> {
    make(opener, Path::new(DISK), SHAPE, backing);
    block_on(Image::open(opener, Path::new(DISK), options)).expect("the image opens")
}

struct Disk {
    opener: ProbeOpener,
    image: Image<Probe>,
    file: Memory,
}

impl Disk {
    fn new(backing: Backing) -> Self {
        Disk::with(backing, &grouped())
    }

    fn with(backing: Backing, options: &OpenOptions) -> Self {
        let opener = ProbeOpener::default();
        let below = backing.make(&opener.plain, 0);
        let image = fresh_grouped(&opener, below, options);
        opener.record(DISK).take();
        let file = opener.plain.file(Path::new(DISK));
        Disk { opener, image, file }
    }

    fn changes(&self) -> Vec<Op> {
        self.opener.record(DISK).take_changes()
    }

    fn l1(&self, index: u64) -> u64 {
        entry(&self.file, SHAPE.l1().start + 8 * index)
    }

    /// What the file says of a guest offset whose table it has.
    fn entry(&self, at: u64) -> u64 {
        entry(&self.file, SHAPE.l2(&self.file, at / SPAN).start + at % SPAN / 4096 * 8)
    }
}

fn flushes(changes: &[Op]) -> usize {
    changes.iter().filter(|op| **op == Op::Flush).count()
}

fn raw() -> Backing {
    Backing::Raw(64 << 20)
}

#[test]
fn first_writes_cost_no_flush_and_a_guest_s_flush_two_for_all_of_them() {
    let disk = Disk::new(raw());
    for i in 0..100 {
        write(&disk.image, i * 8192, &[1; 4096]);
    }
    let changes = disk.changes();
    assert_eq!(flushes(&changes), 0);
    assert_eq!(disk.l1(0), 0, "the file knows of no table");
    assert_same(&read(&disk.image, 99 * 8192, 4096), &[1; 4096], "readers see what was written");
    flush(&disk.image);
    let changes = disk.changes();
    assert_eq!(flushes(&changes), 2, "{changes:?}");
    // Three sectors and a bit of one table's entries, and one of L1.
    let written: usize = changes.iter().filter(|op| matches!(op, Op::Write { .. })).count();
    assert_eq!(written, 2, "one write of the table's slice, and one of L1's");
    assert!((0..100).all(|i| disk.entry(i * 8192) > 1));
    flush(&disk.image);
    assert_eq!(disk.changes(), [], "nothing is owed any more");
}

#[test]
fn the_data_is_flushed_before_its_entry_and_a_new_table_before_its_link() {
    let disk = Disk::new(raw());
    for round in 0..3 {
        write(&disk.image, round * 4096, &[1; 4096]);
        write(&disk.image, SPAN * (1 + round), &[1; 4096]);
        flush(&disk.image);
        let changes = disk.changes();
        let position = |what: &str, is: &dyn Fn(&Op) -> bool| {
            changes.iter().position(is).unwrap_or_else(|| panic!("no {what} in {changes:?}"))
        };
        let flush = position("flush", &|op| *op == Op::Flush);
        let data = disk.entry(round * 4096);
        assert!(position("data", &|op| op.writes_in(data..data + 4096)) < flush);
        let new = SHAPE.l2(&disk.file, 1 + round);
        assert!(
            position("new table", &|op| op.writes_in(new.clone())) < flush,
            "unlinked, and so before the flush"
        );
        assert!(position("link", &|op| op.writes_in(SHAPE.l1())) > flush);
        let old = SHAPE.l2(&disk.file, 0);
        let entry = position("entry", &|op| op.writes_in(old.clone()));
        assert_eq!(entry > flush, round > 0, "of a table that L1 leads to");
        assert_eq!(changes.last(), Some(&Op::Flush));
    }
}

#[test]
fn a_new_table_is_written_sparse() {
    let disk = Disk::new(raw());
    write(&disk.image, 0, &[1; 4096]);
    write(&disk.image, SPAN - 4096, &[1; 4096]);
    disk.changes();
    flush(&disk.image);
    let table = SHAPE.l2(&disk.file, 0);
    let bytes = |op: &Op| match op {
        Op::Write { bytes, .. } if op.writes_in(table.clone()) => bytes.len(),
        _ => 0,
    };
    assert_eq!(
        disk.changes().iter().map(bytes).sum::<usize>(),
        2 * 512,
        "a sector at its start, one at its end"
    );
}

#[test]
fn a_write_to_a_cluster_whose_entry_is_pending_goes_to_its_place() {
    let disk = Disk::new(raw());
    write(&disk.image, 0, &[1; 4096]);
    disk.changes();
    write(&disk.image, 512, &[2; 512]);
    let changes = disk.changes();
    assert!(matches!(&changes[..], [Op::Write { bytes, .. }] if bytes.len() == 512), "{changes:?}");
    block_on(disk.image.write_zeroes(1024, 512, Room::GiveBack, Fua::No)).unwrap();
    assert!(matches!(&disk.changes()[..], [Op::Clear { len: 512, .. }]), "punched in place");
    close(disk.image.clone());
    let image = open(&disk.opener, Path::new(DISK), Access::Read);
    let wanted: Vec<u8> = [[1; 512], [2; 512], [0; 512], [1; 512]].concat();
    assert_same(&read(&image, 0, 2048), &wanted, "after the close");
}

#[test]
fn zero_markers_wait_with_the_others() {
    let disk = Disk::new(raw());
    write(&disk.image, 0, &[1; 4096]);
    flush(&disk.image);
    disk.changes();
    block_on(disk.image.write_zeroes(4096, 40960, Room::GiveBack, Fua::No)).unwrap();
    assert_eq!(disk.changes(), []);
    assert_same(&read(&disk.image, 4096, 40960), &[0; 40960], "readers see zeroes");
    write(&disk.image, 8192, &[3; 100]);
    block_on(disk.image.maintain()).unwrap();
    flush(&disk.image);
    let wanted = [[1, 1], [1, 1]];
    assert_eq!([[disk.entry(4096), disk.entry(12288)], [disk.entry(16384), disk.entry(20480)]], wanted);
    assert!(disk.entry(8192) > 1, "the marker was replaced once the data was durable");
}

#[test]
fn what_is_pending_goes_out_at_its_bounds() {
    let bounds =
        [PendingBounds { entries: 8, bytes: 1 << 30 }, PendingBounds { entries: 1 << 30, bytes: 8 * 4096 }];
    for pending in bounds {
        let disk = Disk::with(raw(), &OpenOptions { pending, ..grouped() });
        // The first entry of all is the link.
        let mut due = Task::start(disk.image.maintenance_due()).0;
        assert!(due.step().is_none());
        for i in 0..64 {
            write(&disk.image, i * 4096, &[1; 4096]);
            let is_due = due.is_done() || due.step().is_some();
            // The link is an entry, too.
            assert!(if is_due { i >= 2 } else { i < 3 }, "{pending:?}: half of it after {i}");
        }
        let batches = flushes(&disk.changes());
        assert!((7..=9).contains(&batches), "{pending:?}: {batches} batches of about eight");
    }
}

#[test]
fn first_writes_wait_at_the_bounds_alone() {
    let pending = PendingBounds { entries: 2, ..PendingBounds::default() };
    let disk = Disk::with(raw(), &OpenOptions { pending, ..grouped() });
    // A link and an entry.
    assert!(!disk.image.first_writes_wait());
    write(&disk.image, 0, &[1; 4096]);
    assert!(disk.image.first_writes_wait());
    flush(&disk.image);
    assert!(!disk.image.first_writes_wait());
}

#[test]
fn slices_of_a_small_cache_are_not_kept_past_a_quarter_of_it() {
    let disk = Disk::with(raw(), &OpenOptions { cache: CacheBudget::Own(16 << 10), ..grouped() });
    for i in 0..16 {
        write(&disk.image, i * SPAN, &[1; 4096]);
        // A quarter is one slice: full, from the first write on, and each write makes a link and an entry.
        assert_eq!(disk.image.cache_stats().kept, 2);
    }
    close(disk.image);
    assert_clean(&disk.opener, Path::new(DISK));
}

#[test]
fn maintenance_brings_what_is_pending_to_the_file() {
    let disk = Disk::new(raw());
    block_on(disk.image.maintain()).unwrap();
    write(&disk.image, 0, &[1; 4096]);
    block_on(disk.image.maintain()).unwrap();
    assert!(disk.entry(0) > 1);
    assert_eq!(disk.image.cache_stats().kept, 0);
}

#[test]
fn the_file_grows_ahead_and_is_cut_when_nothing_comes_any_more() {
    let disk = Disk::new(raw());
    for at in 0..32 {
        write(&disk.image, at * 4096, &[1; 4096]);
    }
    let changes = disk.changes();
    assert_eq!(changes.iter().filter(|op| matches!(op, Op::SetLen(_))).count(), 1, "for all of them");
    let maintain = || block_on(disk.image.maintain()).unwrap();
    // The first one looks through the tables, the second one is not idle yet.
    maintain();
    maintain();
    assert!(disk.entry(0) > 1 && length(&disk.file) > disk.entry(31 * 4096) + 4096);
    maintain();
    assert_eq!(length(&disk.file), disk.entry(31 * 4096) + 4096);
    disk.changes();
    maintain();
    assert_eq!(disk.changes(), [], "once");
    write(&disk.image, 32 * 4096, &[1; 4096]);
    close(disk.image);
    assert_clean(&disk.opener, Path::new(DISK));
}

#[test]
fn a_durable_write_brings_its_entry_and_the_link_to_the_file() {
    let disk = Disk::new(raw());
    block_on(disk.image.write(SPAN, Buffer::copy_of(&[1; 4096]), Fua::Yes)).unwrap();
    assert!(disk.entry(SPAN) > 1);
    let changes = disk.changes();
    assert_eq!((flushes(&changes), changes.last()), (2, Some(&Op::Flush)));
    // In place now, on a path that is in the file.
    block_on(disk.image.write(SPAN, Buffer::copy_of(&[2; 4096]), Fua::Yes)).unwrap();
    assert_eq!(flushes(&disk.changes()), 1);
}

#[test]
fn a_durable_write_in_place_brings_the_pending_entry_of_an_earlier_one() {
    let disk = Disk::new(raw());
    write(&disk.image, 0, &[1; 4096]);
    block_on(disk.image.write(0, Buffer::copy_of(&[2; 512]), Fua::Yes)).unwrap();
    assert!(disk.entry(0) > 1);
}

#[test]
fn growth_and_close_leave_nothing_pending() {
    let disk = Disk::new(raw());
    write(&disk.image, 0, &[1; 4096]);
    block_on(disk.image.grow(128 << 20)).unwrap();
    assert!(disk.entry(0) > 1, "before the new size");
    write(&disk.image, 100 << 20, &[2; 4096]);
    close(disk.image.clone());
    assert!(disk.entry(100 << 20) > 1);
    assert_clean(&disk.opener, Path::new(DISK));
}

#[test]
fn without_a_backing_file_no_data_is_waited_for() {
    let disk = Disk::new(Backing::None);
    write(&disk.image, 0, &[1; 4096]);
    assert_eq!(flushes(&disk.changes()), 1, "NEED_CHECK");
    flush(&disk.image);
    assert_eq!(flushes(&disk.changes()), 2, "the table, before its link; and the guest's");
    write(&disk.image, 4096, &[1; 4096]);
    assert_eq!(disk.entry(4096), 0);
    flush(&disk.image);
    assert_eq!(flushes(&disk.changes()), 1);
    assert!(disk.entry(4096) > 1);
}

#[test]
fn want_of_room_for_entries_keeps_what_is_pending() {
    let disk = Disk::new(raw());
    write(&disk.image, 0, &[1; 4096]);
    flush(&disk.image);
    write(&disk.image, 4096, &[2; 4096]);
    let table = SHAPE.l2(&disk.file, 0);
    disk.opener.record(DISK).fail(move |op| op.writes_in(table.clone()).then_some(StorageFull));
    for _ in 0..3 {
        let refused = block_on(disk.image.flush()).expect_err("the entry finds no room");
        assert_eq!(refused.kind(), ErrorKind::NoSpace);
        assert_same(&read(&disk.image, 4096, 4096), &[2; 4096], "readers see it all the same");
        write(&disk.image, 4096, &[2; 512]);
    }
    disk.opener.record(DISK).heal();
    flush(&disk.image);
    assert!(disk.entry(4096) > 1);
    close(disk.image);
    assert_clean(&disk.opener, Path::new(DISK));
}

#[test]
fn a_slice_without_room_keeps_no_other_waiting() {
    let disk = Disk::new(raw());
    for at in [0, SPAN] {
        write(&disk.image, at, &[1; 4096]);
    }
    flush(&disk.image);
    for at in [4096, SPAN + 4096] {
        write(&disk.image, at, &[2; 4096]);
    }
    let table = SHAPE.l2(&disk.file, 0);
    disk.opener.record(DISK).fail(move |op| op.writes_in(table.clone()).then_some(StorageFull));
    assert_eq!(block_on(disk.image.flush()).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(disk.entry(4096), 0);
    assert!(disk.entry(SPAN + 4096) > 1, "the other has what it waited for");
}

#[test]
fn a_link_waits_until_its_table_has_found_room() {
    let disk = Disk::new(raw());
    for at in [0, SPAN] {
        write(&disk.image, at, &[1; 4096]);
    }
    disk.changes();
    let mut is_first = true;
    // The first table's only slice. It is tried once more, when slices that are reached are.
    disk.opener.record(DISK).fail(move |_| std::mem::take(&mut is_first).then_some(StorageFull));
    assert_eq!(block_on(disk.image.flush()).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(disk.l1(0), 0);
    assert!(disk.entry(SPAN) > 1, "the other one does not wait for it");
    flush(&disk.image);
    assert!(disk.entry(0) > 1);
    close(disk.image);
    assert_clean(&disk.opener, Path::new(DISK));
}

#[test]
fn a_close_without_room_flushes_what_needs_none() {
    let disk = Disk::new(raw());
    write(&disk.image, 0, &[1; 4096]);
    flush(&disk.image);
    write(&disk.image, 0, &[2; 4096]);
    block_on(disk.image.write_zeroes(8192, 4096, Room::GiveBack, Fua::No)).unwrap();
    disk.changes();
    let table = SHAPE.l2(&disk.file, 0);
    disk.opener.record(DISK).fail(move |op| op.writes_in(table.clone()).then_some(StorageFull));
    assert_eq!(block_on(disk.image.close()).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(flushes(&disk.changes()), 1, "of the write in place");
}

#[test]
fn a_flush_that_fails_reaches_everyone_who_waits() {
    let disk = Disk::new(raw());
    write(&disk.image, 0, &[1; 4096]);
    disk.opener.record(DISK).fail(|op| (*op == Op::Flush).then_some(std::io::ErrorKind::Other));
    assert_eq!(block_on(disk.image.flush()).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(block_on(disk.image.flush()).unwrap_err().kind(), ErrorKind::Latched);
    assert_eq!(block_on(disk.image.maintain()).unwrap_err().kind(), ErrorKind::Latched);
    assert_same(&read(&disk.image, 0, 4096), &[1; 4096], "reads go on");
    assert_eq!(disk.l1(0), 0, "the file knows nothing of it");
    assert!(block_on(disk.image.close()).is_err());
}

#[test]
fn a_batch_whose_leader_is_dropped_is_carried_on_by_who_waits() {
    // At every operation of the batch.
    for stop in 0.. {
        let opener = GateOpener::new();
        let below = raw().make(&opener.plain, 0);
        let image = fresh_grouped(&opener, below, &grouped());
        for at in [0, 4096, SPAN] {
            write(&image, at, &[1; 4096]);
        }
        opener.gate.shut();
        let mut leader = Task::start(image.flush()).0;
        let mut ended = false;
        for _ in 0..stop {
            opener.gate.release_all();
            ended |= leader.step().is_some();
        }
        if ended {
            assert!(stop > 4, "a table, a flush, a slice, a link, a flush");
            return;
        }
        let mut follower = Task::blocked(image.flush());
        drop(leader);
        while follower.step().is_none() {
            assert!(opener.gate.release_all() || follower.is_woken(), "the follower waits for nobody");
        }
        opener.gate.open();
        block_on(image.validate()).unwrap();
        let file = opener.plain.file(Path::new(DISK));
        for at in [0, 4096, SPAN] {
            let place = SHAPE.l2(&file, at / SPAN).start + at % SPAN / 4096 * 8;
            assert!(entry(&file, place) > 1, "dropped at step {stop}");
        }
        assert_eq!(image.cache_stats().kept, 0);
    }
}

#[test]
fn flushes_that_wait_together_share_one_batch() {
    let opener = GateOpener::new();
    let below = raw().make(&opener.plain, 0);
    let image = fresh_grouped(&opener, below, &grouped());
    write(&image, 0, &[1; 4096]);
    opener.gate.shut();
    let leader = Task::start(image.flush()).0;
    let mut others: Vec<_> = (0..8).map(|_| Task::blocked(image.flush())).collect();
    let mut flushes = 0;
    others.push(leader);
    while others.iter().any(|task| !task.is_done()) {
        flushes += opener.gate.waiting().iter().filter(|op| op.kind == Kind::Flush).count();
        opener.gate.release_all();
        for task in others.iter_mut().filter(|task| !task.is_done()) {
            if let Some(outcome) = task.step() {
                outcome.unwrap();
            }
        }
    }
    assert!(flushes <= 4, "{flushes}: two for the one that led, and no more than two for all others");
}
