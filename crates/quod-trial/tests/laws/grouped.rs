//! Law: while many guests make new tables and flush at once under commit policy `grouped`, no crash shows what is forbidden.

use fastrand::Rng;
use quod::{CommitPolicy, Format, Fua};
use quod_sim::Executor;
use quod_trial::{Ask, Case, Examiner, Guest, open};

use crate::for_seeds;

const CLUSTER: u64 = 4096;
/// Bytes of the disk under one table.
const SPAN: u64 = CLUSTER * CLUSTER / 8;
const TABLES: u64 = 5;

/// First writes under all tables, and flushes in the midst of them.
fn asks(dice: &mut Rng) -> Vec<Ask> {
    let ask = |_| {
        let at = dice.u64(..TABLES) * SPAN + dice.u64(..40) * CLUSTER;
        match dice.u32(..8) {
            0..4 => Ask::Write { at, len: 512 * dice.u64(1..12), fua: Fua::No },
            4 => Ask::Write { at, len: CLUSTER, fua: Fua::Yes },
            5 => Ask::Maintain,
            _ => Ask::Flush,
        }
    };
    (0..8).map(ask).collect()
}

#[test]
fn tables_that_are_made_among_flushes_come_with_what_they_name() {
    for_seeds(60, |seed| {
        let mut dice = Rng::with_seed(seed ^ 0x9e0);
        let backing = (dice.u32(..3) > 0).then_some((Format::Raw, TABLES * SPAN));
        let (commit, size) = (CommitPolicy::Grouped, TABLES * SPAN);
        let case = Case {
            cluster_size: CLUSTER as u32,
            table_size: 1,
            size,
            backing,
            commit,
            ..Case::from_seed(seed)
        };
        let place = format!("{case:?}");
        let (world, oracle) = crate::create(&case);
        let mut executor = Executor::new(&world, seed);
        let image = open(&case, &world, &mut executor).expect("a new image opens");
        let guest = Guest::new(image, oracle, &world);
        for _ in 0..6 {
            executor.spawn(guest.clone().work(asks(&mut dice)));
        }
        let examiner = Examiner::new(&case, 30);
        loop {
            let stop = world.operations() + dice.u64(1..6);
            if !executor.run_to_operation(stop) {
                break;
            }
            examiner.crash_here(&world, &guest, 2, &mut dice, &place);
        }
        guest.assert_no_error(&place);
    });
}
