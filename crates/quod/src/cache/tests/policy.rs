//! Which slice goes: scans pass through, what is asked for again stays. Held against the reference's own algorithm with
//! as many places, on the same trace.

#[path = "../../../benches/cache/reference.rs"]
mod reference;

use super::*;
use reference::{REFERENCE_TABLES, ReferenceCache};

const PLACES: usize = 800;
/// Where the numbers of scanned slices begin.
const SCANNED: u64 = 1 << 20;

/// Look-ups by number, each a burst, as requests read one slice's neighbours.
fn hits(trace: &[u64], mut touch: impl FnMut(u64) -> bool) -> Vec<bool> {
    trace.iter().map(|&index| touch(index)).collect()
}

/// The share of hits among the look-ups of the hot set, from the `from`th look-up on: ours and the reference's.
fn hot_hits(trace: &[u64], from: usize) -> (f64, f64) {
    let cache = room_for(PLACES);
    let ours = hits(trace, |index| {
        let hit = found(&cache, l2(index)).is_some();
        if !hit {
            drop(read_in(&cache, l2(index), index));
        }
        (0..3).for_each(|_| assert!(found(&cache, l2(index)).is_some()));
        hit
    });
    cache.validate();
    let reference = ReferenceCache::new(PLACES);
    let theirs = hits(trace, |index| {
        let hit = reference.find(index).is_some();
        reference.commit(index, ());
        hit
    });
    let share = |hits: Vec<bool>| {
        let hot: Vec<bool> =
            (from..trace.len()).filter(|&at| trace[at] < SCANNED).map(|at| hits[at]).collect();
        hot.iter().filter(|hit| **hit).count() as f64 / hot.len() as f64
    };
    (share(ours), share(theirs))
}

/// Numbers below `below`, the same on every run.
fn any_of(below: u64) -> impl FnMut() -> u64 {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % below
    }
}

