//! Requests dropped at any moment, operations that end in any order: nothing that completed is lost (D13).

mod common;

use std::path::Path;

use common::backing::Backing;
use common::gate::{GateOpener, Gated};
use common::task::Task;
use common::*;
use proptest::prelude::*;
use quod::{Fua, Image, block_on};
use quod_storage::{Access, Buffer};

const PARTS: usize = 24;
const LEN: u64 = 1024;

/// What the driver does next.
#[derive(Clone, Debug)]
enum Move {
    Step(prop::sample::Index),
    Release(prop::sample::Index),
    Drop(prop::sample::Index),
    /// Begins, or drops, a flush or a `maintain`.
    Keep(bool),
}

fn moves() -> impl Strategy<Value = Move> {
    let index = || any::<prop::sample::Index>();
    prop_oneof![
        5 => index().prop_map(Move::Step),
        5 => index().prop_map(Move::Release),
        1 => index().prop_map(Move::Drop),
        1 => any::<bool>().prop_map(Move::Keep),
    ]
}

/// A part of the disk with one writer at a time. Four of them share a cluster.
struct Part<'a> {
    at: u64,
    /// What it holds before the first write.
    empty: Vec<u8>,
    /// Values that its sectors may have now: the last completed write's, and those of writes dropped since. 0 stands for
    /// what it held before the first.
    possible: Vec<u8>,
    next: u8,
    task: Option<Task<'a, quod::Result<Buffer>>>,
}

impl<'a> Part<'a> {
    fn begin(&mut self, image: &'a Image<Gated>) {
        self.next += 1;
        let fua = if self.next.is_multiple_of(3) { Fua::Yes } else { Fua::No };
        let (mut task, outcome) =
            Task::start(image.write(self.at, Buffer::copy_of(&[self.next; LEN as usize]), fua));
        if let Some(outcome) = outcome.or_else(|| task.step()) {
            self.completed(outcome);
        } else {
            self.task = Some(task);
        }
    }

    fn step(&mut self) {
        if let Some(outcome) = self.task.as_mut().and_then(Task::step) {
            self.completed(outcome);
        }
    }

    fn completed(&mut self, outcome: quod::Result<Buffer>) {
        outcome.expect("nothing fails here");
        self.task = None;
        self.possible = vec![self.next];
    }

    fn give_up(&mut self) {
        if self.task.take().is_some() {
            self.possible.push(self.next);
        }
    }

    fn verify(&self, image: &Image<impl quod_storage::Storage>) {
        let now = read(image, self.at, LEN as usize);
        for (sector, empty) in now.chunks(512).zip(self.empty.chunks(512)) {
            let is = |value: &u8| if *value == 0 { sector == empty } else { *sector == [*value; 512] };
            let (at, possible) = (self.at, &self.possible);
            assert!(possible.iter().any(is), "at {at}: {}... is none of {possible:?}", sector[0]);
        }
    }
}

fn check(backing: Backing, moves: &[Move]) {
    let opener = GateOpener::new();
    let below = backing.make(&opener.plain, 0);
    let image = fresh(&opener, Path::new(DISK), Shape::small((4 << 20) + 9000), below);
    let empty = read_all(&image);
    let place = |i: usize| (i as u64 % 3) * (2 << 20) + (i as u64 / 3) * LEN;
    opener.gate.shut();
    let mut parts: Vec<_> = (0..PARTS)
        .map(|i| {
            let empty = empty[place(i) as usize..][..LEN as usize].to_vec();
            Part { at: place(i), empty, possible: vec![0], next: 0, task: None }
        })
        .collect();
    let mut keeper: Option<Task<'_, quod::Result<()>>> = None;
    for step in moves {
        if let Some(outcome) = keeper.as_mut().and_then(Task::step) {
            outcome.expect("nothing fails here");
            keeper = None;
        }
        match step {
            Move::Step(index) => {
                let part = &mut parts[index.index(PARTS)];
                if part.task.is_none() { part.begin(&image) } else { part.step() }
            }
            Move::Release(index) => {
                let waiting = opener.gate.waiting();
                if !waiting.is_empty() {
                    opener.gate.release(waiting[index.index(waiting.len())].id);
                }
            }
            Move::Drop(index) => parts[index.index(PARTS)].give_up(),
            Move::Keep(_) if keeper.is_some() => keeper = None,
            Move::Keep(true) => keeper = Some(Task::start(image.flush()).0),
            Move::Keep(false) => keeper = Some(Task::start(image.maintain()).0),
        }
    }
    drop(keeper);
    // A last write to every other part; the rest is dropped as it is.
    parts.iter_mut().skip(1).step_by(2).for_each(Part::give_up);
    for _ in 0..10_000 {
        parts.iter_mut().for_each(Part::step);
        if parts.iter().any(|part| part.task.as_ref().is_some_and(Task::is_woken)) {
            continue;
        }
        if !opener.gate.release_all() {
            break;
        }
    }
    assert!(parts.iter().all(|part| part.task.is_none()), "a write that nobody wakes");
    opener.gate.open();
    parts.iter().for_each(|part| part.verify(&image));
    block_on(image.validate()).expect("tables that can be read");
    block_on(image.close()).expect("a close");
    block_on(image.validate()).expect("tables that can be read");
    let report = report(&opener, Path::new(DISK));
    assert_eq!(report.corruptions, 0, "{report:?}");
    assert!(!is_dirty(&opener.plain.file(Path::new(DISK))), "a clean close clears the bit");
    let image = open(&opener, Path::new(DISK), Access::Read);
    parts.iter().for_each(|part| part.verify(&image));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_completed_write_is_lost_to_dropped_ones(
        moves in prop::collection::vec(moves(), 1..600),
        over_backing in any::<bool>(),
    ) {
        check(if over_backing { Backing::Raw(6001) } else { Backing::None }, &moves);
    }
}
