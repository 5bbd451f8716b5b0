//! Slots, and the lists of slices that share one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::cache::directory::Directory;
use crate::cache::slot::OwnedKey;

fn insert(directory: &Directory, index: u64) {
    directory.insert(Arc::new(slice(l2(index), index)));
}

/// The key of the only image.
fn own(key: SliceKey) -> OwnedKey {
    OwnedKey { image: 0, key }
}

fn look(directory: &Directory, index: u64) -> Option<u64> {
    directory.find(own(l2(index)), |slice| slice.entry(0))
}

/// More slices than slots, so that every slot has a list.
const CROWD: u64 = 500;

#[test]
fn slices_that_share_a_slot_come_and_go_in_any_order() {
    let directory = Directory::new(1);
    let mut here = BTreeSet::new();
    let check = |here: &BTreeSet<u64>| {
        assert_eq!(directory.len(), here.len());
        assert!((0..CROWD).all(|index| look(&directory, index) == here.get(&index).copied()));
    };
    for index in 0..CROWD {
        insert(&directory, index);
        here.insert(index);
    }
    check(&here);
    for step in [7, 3, 2, 1] {
        for index in (0..CROWD).rev().filter(|index| index % step == 0) {
            if here.remove(&index) {
                directory.remove(own(l2(index)));
            }
        }
        check(&here);
    }
    assert_eq!(directory.len(), 0);
}

#[test]
fn slices_of_either_level_with_one_number_are_two() {
    let directory = Directory::new(4);
    directory.insert(Arc::new(slice(l1(5), 1)));
    directory.insert(Arc::new(slice(l2(5), 2)));
    directory.remove(own(l1(5)));
    assert!(directory.find(own(l1(5)), |_| ()).is_none());
    assert_eq!(look(&directory, 5), Some(2));
}

/// What it holds it gives back: an array of slots is all there is.
#[test]
fn the_directory_holds_what_is_resident_and_nothing_else() {
    let directory = Directory::new(64);
    let watched: Vec<_> = (0..CROWD)
        .map(|index| {
            insert(&directory, index);
            directory.find(own(l2(index)), Arc::downgrade).unwrap()
        })
        .collect();
    let empty = Directory::new(64).bytes();
    assert_eq!((directory.bytes(), empty), (empty, 128 * 8));
    (0..CROWD).for_each(|index| directory.remove(own(l2(index))));
    assert!(watched.iter().all(|slice| slice.upgrade().is_none()));
}

#[test]
fn neighbours_and_strides_spread_over_the_slots() {
    for stride in [1, 2, 64, 512, 4096, 1 << 20, 1 << 33] {
        let directory = Directory::new(3200);
        (0..3200).for_each(|at| insert(&directory, at * stride));
        let longest = directory.longest_list();
        assert!(longest <= 4, "{longest} slices in a list at stride {stride}");
    }
}

#[test]
#[should_panic(expected = "a slice is evicted before another takes its place")]
fn two_slices_of_one_key_are_refused() {
    let directory = Directory::new(4);
    insert(&directory, 1);
    insert(&directory, 1);
}

/// Readers walk the lists while their slices come and go: they find the right slice or none, and always those that stay.
#[test]
fn readers_find_what_stays_while_its_neighbours_come_and_go() {
    let directory = Directory::new(1);
    let done = AtomicBool::new(false);
    (0..CROWD).step_by(5).for_each(|index| insert(&directory, index));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for index in 0..CROWD {
                        let seen = look(&directory, index);
                        let is_right = seen == Some(index) || (seen.is_none() && index % 5 != 0);
                        assert!(is_right, "{seen:?} for {index}");
                    }
                }
            });
        }
        for _ in 0..30 {
            let passing = || (0..CROWD).filter(|index| index % 5 != 0);
            passing().for_each(|index| insert(&directory, index));
            passing().for_each(|index| directory.remove(own(l2(index))));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!((0..CROWD).all(|index| look(&directory, index).is_some() == (index % 5 == 0)));
}
