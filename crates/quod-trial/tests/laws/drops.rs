//! Law (D13): a future may be dropped at any await point. Nothing is stuck, nothing lands on what came later, and
//! crashes find nothing new.

use fastrand::Rng;
use quod::{CommitPolicy, ErrorKind, Format, Fua, Room};
use quod_sim::{Executor, Faults, World};
use quod_trial::{
    Ask, Asks, Case, Dropped, Examiner, Guest, Leaks, assert_closed, close, kill_and_reopen, open, spawn,
    validate,
};

use crate::for_seeds;

/// Steps on; now and then drops a task in the middle and puts another in its place.
pub(crate) fn run_and_drop(
    case: &Case,
    guest: &Guest,
    executor: &mut Executor,
    dice: &mut Rng,
    steps: usize,
) {
    for _ in 0..steps {
        if !executor.step() {
            return;
        }
        let under_way = executor.under_way();
        if !under_way.is_empty() && dice.u32(..25) == 0 {
            executor.cancel(under_way[dice.usize(..under_way.len())]);
            let mut asks = Asks::new(case, guest.image.size(), dice.u64(..));
            executor.spawn(guest.clone().work(asks.take(8)));
        }
    }
}

fn run(seed: u64) {
    let case = Case::from_seed(seed);
    let place = format!("{case:?}, futures dropped");
    let examiner = Examiner::new(&case, 3);
    let mut dice = Rng::with_seed(seed ^ 0xd409);
    let (world, oracle) = crate::create(&case);
    let mut executor = Executor::new(&world, seed);
    let image = open(&case, &world, &mut executor).expect("a new image opens");
    let guest = Guest::new(image, oracle, &world);
    spawn(&case, &guest, &mut executor, seed);
    for _ in 0..4 {
        run_and_drop(&case, &guest, &mut executor, &mut dice, 300);
        examiner.crash_here(&world, &guest, 3, &mut dice, &place);
    }
    executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
    guest.assert_no_error(&place);
    guest.assert_no_violation(&place);
    guest.oracle.borrow_mut().model.settle();
    guest.compare(&mut executor, &place);
    close(&guest, &mut executor, &place);
    // What a dropped request has taken is leaked (D1).
    assert_closed(&world, Leaks::Inside, &place);
}

#[test]
fn futures_may_be_dropped_at_any_await_point() {
    for_seeds(25, run);
}

/// Requests of every kind, over clusters that are and that are not allocated.
const ASKS: [Ask; 11] = [
    Ask::Write { at: 0, len: 4096, fua: Fua::No },
    Ask::Write { at: 512, len: 8192, fua: Fua::Yes },
    Ask::Write { at: 9000, len: 700, fua: Fua::No },
    Ask::Zero { at: 1024, len: 512, room: Room::Keep, fua: Fua::No },
    Ask::Zero { at: 4096, len: 12288, room: Room::GiveBack, fua: Fua::Yes },
    Ask::Discard { at: 0, len: 16384, fua: Fua::No },
    Ask::Read { at: 0, len: 16384 },
    Ask::Status { at: 0, len: 1 << 20 },
    Ask::Flush,
    Ask::Maintain,
    Ask::Grow { by: 1 << 20 },
];

/// An open disk after a first write and `then`, of whose next request the future is dropped.
struct Interrupted {
    world: World,
    executor: Executor,
    guest: Guest,
    /// It ended before that.
    ended: bool,
}

fn interrupt(case: &Case, then: &[Ask], ask: Ask, dropped: Dropped) -> Interrupted {
    let (world, oracle) = crate::create(case);
    let mut executor = Executor::new(&world, case.seed);
    let image = open(case, &world, &mut executor).expect("a new image opens");
    // Whatever waits for storage, waits.
    world.set_faults(Faults { instant: 0, ..case.faults() });
    let guest = Guest::new(image, oracle, &world);
    let first = [Ask::Write { at: 0, len: 1024, fua: Fua::No }];
    executor.block_on(guest.clone().work([&first, then].concat())).expect("not stuck");
    let asked = guest.clone();
    let ended = executor.block_on(async move { asked.ask_and_drop(ask, dropped).await }).expect("not stuck");
    Interrupted { world, executor, guest, ended }
}

/// Drops the request at that await point, asks for others over it, crashes in between. `false` once it ends before it.
fn drop_at(case: &Case, ask: Ask, dropped: Dropped) -> bool {
    let place = format!("{case}: {ask:?} dropped by {dropped:?}");
    let examiner = Examiner::new(case, 3);
    let mut dice = Rng::with_seed(case.seed ^ u64::from(dropped.polls));
    let Interrupted { world, mut executor, guest, ended } = interrupt(case, &[Ask::Maintain], ask, dropped);
    examiner.crash_here(&world, &guest, 2, &mut dice, &place);
    let mut next = [ask, Ask::Write { at: 2048, len: 9000, fua: Fua::No }, Ask::Flush];
    dice.shuffle(&mut next);
    for next in next {
        executor.spawn(guest.clone().work(vec![next]));
    }
    for _ in 0..dice.u32(..40) {
        executor.step();
    }
    examiner.crash_here(&world, &guest, 2, &mut dice, &place);
    executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
    guest.assert_no_error(&place);
    guest.assert_no_violation(&place);
    guest.compare(&mut executor, &place);
    validate(&guest, &mut executor, &place);
    close(&guest, &mut executor, &place);
    assert_closed(&world, Leaks::Inside, &place);
    !ended
}

