//! What guests do side by side: each model is a handful of scripts, and the schedule draws whether there is a backing file.

use shuttle::rand::{Rng, thread_rng};

use super::explore;
use super::image::{Guest, Script, World, check};
use crate::{CommitPolicy, Fua, Room};

const ROOMY: usize = 8;

/// With a backing file or without, and under either commit policy, as the schedule draws it: a test is one model, so that its
/// schedules can be replayed.
fn on_either(slices: usize, scripts: &'static [Script]) {
    explore(move || {
        let (backing, commit) = (thread_rng().gen_bool(0.5), commit());
        check(World { backing, slices, linked: false, commit }, scripts);
    });
}

fn commit() -> CommitPolicy {
    if thread_rng().gen_bool(0.5) { CommitPolicy::Grouped } else { CommitPolicy::Through }
}

/// Places by number: parts of two clusters under the first table, one under the second, own clusters.
const SHARED: usize = 0;
const NEIGHBOUR: usize = 1;
const OTHER_TABLE: usize = 2;
const OWN: usize = 3;
const OWN_FAR: usize = 4;

fn write(guest: &mut Guest, place: usize) {
    guest.write(place, Fua::No, None);
}

#[test]
fn first_writers_of_one_cluster_lose_nothing() {
    on_either(
        ROOMY,
        &[
            |guest| write(guest, SHARED),
            |guest| write(guest, SHARED),
            |guest| {
                write(guest, SHARED);
                guest.read(SHARED);
            },
        ],
    );
}

#[test]
fn first_writers_under_one_new_table_share_it() {
    on_either(
        ROOMY,
        &[|guest| write(guest, SHARED), |guest| write(guest, NEIGHBOUR), |guest| write(guest, OWN)],
    );
}

#[test]
fn writers_under_many_tables_get_by_with_a_cache_of_two_slices() {
    on_either(
        2,
        &[
            |guest| {
                write(guest, OTHER_TABLE);
                write(guest, SHARED);
            },
            |guest| {
                write(guest, OWN_FAR);
                write(guest, OTHER_TABLE);
            },
            |guest| {
                write(guest, SHARED);
                guest.read(OWN_FAR);
                write(guest, OWN_FAR);
            },
        ],
    );
}

#[test]
fn a_flush_covers_what_its_caller_wrote() {
    on_either(
        ROOMY,
        &[
            |guest| {
                write(guest, SHARED);
                guest.flush();
                write(guest, SHARED);
                guest.flush();
            },
            |guest| {
                guest.write(OTHER_TABLE, Fua::Yes, None);
                write(guest, OTHER_TABLE);
                guest.flush();
            },
            |guest| guest.flush(),
        ],
    );
}

#[test]
fn a_flush_brings_entries_to_the_file_that_another_has_promised() {
    explore(|| {
        // In the same cluster: the one allocates, and the other finds it in its place.
        let writes: Script = |guest| write(guest, SHARED);
        let flushes: Script = |guest| {
            write(guest, SHARED);
            guest.flush();
        };
        let (backing, linked) = (thread_rng().gen_bool(0.5), thread_rng().gen_bool(0.5));
        check(World { backing, slices: ROOMY, linked, commit: CommitPolicy::Grouped }, &[writes, flushes]);
    });
}

#[test]
fn maintenance_beside_writers_leaves_a_sound_image() {
    on_either(
        ROOMY,
        &[
            |guest| {
                guest.maintain();
                guest.maintain();
                guest.maintain();
            },
            |guest| {
                write(guest, SHARED);
                write(guest, OTHER_TABLE);
            },
            |guest| write(guest, NEIGHBOUR),
        ],
    );
}

