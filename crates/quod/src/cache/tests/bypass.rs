//! Slices that are asked for once, and do not come in.

use std::time::Duration;

use event_listener::Listener;

use super::super::evict::Coming;
use super::*;

const PLACES: u64 = 640;
/// Where the numbers begin of slices that are asked for twice, and once.
const HOT: u64 = 1 << 20;
const ONCE: u64 = 1 << 21;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Hit,
    Load,
    Bypass,
}

/// What a reader does.
fn read(cache: &TableCache, index: u64) -> Way {
    if found(cache, l2(index)).is_some() {
        return Way::Hit;
    }
    match cache.begin_read(l2(index)) {
        BeginRead::Load(load) => drop(load.commit(FileOffset(0), &bytes(index))),
        BeginRead::Bypass(bypass) => {
            assert!(bypass.end().is_ok());
            return Way::Bypass;
        }
        BeginRead::Resident(_) | BeginRead::Busy => panic!("there is one reader"),
    }
    Way::Load
}

/// Full of slices that were asked for twice, when others have been asked for once for a while.
fn lonely() -> TableCache {
    let cache = room_for(PLACES as usize);
    for way in [Way::Load, Way::Hit] {
        (HOT..HOT + PLACES).for_each(|index| assert_eq!(read(&cache, index), way));
    }
    let ways: Vec<_> = (ONCE..ONCE + PLACES).map(|index| read(&cache, index)).collect();
    assert_eq!((ways[0], ways.last()), (Way::Load, Some(&Way::Bypass)));
    cache
}

fn resident_keys(cache: &TableCache) -> Vec<SliceKey> {
    let mut keys: Vec<_> = cache.resident().iter().map(|(slice, _)| slice.key()).collect();
    keys.sort();
    keys
}

fn bypass(cache: &TableCache, index: u64) -> Bypass<'_> {
    let BeginRead::Bypass(bypass) = cache.begin_read(l2(index)) else { panic!("{index} comes in") };
    bypass
}

fn coming(cache: &TableCache, index: u64) -> Coming {
    cache.pool.lock().clock.coming(&cache.pool.arena, cache.owned(l2(index)))
}

#[test]
fn where_slices_are_asked_for_once_those_that_are_here_stay() {
    let cache = lonely();
    let (before, here) = (cache.stats(), resident_keys(&cache));
    for index in 0..10_000 {
        assert_eq!(read(&cache, index), Way::Bypass);
        let SliceKey { index: hot, .. } = here[index as usize % here.len()];
        assert_eq!(read(&cache, hot), Way::Hit);
    }
    let after = cache.stats();
    assert_eq!(resident_keys(&cache), here);
    assert_eq!((after.misses - before.misses, after.bypasses - before.bypasses), (10_000, 10_000));
    assert_eq!((after.hits - before.hits, after.evictions), (10_000, before.evictions));
    cache.validate();
}

/// A set that was popular once stays through a scan of many times as many slices, and makes room for another set in the end.
#[test]
fn those_that_nobody_asks_for_any_more_give_way_slowly() {
    let cache = lonely();
    let here = resident_keys(&cache);
    (0..8 * PLACES).for_each(|index| _ = read(&cache, index));
    let stayed = here.iter().filter(|key| is_resident(&cache, **key)).count();
    assert!(stayed * 100 > here.len() * 90, "{stayed} of {} through a scan", here.len());
    cache.validate();
    let circle = ONCE + 2 * PLACES..ONCE + 2 * PLACES + PLACES * 4 / 5;
    (0..400).for_each(|_| circle.clone().for_each(|index| _ = read(&cache, index)));
    let learned = circle.clone().filter(|&index| read(&cache, index) == Way::Hit).count();
    assert!(learned * 100 > PLACES as usize * 4 / 5 * 90, "{learned} are found");
    cache.validate();
}

