//! Law: while many guests make new tables and flush at once under commit policy `grouped`, no crash shows what is forbidden.

use fastrand::Rng;
use quod::{CommitPolicy, Format, Fua};
use quod_sim::Executor;
use quod_trial::{Ask, Case, Examiner, Guest, open};

use crate::for_seeds;

const CLUSTER: u64 = 4096;
/// Bytes of the disk under one table.
const SPAN: u64 = CLUSTER * CLUSTER / 8;

/// First writes under so many tables, and flushes in the midst of them.
fn asks(tables: u64, dice: &mut Rng) -> Vec<Ask> {
    let ask = |_| {
        let at = dice.u64(..tables) * SPAN + dice.u64(..40) * CLUSTER;
        match dice.u32(..8) {
            0..4 => Ask::Write { at, len: 512 * dice.u64(1..12), fua: Fua::No },
            4 => Ask::Write { at, len: CLUSTER, fua: Fua::Yes },
            5 => Ask::Maintain,
            _ => Ask::Flush,
        }
    };
    (0..8).map(ask).collect()
}

/// Guests at work, and a crash every few operations; before so many of those, somebody is dropped and another begins.
fn crash_all_along(seed: u64, tables: u64, mut drops: u32) {
    let mut dice = Rng::with_seed(seed ^ 0x9e0);
    let backing = (dice.u32(..3) > 0).then_some((Format::Raw, tables * SPAN));
    let (commit, size) = (CommitPolicy::Grouped, tables * SPAN);
    let case =
        Case { cluster_size: CLUSTER as u32, table_size: 1, size, backing, commit, ..Case::from_seed(seed) };
    let place = format!("{case:?}");
    let (world, oracle) = crate::create(&case);
    let mut executor = Executor::new(&world, seed);
    let image = open(&case, &world, &mut executor).expect("a new image opens");
    let guest = Guest::new(image, oracle, &world);
    for _ in 0..6 {
        executor.spawn(guest.clone().work(asks(tables, &mut dice)));
    }
    let examiner = Examiner::new(&case, 30);
    loop {
        let stop = world.operations() + dice.u64(1..6);
        if !executor.run_to_operation(stop) {
            break;
        }
        examiner.crash_here(&world, &guest, 2, &mut dice, &place);
        let under_way = executor.under_way();
        if drops > 0 && !under_way.is_empty() && dice.bool() {
            drops -= 1;
            executor.cancel(under_way[dice.usize(..under_way.len())]);
            executor.spawn(guest.clone().work(asks(tables, &mut dice)));
        }
    }
    guest.assert_no_error(&place);
}

#[test]
fn tables_that_are_made_among_flushes_come_with_what_they_name() {
    for_seeds(60, |seed| crash_all_along(seed, 5, 0));
}

#[test]
fn tables_whose_batch_was_dropped_come_with_what_they_name() {
    for_seeds(60, |seed| crash_all_along(seed, 3, 20));
}