#[test]
fn discards_and_zeroes_beside_writers_touch_nobody_else() {
    on_either(
        ROOMY,
        &[
            |guest| {
                write(guest, SHARED);
                guest.zero(SHARED, Room::GiveBack, None);
                guest.zero(OWN, Room::Keep, None);
            },
            |guest| {
                guest.zero(SHARED, Room::Keep, None);
                write(guest, OWN);
                guest.discard(OWN);
                guest.read(OWN);
            },
            |guest| {
                write(guest, SHARED);
                guest.discard(SHARED);
                guest.zero(OWN, Room::GiveBack, None);
                write(guest, OWN);
            },
        ],
    );
}

#[test]
fn growth_beside_writers_and_other_growth_ends_well() {
    on_either(
        ROOMY,
        &[
            |guest| guest.grow(4096),
            |guest| {
                write(guest, OWN_FAR);
                guest.grow(8192);
            },
            |guest| write(guest, SHARED),
        ],
    );
}

#[test]
fn a_close_in_the_middle_leaves_what_was_completed() {
    on_either(
        ROOMY,
        &[
            |guest| guest.close(),
            |guest| {
                guest.expect_a_close();
                write(guest, SHARED);
                write(guest, OTHER_TABLE);
            },
            |guest| {
                guest.expect_a_close();
                guest.zero(SHARED, Room::Keep, None);
                guest.flush();
            },
        ],
    );
}

#[test]
fn a_request_that_is_dropped_on_its_way_disturbs_nobody() {
    on_either(
        ROOMY,
        &[
            |guest| {
                let polls = thread_rng().gen_range(0..30);
                guest.write(SHARED, Fua::No, Some(polls));
                write(guest, NEIGHBOUR);
            },
            |guest| {
                let polls = thread_rng().gen_range(0..30);
                guest.write(SHARED, Fua::Yes, Some(polls));
                write(guest, SHARED);
            },
            // The last that is asked of its table, so that nobody else brings its entry to an end.
            |guest| {
                let polls = thread_rng().gen_range(0..60);
                guest.write(OWN_FAR, Fua::No, Some(polls));
            },
        ],
    );
}

#[test]
fn zeroes_over_a_first_write_that_was_dropped_stay_zeroes() {
    explore(|| {
        // Dropped when it waits for the other's write of the table, which may carry its entry.
        let drops: Script = |guest| {
            for place in [SHARED, OWN] {
                guest.write(place, Fua::No, Some(2));
                guest.zero(place, Room::Keep, None);
                guest.read(place);
            }
        };
        let writes: Script = |guest| {
            write(guest, NEIGHBOUR);
            write(guest, OWN);
        };
        // Under the other policy nothing is left over.
        let commit = CommitPolicy::Through;
        check(World { backing: false, slices: ROOMY, linked: true, commit }, &[drops, writes]);
    });
}

/// One of everything that a guest can do, at any place.
fn anything(guest: &mut Guest) {
    for _ in 0..thread_rng().gen_range(1..4) {
        let place = thread_rng().gen_range(0..5);
        let polls = thread_rng().gen_bool(0.2).then(|| thread_rng().gen_range(0..40));
        match thread_rng().gen_range(0..12) {
            0..5 => guest.write(place, Fua::No, polls),
            5 => guest.write(place, Fua::Yes, polls),
            6 => guest.zero(place, Room::GiveBack, polls),
            7 => guest.zero(place, Room::Keep, polls),
            8 => guest.discard(place),
            9 => guest.flush(),
            10 => guest.maintain(),
            _ => guest.read(place),
        }
    }
}

#[test]
fn whatever_guests_do_side_by_side_the_image_is_sound_and_theirs() {
    explore(|| {
        let (backing, is_tight) = (thread_rng().gen_bool(0.5), thread_rng().gen_bool(0.5));
        let guests = thread_rng().gen_range(2..5);
        check(
            World {
                backing,
                slices: if is_tight { 2 } else { ROOMY },
                linked: thread_rng().gen_bool(0.5),
                commit: commit(),
            },
            &[anything as Script; 4][..guests],
        );
    });
}
