//! Many requests on one thread, whose operations end in any order.

mod common;

use std::path::Path;

use common::backing::Backing;
use common::gate::{Gate, GateOpener, Gated, Kind};
use common::task::Task;
use common::*;
use proptest::prelude::*;
use quod::{Fua, Image, Room};
use quod_storage::{Access, Buffer};

/// Ends operations one by one, the one that `choose` picks among those in flight, until every task is over.
fn run_all<T>(gate: &Gate, tasks: &mut [(Task<'_, T>, Option<T>)], mut choose: impl FnMut(usize) -> usize) {
    let mut rounds = 0;
    loop {
        rounds += 1;
        assert!(rounds < 1000, "requests wake each other without end");
        for (task, outcome) in tasks.iter_mut() {
            if let Some(over) = task.step() {
                *outcome = Some(over);
            }
        }
        if tasks.iter().any(|(task, _)| task.is_woken() && !task.is_done()) {
            continue;
        }
        let waiting = gate.waiting();
        match waiting.len() {
            0 => break,
            len => gate.release(waiting[choose(len)].id),
        }
        rounds = 0;
    }
    let stranded = tasks.iter().filter(|(_, outcome)| outcome.is_none()).count();
    assert_eq!(stranded, 0, "requests that nobody wakes");
}

/// A task for each part of the disk: a write of its own bytes, then a look at them.
async fn write_and_look(image: &Image<Gated>, at: u64, len: usize, seed: u64) {
    let bytes = pattern(seed, len);
    let fua = if seed.is_multiple_of(3) { Fua::Yes } else { Fua::No };
    image.write(at, Buffer::copy_of(&bytes), fua).await.expect("a write");
    let back = image.read(at, Buffer::zeroed(len)).await.expect("a read");
    assert_same(&back, &bytes, "one's own write");
    if seed.is_multiple_of(4) {
        image.flush().await.expect("a flush");
    }
    if seed.is_multiple_of(5) {
        image.maintain().await.expect("maintenance");
    }
    if seed.is_multiple_of(7) {
        image.write_zeroes(at, len as u64, Room::GiveBack, Fua::No).await.expect("a zero write");
    }
}

fn check(backing: Backing, order: &[prop::sample::Index]) {
    const PARTS: u64 = 40;
    const LEN: usize = 3000;
    let opener = GateOpener::new();
    let shape = Shape::small(5 << 20);
    let below = backing.make(&opener.plain, 0);
    let image = fresh(&opener, Path::new(DISK), shape, below);
    let mut model = backing.window(0, shape.size as usize);
    // Three tables, clusters shared by neighbours, and some of a table that is being linked.
    let place = |part: u64| (part % 3) * (2 << 20) + (part / 3) * LEN as u64 + 500;
    opener.gate.shut();
    let mut tasks: Vec<_> =
        (0..PARTS).map(|part| Task::start(write_and_look(&image, place(part), LEN, part))).collect();
    let mut order = order.iter().cycle();
    run_all(&opener.gate, &mut tasks, |len| order.next().map_or(0, |index| index.index(len)));
    drop(tasks);
    opener.gate.open();
    for part in 0..PARTS {
        let bytes = if part % 7 == 0 { vec![0; LEN] } else { pattern(part, LEN) };
        model[place(part) as usize..][..LEN].copy_from_slice(&bytes);
    }
    assert_same(&read_all(&image), &model, "the disk");
    close(image);
    assert_clean(&opener, Path::new(DISK));
    let image = open(&opener, Path::new(DISK), Access::Read);
    assert_same(&read_all(&image), &model, "the disk, opened again");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_end_rightly_in_whatever_order_their_operations_end(
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
        backing in prop_oneof![Just(Backing::None), Just(Backing::Raw(3_000_001)), Just(Backing::Qed(5 << 20))],
    ) {
        check(backing, &order);
    }
}

#[test]
fn flushes_that_wait_together_share_one() {
    let opener = GateOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
    write(&image, 0, &[1; 512]);
    opener.gate.shut();
    let mut first = Task::blocked(image.flush());
    let flight = opener.gate.only(Kind::Flush);
    // What completes while a flush is in flight is not covered by it: those who come now need another one, together.
    let (_write, written) = {
        let mut write = Task::blocked(image.write(0, Buffer::copy_of(&[2; 512]), Fua::No));
        opener.gate.release(opener.gate.waiting()[1].id);
        let written = write.step();
        (write, written)
    };
    written.expect("a write in place needs no flush").unwrap();
    let mut others: Vec<_> = (0..10).map(|_| Task::blocked(image.flush())).collect();
    assert_eq!(opener.gate.only(Kind::Flush).id, flight.id, "one flush at a time");
    opener.gate.release(flight.id);
    first.step().expect("the first flush is over").unwrap();
    assert!(others.iter_mut().all(|task| task.step().is_none()), "the first flush does not cover them");
    let second = opener.gate.only(Kind::Flush);
    opener.gate.release(second.id);
    let mut rounds = 0;
    while !others.iter().all(Task::is_done) {
        others.iter_mut().filter_map(Task::step).for_each(|outcome| outcome.unwrap());
        rounds += 1;
        assert!(rounds < 100, "a stranded flush");
    }
    assert_eq!(opener.gate.waiting(), [], "two flushes for eleven");
}

#[test]
fn requests_that_miss_on_one_slice_share_its_load() {
    let opener = GateOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
    write(&image, 0, &[1; 2 << 20]);
    close(image);
    let image = open(&opener, Path::new(DISK), Access::Read);
    opener.gate.shut();
    let mut tasks: Vec<_> = (0..20).map(|i| Task::start(image.read(4096 * i, Buffer::zeroed(10)))).collect();
    opener.gate.only(Kind::Read);
    run_all(&opener.gate, &mut tasks, |_| 0);
    let stats = image.cache_stats();
    assert_eq!(stats.misses, 2, "one slice of L1, one of L2: {stats:?}");
}

#[test]
fn requests_that_wait_for_maintenance_sleep() {
    let opener = GateOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
    write(&image, 0, &[1; 512]);
    quod::block_on(image.maintain()).unwrap();
    opener.gate.shut();
    let mut first = Task::blocked(image.maintain());
    let byte = || Buffer::copy_of(&[2; 512]);
    let mut writers: Vec<_> = (1..5).map(|i| Task::blocked(image.write(4096 * i, byte(), Fua::No))).collect();
    let (mut second, outcome) = Task::start(image.maintain());
    assert!(outcome.is_none_or(|outcome| outcome.is_ok()));
    // Flushes, then the header; before its last flush ends, a write in place makes another one necessary.
    let mut header_written = false;
    while !header_written {
        let now = opener.gate.waiting()[0];
        header_written = now.kind == Kind::Write;
        opener.gate.release(now.id);
        assert!(first.step().is_none());
    }
    let last = opener.gate.only(Kind::Flush);
    let mut in_place = Task::blocked(image.write(0, byte(), Fua::No));
    opener.gate.release(opener.gate.waiting()[1].id);
    in_place.step().expect("a write in place waits for nobody").unwrap();
    opener.gate.release(last.id);
    first.step().expect("the first one is over").unwrap();
    // The second one, if it has anything to do, is at work now. Everybody else waits until something ends.
    let mut steps = 0;
    while second.step().is_none() && writers.iter().any(Task::is_woken) {
        writers.iter_mut().for_each(|writer| drop(writer.step()));
        steps += 1;
        assert!(steps < 100, "requests wake each other while they wait");
    }
}

#[test]
fn room_that_is_tried_is_given_back_before_anybody_else_takes_any() {
    let opener = GateOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
    write(&image, 0, &[1; 4096]);
    let first_write = |at| image.write(at, Buffer::copy_of(&[2; 4096]), Fua::No);
    opener.gate.shut();
    let mut failing = Task::blocked(first_write(4096));
    opener.gate.fail(opener.gate.only(Kind::Write).id, std::io::ErrorKind::StorageFull);
    assert!(failing.step().is_none(), "gives back what it had");
    opener.gate.release_all();
    failing.step().expect("it is over").expect_err("no room");
    let mut trying = Task::blocked(first_write(8192));
    opener.gate.release_all();
    assert!(trying.step().is_none(), "gives back what it has tried");
    let before = opener.gate.waiting().len();
    let mut other = Task::blocked(first_write(12288));
    assert_eq!(opener.gate.waiting().len(), before, "waits for the end of the trial");
    opener.gate.open();
    trying.step().expect("it goes on").expect("room");
    other.step().expect("and so does this one").expect("room");
}