#[test]
fn one_that_is_asked_for_again_comes_in_and_stays() {
    let cache = lonely();
    // As long as it would have been here, and then remembered, about.
    let window = PLACES / 4 + PLACES / 16 - 4;
    assert_eq!(read(&cache, 0), Way::Bypass);
    (1..window).for_each(|index| _ = read(&cache, index));
    // Another who must have a slice makes nothing forgotten.
    drop(read_in(&cache, l2(PLACES), 0));
    assert_eq!(read(&cache, 0), Way::Load);
    (0..2 * PLACES).for_each(|index| _ = read(&cache, ONCE + PLACES + index));
    assert_eq!(read(&cache, 0), Way::Hit);
    assert_eq!(read(&cache, 1), Way::Bypass, "that long ago is forgotten");
    cache.validate();
}

/// A slice that is asked for in a burst has not shown that it will be asked for again.
#[test]
fn a_burst_brings_a_slice_in_on_trial() {
    let asks: [fn(&TableCache); 2] =
        [|cache| assert_eq!(read(cache, 0), Way::Load), |cache| drop(read_in(cache, l2(0), 0))];
    for ask in asks {
        let cache = lonely();
        assert_eq!(read(&cache, 0), Way::Bypass);
        ask(&cache);
        assert_eq!(read(&cache, 0), Way::Hit);
        // Others that come in push it out.
        let others = (1..=PLACES / 16 + 2).map(|index| drop(read_in(&cache, l2(index), index)));
        others.for_each(drop);
        assert!(!is_resident(&cache, l2(0)));
    }
}

/// A circle of fewer slices than there are, over slices that were asked for once.
#[test]
fn slices_that_fit_are_learned() {
    let cache = room_for(PLACES as usize);
    (ONCE..ONCE + 3 * PLACES).for_each(|index| _ = read(&cache, index));
    let circle = 0..PLACES * 5 / 8;
    (0..3).for_each(|_| circle.clone().for_each(|index| _ = read(&cache, index)));
    assert!(circle.clone().all(|index| read(&cache, index) == Way::Hit));
}

#[test]
fn a_load_that_is_given_up_takes_nothing_from_the_next() {
    let cache = lonely();
    assert_eq!(read(&cache, 0), Way::Bypass);
    let before = coming(&cache, 0);
    for _ in 0..100 {
        let BeginRead::Load(load) = cache.begin_read(l2(0)) else { panic!("it was asked for before") };
        drop(load);
    }
    assert_eq!(coming(&cache, 0), before);
    // In the room that was made for it.
    assert_eq!(read(&cache, 0), Way::Load);
    assert_eq!(read(&cache, 1), Way::Bypass);
    cache.validate();
}

/// As a sequential read asks for them.
#[test]
fn slices_that_are_asked_for_several_times_in_a_row_come_in_again_at_once() {
    let cache = lonely();
    let first_ways: Vec<_> = (0..100).map(|index| [(); 3].map(|()| read(&cache, index))[0]).collect();
    let in_vain = first_ways.iter().position(|way| *way == Way::Load).expect("they come in");
    assert!(in_vain <= 8, "{in_vain} were asked for a second time before they came in");
    assert!(first_ways[in_vain..].iter().all(|way| *way == Way::Load));
}

#[test]
fn a_few_that_are_asked_for_again_do_not_bring_the_others_in() {
    let cache = lonely();
    let before = cache.stats();
    // One in 40 is asked for again at once.
    for index in 0..4_000 {
        _ = read(&cache, index);
        if index % 40 == 0 {
            assert_ne!(read(&cache, index), Way::Bypass);
        }
    }
    let (misses, bypasses) = (cache.stats().misses - before.misses, cache.stats().bypasses - before.bypasses);
    assert!(bypasses * 10 > misses * 9, "{bypasses} of {misses}");
}

#[test]
fn where_there_is_room_slices_come_in() {
    let cache = room_for(PLACES as usize);
    (0..PLACES).for_each(|index| assert_eq!(read(&cache, index), Way::Load));
    cache.bypass_from_now();
    assert_eq!(read(&cache, PLACES), Way::Bypass);
}

