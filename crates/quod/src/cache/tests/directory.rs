//! Slots, and the lists of slices that share one.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::cache::arena::{Arena, Ledger};
use crate::cache::directory::Directory;
use crate::cache::entries::Shape;
use crate::cache::slice::{Header, OwnedKey};

/// A directory with memory for slices of one entry, which is their number.
struct Shelf {
    arena: Arena,
    directory: Directory,
    /// What the structure lock guards: who has which line, and lives that slices led.
    structure: Mutex<(Ledger, u64)>,
}

impl Shelf {
    fn new(slices: u64) -> Self {
        Shelf { arena: Arena::new(256, 4), directory: Directory::new(slices), structure: Mutex::default() }
    }

    fn insert(&self, key: SliceKey) {
        let (ledger, lives) = &mut *self.structure.lock().unwrap();
        let header = Header::there(&self.arena, ledger.take_line(&self.arena));
        header.write(own(key), FileOffset(0), Shape::Even { first: key.index, stride: 0 }, 1);
        *lives += 1;
        self.directory.insert(&self.arena, header, *lives);
    }

    fn remove(&self, key: SliceKey) {
        let (ledger, _) = &mut *self.structure.lock().unwrap();
        let header = self.directory.look_up(&self.arena, own(key)).expect("it is here");
        self.directory.remove(&self.arena, header);
        ledger.give_line(&self.arena, header.line);
    }

    fn look(&self, key: SliceKey) -> Option<u64> {
        self.directory.find(&self.arena, own(key), |slice| slice.entry(0))
    }
}

/// The key of the only image.
fn own(key: SliceKey) -> OwnedKey {
    OwnedKey { image: 0, key }
}

/// More slices than slots, so that every slot has a list.
const CROWD: u64 = 500;

#[test]
fn slices_that_share_a_slot_come_and_go_in_any_order() {
    let shelf = Shelf::new(1);
    let mut here = BTreeSet::new();
    let check = |here: &BTreeSet<u64>| {
        assert_eq!(shelf.directory.len(), here.len());
        assert!((0..CROWD).all(|index| shelf.look(l2(index)) == here.get(&index).copied()));
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
    assert_eq!(shelf.directory.len(), 0);
}

#[test]
fn slices_of_either_level_with_one_number_are_two() {
    let shelf = Shelf::new(4);
    shelf.insert(l1(5));
    shelf.insert(l2(5));
    shelf.remove(l1(5));
    assert_eq!((shelf.look(l1(5)), shelf.look(l2(5))), (None, Some(5)));
}

#[test]
fn neighbours_and_strides_spread_over_the_slots() {
    for stride in [1, 2, 64, 512, 4096, 1 << 20, 1 << 33] {
        let shelf = Shelf::new(3200);
        (0..3200).for_each(|at| shelf.insert(l2(at * stride)));
        let longest = shelf.directory.longest_list(&shelf.arena);
        assert!(longest <= 4, "{longest} slices in a list at stride {stride}");
    }
}

#[test]
#[should_panic(expected = "a slice is evicted before another takes its place")]
fn two_slices_of_one_key_are_refused() {
    let shelf = Shelf::new(4);
    shelf.insert(l2(1));
    shelf.insert(l2(1));
}

/// Readers walk the lists while their slices come and go, and lines go from one to another: they find the right slice or none, and
/// those that stay but for a list that changes all the time.
#[test]
fn readers_find_what_stays_while_its_neighbours_come_and_go() {
    let shelf = Shelf::new(1);
    let done = AtomicBool::new(false);
    (0..CROWD).step_by(5).for_each(|index| shelf.insert(l2(index)));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let (mut found, mut missed) = (0_u64, 0_u64);
                while !done.load(Ordering::Relaxed) {
                    for index in 0..CROWD {
                        let seen = shelf.look(l2(index));
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
    assert!((0..CROWD).all(|index| shelf.look(l2(index)).is_some() == (index % 5 == 0)));
}