/// Drops a request at one await point after another, until it ends before that; tells how many it has.
fn every_drop(drop_at: impl Fn(Dropped) -> bool) -> usize {
    let points = |woken| (0..).take_while(|&polls| drop_at(Dropped { polls, woken })).count();
    points(false).max(points(true))
}

#[test]
fn every_await_point_of_every_request_may_be_its_last() {
    for_seeds(4, |seed| {
        for backing in [None, Some((Format::Raw, 1 << 20)), Some((Format::Qed, 1 << 20))] {
            let case =
                Case { cluster_size: 4096, table_size: 1, size: 1 << 20, backing, ..Case::from_seed(seed) };
            for ask in ASKS {
                let dropped = every_drop(|dropped| drop_at(&case, ask, dropped));
                // Tables that are in the cache, and a file without changes.
                let may_know = matches!(ask, Ask::Flush | Ask::Maintain | Ask::Status { .. });
                assert!(dropped > 0 || may_know, "{ask:?} awaits nothing");
            }
        }
    });
}

/// What comes next may take the room that the cut is to give back.
#[test]
fn a_dropped_cut_is_over_before_anybody_gets_room() {
    for_seeds(40, |seed| {
        // Under the other policy the first maintenance brings what is pending to the file, and cuts nothing.
        let (size, commit) = (1 << 20, CommitPolicy::Through);
        let case =
            Case { cluster_size: 4096, table_size: 1, size, backing: None, commit, ..Case::from_seed(seed) };
        let dropped = every_drop(|dropped| drop_at(&case, Ask::Maintain, dropped));
        assert!(dropped > 3, "it flushes, cuts, flushes, and clears the bit");
    });
}

/// Drops the request at that await point of a disk of which everything is durable, and closes at once. `false` once it
/// ends before it.
fn close_after(case: &Case, ask: Ask, dropped: Dropped) -> bool {
    let place = format!("{case}: closed when {ask:?} was dropped by {dropped:?}");
    let settled = [Ask::Flush, Ask::Maintain, Ask::Maintain, Ask::Maintain];
    let Interrupted { world, mut executor, guest, ended } = interrupt(case, &settled, ask, dropped);
    close(&guest, &mut executor, &place);
    assert_eq!(world.uncertain(), 0, "{place}: a close leaves something to be lost");
    assert_closed(&world, Leaks::Inside, &place);
    let oracle = guest.oracle.take().closed();
    let image = open(case, &world, &mut executor).unwrap_or_else(|error| panic!("{place}: {error}"));
    Guest::new(image, oracle, &world).compare_reopened(&mut executor, &place);
    !ended
}

#[test]
fn a_close_makes_durable_whatever_a_dropped_request_has_done() {
    for_seeds(4, |seed| {
        for backing in [None, Some((Format::Raw, 1 << 20)), Some((Format::Qed, 4 << 20))] {
            let case =
                Case { cluster_size: 4096, table_size: 1, size: 1 << 20, backing, ..Case::from_seed(seed) };
            let asks = ASKS.into_iter().chain([Ask::Grow { by: 3 << 20 }]);
            let dropped: usize = asks.map(|ask| every_drop(|dropped| close_after(&case, ask, dropped))).sum();
            assert!(dropped > ASKS.len(), "{dropped} futures were dropped of requests of every kind");
        }
    });
}

/// First writes of few clusters in each of three slices of tables, and zero writes of few or of all behind, most of them
/// dropped, some without room; then a close, and a look.
#[test]
fn what_dropped_requests_left_in_several_tables_is_not_forgotten() {
    for_seeds(60, |seed| {
        let mut dice = Rng::with_seed(seed ^ 0x7ab1e5);
        let backing = if seed % 3 == 0 { Some((Format::Raw, 1 << 20)) } else { None };
        // Slices of a table each, or of one table.
        let table_size = if seed % 2 == 0 { 1 } else { 4 };
        let case = Case { cluster_size: 4096, table_size, size: 5 << 20, backing, ..Case::from_seed(seed) };
        let place = format!("{case}: dropped in several tables, seed {seed}");
        let (world, oracle) = crate::create(&case);
        let mut executor = Executor::new(&world, seed);
        let image = open(&case, &world, &mut executor).expect("a new image opens");
        let guest = Guest::new(image, oracle, &world);
        if seed % 4 == 1 {
            world.set_faults(Faults { full: 60, ..case.faults() });
        }
        for _ in 0..40 {
            let at = dice.u64(..3) * (2 << 20) + 4096 * dice.u64(..3);
            let len = 4096 * dice.u64(1..3);
            let ask = match dice.u32(..6) {
                0 => Ask::Zero { at, len: case.size - at, room: Room::GiveBack, fua: Fua::No },
                1 => Ask::Zero { at, len, room: Room::GiveBack, fua: Fua::No },
                _ => Ask::Write { at, len, fua: Fua::No },
            };
            let polls = if dice.u32(..3) == 0 { u32::MAX } else { dice.u32(..12) };
            let (asked, dropped) = (guest.clone(), Dropped { polls, woken: false });
            executor.block_on(async move { asked.ask_and_drop(ask, dropped).await }).expect("not stuck");
        }
        executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
        world.set_faults(case.faults());
        world.set_full(false);
        guest.errors.borrow_mut().retain(|(_, kind, _)| seed % 4 != 1 || *kind != ErrorKind::NoSpace);
        guest.assert_no_error(&place);
        guest.compare(&mut executor, &place);
        validate(&guest, &mut executor, &place);
        close(&guest, &mut executor, &place);
        kill_and_reopen(&case, &world, &guest, executor, &place);
    });
}