/// What updates take is over the budget until somebody makes room, which who reads past the cache does not.
#[test]
fn over_the_budget_a_slice_comes_in() {
    let cache = lonely();
    assert_eq!(read(&cache, 0), Way::Bypass);
    cache.resident().iter().for_each(|(slice, _)| drop(cache.pool.updates_of(slice)));
    assert!(cache.pool.bytes() > cache.pool.budget);
    assert_eq!(read(&cache, 1), Way::Load);
    assert!(cache.pool.bytes() <= cache.pool.budget);
    cache.validate();
}

/// None of them is fresh for long enough to be asked for again.
#[test]
fn where_few_fit_all_come_in() {
    let cache = room_for(31);
    (0..1_000).for_each(|index| assert_eq!(read(&cache, index), Way::Load));
    // Nor where few fit by now, since they take more room each.
    cache.bypass_from_now();
    drop(read_in(&cache, l2(1_000), 0));
    (0..100).for_each(|index| assert_eq!(read(&cache, index), Way::Load));
}

/// What is looked for at random is found as often as where every slice comes in, and a new set is learned about as soon.
#[test]
fn as_much_is_found_as_where_all_come_in() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % below
    };
    let (one, other) = (room_for(PLACES as usize), room_for(PLACES as usize));
    let (mut all_found, mut all_wanted) = (0, 0);
    // More than there is room for, then three sets that there is room for, and again more.
    for (from, slices) in [(0, 36), (0, 9), (100, 9), (200, 9), (300, 36)] {
        let (mut is_found, mut wanted) = (0, 0);
        for _ in 0..20_000 {
            let index = from * PLACES + next(slices * PLACES / 10);
            is_found += u64::from(read(&one, index) == Way::Hit);
            match found(&other, l2(index)) {
                Some(_) => wanted += 1,
                None => drop(read_in(&other, l2(index), index)),
            }
        }
        assert!(is_found * 100 > wanted * 90, "from {from}: {is_found} of {wanted}");
        (all_found, all_wanted) = (all_found + is_found, all_wanted + wanted);
    }
    assert!(all_found * 100 > all_wanted * 98, "{all_found} of {all_wanted}");
    assert!(one.stats().bypasses > 20_000 && other.stats().bypasses == 0, "{:?}", one.stats());
}

/// It was not read: who begins so may have found that the disk has to be waited for.
#[test]
fn one_that_is_given_up_is_not_remembered() {
    let cache = lonely();
    let before = cache.stats();
    (0..2).for_each(|_| drop(bypass(&cache, 0)));
    assert_eq!(cache.stats(), before);
    assert_eq!(coming(&cache, 0), Coming::New);
    cache.validate();
}

#[test]
fn who_must_have_the_slice_waits_and_loads_it() {
    let cache = lonely();
    let ends: [fn(Bypass<'_>); 2] = [|bypass| assert!(bypass.end().is_ok()), |bypass| drop(bypass)];
    for (index, end) in (0..).zip(ends) {
        let bypass = bypass(&cache, index);
        assert!(matches!(cache.begin_read(l2(index)), BeginRead::Busy), "another reads it");
        let Begin::Wait(ended) = cache.begin_load(l2(index)) else { panic!("another reads it") };
        end(bypass);
        assert!(ended.wait_timeout(Duration::from_secs(20)).is_some(), "nobody woke the waiter");
        drop(read_in(&cache, l2(index), 7));
        assert!(matches!(cache.begin_read(l2(index)), BeginRead::Resident(slice) if slice.entry(0) == 7));
    }
    cache.validate();
}

#[test]
fn what_came_in_meanwhile_by_another_road_is_told() {
    let cache = lonely();
    let bypass = bypass(&cache, 0);
    let committed = committed(&cache, l2(0), 7);
    let first = bypass.end().expect_err("it is here");
    assert!(first.is(&committed) && first.entry(0) == 7);
    assert!(!cache.pool.lock().clock.remembers(cache.owned(l2(0))), "it is here");
    cache.validate();
}