/// `scanned` slices that are read once for each of `times` look-ups among `hot` slices.
fn mixed(hot: u64, scanned: u64, times: u64) -> Vec<u64> {
    let mut next = any_of(hot);
    (0..times)
        .flat_map(|time| {
            let scan = (0..scanned).map(move |i| SCANNED + time * scanned + i);
            std::iter::once(next()).chain(scan).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_scan_beside_the_hot_set_does_not_flush_it() {
    let trace = mixed(250, 2, 20_000);
    let (ours, theirs) = hot_hits(&trace, trace.len() / 4);
    assert!(ours > 0.99 && theirs < 0.75, "hit ratio {ours:.3}, the reference's {theirs:.3}");
}

#[test]
fn a_scan_of_the_whole_disk_does_not_flush_the_hot_set() {
    let mut next = any_of(400);
    let mut trace: Vec<u64> = (0..8_000).map(|_| next()).collect();
    // The set is hot when it was asked for more than once: what merely came in does not count.
    trace.extend(SCANNED..SCANNED + 1_000);
    trace.extend((0..8_000).map(|_| next()));
    trace.extend(SCANNED + 1_000..SCANNED + 10_000);
    let from = trace.len();
    trace.extend(0..400);
    let (ours, theirs) = hot_hits(&trace, from);
    assert!(ours > 0.9 && theirs == 0.0, "hit ratio {ours:.3}, the reference's {theirs:.3}");
}

#[test]
fn a_new_hot_set_takes_the_place_of_the_old_one() {
    let mut next = any_of(600);
    let mut trace: Vec<u64> = (0..10_000).map(|_| next()).collect();
    trace.extend((0..10_000).map(|_| 600 + next()));
    let from = trace.len() - 5_000;
    let (ours, theirs) = hot_hits(&trace, from);
    assert!(ours > 0.99, "hit ratio {ours:.3}, the reference's {theirs:.3}");
}

/// First in, first out keeps nothing of a circle that is too long. Whoever remembers what went keeps a part.
#[test]
fn a_circle_that_is_too_long_is_kept_in_part() {
    let trace: Vec<u64> = (0..10_000).map(|at| at % (PLACES as u64 * 5 / 4)).collect();
    let (ours, theirs) = hot_hits(&trace, 5_000);
    assert!(ours > 0.5 && theirs == 0.0, "hit ratio {ours:.3}, the reference's {theirs:.3}");
}

/// As the one before, where each load is begun in vain first, since the disk has to be waited for.
#[test]
fn a_load_that_is_given_up_takes_nothing_from_the_next() {
    let cache = room_for(PLACES);
    let (mut hits, mut looks) = (0, 0);
    for at in 0..10_000 {
        let index = at % (PLACES as u64 * 9 / 8);
        let is_hit = found(&cache, l2(index)).is_some();
        if !is_hit {
            drop(load(&cache, l2(index)));
            drop(read_in(&cache, l2(index), index));
        }
        if at >= 5_000 {
            (hits, looks) = (hits + u64::from(is_hit), looks + 1);
        }
    }
    assert!(hits * 2 > looks, "{hits} hits of {looks}");
}

/// A new slice has a sixteenth of the cache pass by, half of it on trial, before it has to show that it is asked for.
#[test]
fn a_new_slice_stays_while_a_sixteenth_of_the_cache_comes_in_after_it() {
    let cache = room_for(PLACES);
    let all = 0..PLACES as u64;
    all.clone().for_each(|index| drop(read_in(&cache, l2(index), index)));
    all.for_each(|index| assert!(found(&cache, l2(index)).is_some()));
    let mut scan = (SCANNED..).map(|index| drop(read_in(&cache, l2(index), index)));
    scan.by_ref().take(PLACES).for_each(drop);
    drop(read_in(&cache, l1(0), 0));
    let stood = scan.take_while(|()| is_resident(&cache, l1(0))).count();
    assert!(stood.abs_diff(PLACES / 16) <= 2, "{stood} others came in");
}

#[test]
fn what_was_visited_since_the_hand_last_passed_has_a_second_chance() {
    let cache = room_for(4);
    (0..4).for_each(|index| drop(read_in(&cache, l2(index), index)));
    (0..4).for_each(|index| assert!(found(&cache, l2(index)).is_some()));
    // They have stood their trial, and the first of them goes.
    drop(read_in(&cache, l2(4), 4));
    assert!(!is_resident(&cache, l2(0)) && [1, 4].iter().all(|&index| found(&cache, l2(index)).is_some()));
    drop(read_in(&cache, l2(5), 5));
    assert!(is_resident(&cache, l2(1)) && !is_resident(&cache, l2(2)));
}

/// And as many more as are fresh or on trial, where slices are asked for once.
#[test]
fn a_quarter_as_many_slices_as_there_are_are_remembered_when_gone() {
    let cache = room_for(PLACES);
    let scan = 0..20 * PLACES as u64;
    scan.clone().for_each(|index| drop(read_in(&cache, l2(index), index)));
    let structure = cache.pool.structure.lock().unwrap();
    let remembered = scan.filter(|&index| structure.clock.remembers(cache.owned(l2(index)))).count();
    assert!(remembered.abs_diff(PLACES / 4 + PLACES / 16) <= 3, "{remembered} keys");
}

/// An L1 slice is asked for at every miss, and by pins alone.
#[test]
fn pins_count_as_visits() {
    let cache = room_for(PLACES);
    drop(read_in(&cache, l1(0), 0));
    let mut l1_misses = 0;
    for index in 0..10 * PLACES as u64 {
        if cache.pin(l1(0)).is_none() {
            l1_misses += 1;
            drop(read_in(&cache, l1(0), 0));
        }
        drop(read_in(&cache, l2(index), index));
    }
    assert_eq!(l1_misses, 0);
}

/// Most of many pinned slices must not make each commit walk over all of them.
#[test]
fn a_commit_meets_few_of_many_pinned_slices() {
    let cache = room_for(4);
    let keys = || cache.pool.structure.lock().unwrap().clock.slices().collect::<Vec<_>>();
    let kept: Vec<Pinned> = (0..2_000).map(|index| read_in(&cache, l2(index), index)).collect();
    // The one that came last is in another queue.
    let under_the_hand = keys()[1];
    drop(read_in(&cache, l2(2_000), 0));
    let passed = keys().iter().rev().position(|key| *key == under_the_hand).unwrap();
    assert!((1..100).contains(&passed), "{passed} slices for one commit");
    drop(kept);
}

#[test]
fn a_commit_meets_few_of_many_visited_slices() {
    const MANY: u64 = 12_000;
    let cache = room_for(MANY as usize);
    (0..MANY).for_each(|index| drop(read_in(&cache, l2(index), index)));
    // They are on trial at first, and in the clock later.
    for more in MANY..MANY + 6 {
        cache.resident().iter().for_each(|(slice, _)| slice.header().visit());
        read_in(&cache, l2(more), more);
        let still = cache
            .resident()
            .iter()
            .filter(|(slice, _)| cache.pool.arena.forget_visit(slice.header().line))
            .count() as u64;
        assert!(still > MANY / 4, "{still} of {MANY} still count as visited");
        assert_eq!(residents(&cache) as u64, MANY);
    }
}

/// The bench compares with this one, so it must be what it says.
#[test]
fn the_references_list_is_first_in_first_out_and_spares_what_is_in_use() {
    let reference = ReferenceCache::new(REFERENCE_TABLES);
    let kept = reference.commit(0, 0);
    assert_eq!(*reference.commit(0, 99), 0, "first commit wins");
    (1..60).for_each(|key| drop(reference.commit(key, key)));
    let here: Vec<u64> = (0..60).filter(|&key| reference.find(key).is_some()).collect();
    assert_eq!(here, std::iter::once(0).chain(11..60).collect::<Vec<_>>());
    drop(kept);
}
