//! Slots, and the lists of slices that share one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::cache::shelf::Shelf;
use crate::cache::slice::OwnedKey;

/// More slices than slots, so that every slot has a list.
const CROWD: u64 = 500;

#[test]
fn slices_that_share_a_slot_come_and_go_in_any_order() {
    let shelf = Shelf::new(256, 1);
    let mut here = BTreeSet::new();
    let check = |here: &BTreeSet<u64>| {
        assert_eq!(shelf.directory.lengths(&shelf.arena).sum::<usize>(), here.len());
        assert!((0..CROWD).all(|index| shelf.find(l2(index)) == here.get(&index).copied()));
    };
    for index in 0..CROWD {
        shelf.insert(l2(index));
        here.insert(index);
    }
    check(&here);
    for step in [7, 3, 2, 1] {
        for index in (0..CROWD).rev().filter(|index| index % step == 0) {
            if here.remove(&index) {
                shelf.remove(l2(index));
            }
        }
        check(&here);
    }
    assert_eq!(shelf.directory.lengths(&shelf.arena).sum::<usize>(), 0);
}

#[test]
fn slices_of_either_level_with_one_number_are_two() {
    let shelf = Shelf::new(256, 4);
    shelf.insert(l1(5));
    shelf.insert(l2(5));
    shelf.remove(l1(5));
    assert_eq!((shelf.find(l1(5)), shelf.find(l2(5))), (None, Some(5)));
}

/// Seeds of pools, of which 0 is the golden ratio's.
fn seeds() -> impl Iterator<Item = u64> {
    (0..16).map(|seed: u64| seed.wrapping_mul(0xd6e8_feb8_6659_fd93))
}

/// The longest list of a shelf with these slices.
fn longest(seed: u64, keys: impl IntoIterator<Item = SliceKey>) -> usize {
    let shelf = Shelf::with_seed(256, 3200, seed);
    keys.into_iter().for_each(|key| shelf.insert(key));
    shelf.directory.lengths(&shelf.arena).max().unwrap_or_default()
}

#[test]
fn neighbours_and_strides_spread_over_the_slots() {
    for stride in [1, 2, 64, 512, 4096, 1 << 20, 1 << 33] {
        let lists: Vec<_> = seeds().map(|seed| longest(seed, (0..3200).map(|at| l2(at * stride)))).collect();
        let short = lists.iter().filter(|list| **list <= 4).count();
        assert!(lists[0] <= 4 && short >= if stride == 1 { 16 } else { 12 }, "at stride {stride}: {lists:?}");
    }
}

/// Slices that share one slot of a pool are spread by another, as well as neighbours are.
#[test]
fn who_knows_the_slots_of_one_pool_does_not_know_those_of_another() {
    let probe = Shelf::new(256, 3200);
    let together: Vec<_> = (0..).map(l2).filter(|key| probe.is_in_first_slot(*key)).take(1000).collect();
    assert_eq!(longest(0, together.iter().copied()), together.len());
    for seed in seeds().skip(1) {
        let list = longest(seed, together.iter().copied());
        assert!(list <= 4, "{list} in a list by {seed:#x}");
    }
}

#[test]
fn each_pool_has_slots_of_its_own() {
    let [one, other] = [(); 2].map(|()| SlicePool::new(1 << 20));
    let is_first = |pool: &SlicePool, key| pool.directory.is_in_first_slot(OwnedKey { image: 0, key });
    let together: Vec<_> = (0..).map(l2).filter(|key| is_first(&one, *key)).take(20).collect();
    assert!(!together.iter().all(|key| is_first(&other, *key)));
}

#[test]
#[should_panic(expected = "a slice is evicted before another takes its place")]
fn two_slices_of_one_key_are_refused() {
    let shelf = Shelf::new(256, 4);
    shelf.insert(l2(1));
    shelf.insert(l2(1));
}

/// Readers walk the lists while their slices come and go, and lines go from one to another: they find the right slice or none, and
/// those that stay but for a list that changes all the time.
#[test]
fn readers_find_what_stays_while_its_neighbours_come_and_go() {
    let shelf = Shelf::new(256, 1);
    let done = AtomicBool::new(false);
    (0..CROWD).step_by(5).for_each(|index| shelf.insert(l2(index)));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let (mut found, mut missed) = (0_u64, 0_u64);
                while !done.load(Ordering::Relaxed) {
                    for index in 0..CROWD {
                        let seen = shelf.find(l2(index));
                        assert!(seen.is_none_or(|seen| seen == index), "{seen:?} for {index}");
                        let stays = index % 5 == 0;
                        found += u64::from(stays && seen.is_some());
                        missed += u64::from(stays && seen.is_none());
                    }
                }
                assert!(found >= missed, "{found} times found what stays, {missed} times not");
            });
        }
        for _ in 0..30 {
            let passing = || (0..CROWD).filter(|index| index % 5 != 0);
            passing().for_each(|index| shelf.insert(l2(index)));
            passing().for_each(|index| shelf.remove(l2(index)));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!((0..CROWD).all(|index| shelf.find(l2(index)).is_some() == (index % 5 == 0)));
}
