//! Point 3 for readers, who take no reference: whose slice goes while they look has seen nothing, whatever he saw.

use super::*;
use crate::cache::arena::{Arena, Frame, Ledger, Line};
use crate::cache::entries::{self, Shape};

/// A look-up of the first slice, in the midst of which something else is done.
fn found_while(cache: &TableCache, doing: impl FnOnce()) -> Option<u64> {
    cache.find(l2(0), |slice| {
        doing();
        slice.entry(0)
    })
}

#[test]
fn who_looks_at_a_slice_that_is_evicted_has_seen_nothing() {
    let cache = room_for(1);
    drop(read_in(&cache, l2(0), 7));
    assert_eq!(found_while(&cache, || {}), Some(7));
    assert_eq!(found_while(&cache, || drop(read_in(&cache, l2(1), 8))), None);
    assert_eq!(cache.stats().hits, 1);
    cache.validate();
}

/// Its line and its frame are those of the next one, and so is its key.
#[test]
fn a_slice_that_comes_back_is_not_taken_for_the_one_that_went() {
    let cache = room_for(1);
    drop(read_in(&cache, l2(0), 7));
    let line = cache.pin(l2(0)).map(|slice| slice.header().line);
    let again = || {
        drop(read_in(&cache, l2(1), 8));
        drop(read_in(&cache, l2(0), 9));
    };
    assert_eq!(found_while(&cache, again), None);
    assert_eq!(cache.pin(l2(0)).map(|slice| slice.header().line), line, "it lies where it lay");
    assert_eq!(found(&cache, l2(0)), Some(9));
}

#[test]
fn who_looks_at_a_slice_that_is_unpacked_looks_again() {
    let cache = room_for(8);
    let slice = load(&cache, l2(0)).commit(FileOffset(0), &narrow_bytes(3));
    assert_eq!(found_while(&cache, || cache.unpack(&slice)), None);
    assert_eq!(found(&cache, l2(0)), Some(3 << 16));
    let slice = load(&cache, l2(1)).commit(FileOffset(0), &narrow_bytes(4));
    let looks = std::cell::Cell::new(0);
    let seen = slice.look(|seen| {
        looks.set(looks.get() + 1);
        cache.unpack(&slice);
        seen.entry(0)
    });
    assert_eq!((seen, looks.get()), (4 << 16, 2));
}

/// What lines were becomes entries, which a file may choose: the life that a reader looks for among them.
#[test]
fn entries_are_not_taken_for_the_line_that_was_there() {
    let (arena, mut ledger) = (Arena::new(64, 4), Ledger::default());
    // Of two frames of them the one that is given back first is kept.
    let lines: Vec<Line> = (0..16).map(|_| ledger.take_line(&arena)).collect();
    let header = |line| crate::cache::slice::Header::there(&arena, line);
    header(lines[15]).begin(77);
    let life = header(lines[15]).life().expect("it leads one");
    assert!(header(lines[15]).leads(life));
    header(lines[15]).end();
    lines.iter().for_each(|line| ledger.give_line(&arena, *line));
    let frames: Vec<Frame> = (0..2).map(|_| ledger.take_frame(&arena)).collect();
    frames.iter().for_each(|frame| entries::fill(arena.frame(*frame), std::iter::repeat(77)));
    let taken = frames.iter().filter(|frame| {
        arena
            .line(lines[15])
            .is_some_and(|(words, _)| arena.frame(**frame).as_ptr_range().contains(&words.as_ptr()))
    });
    assert_eq!(taken.count(), 1, "its frame is that of entries now");
    assert!(!header(lines[15]).leads(life) && header(lines[15]).life().is_none());
    // It holds lines again, and none of them leads a life that an entry said.
    frames.iter().for_each(|frame| ledger.give_frame(*frame));
    for _ in 0..16 {
        ledger.take_line(&arena);
    }
    assert!(lines.iter().all(|line| header(*line).life().is_none() && !header(*line).leads(life)));
}

/// Whatever words a reader meets that comes late, it does not panic, and it comes to an end.
#[test]
fn any_words_can_be_looked_at() {
    let (arena, mut ledger) = (Arena::new(256, 4), Ledger::default());
    let line = ledger.take_line(&arena);
    let (words, _) = arena.line(line).expect("a line that was taken");
    for word in [0, 1, 2, 3, 513 << 2 | 1, u64::MAX, u64::MAX << 2, 1 << 32 | 600 << 2 | 1, u64::MAX - 2] {
        words.iter().for_each(|place| place.store(word, std::sync::atomic::Ordering::Relaxed));
        let slice = Slice::shown(l2(0), crate::cache::slice::Header::there(&arena, line));
        for place in [0, 1, 255, 256, 511, 512, usize::MAX] {
            let _ = (slice.entry(place), slice.entry_at(place), slice.len(), slice.is_packed());
        }
    }
    // Runs that lead round and round, of which there are very many.
    let round_and_round = [0, 0, 0, 0, 0, u64::from(line.0) << 32 | u64::from(u32::MAX) & !3 | 1, 0, 0];
    let words_and_next = words.iter().zip(round_and_round).enumerate();
    words_and_next.for_each(|(which, (place, word))| {
        let next = if which == 1 { u64::from(line.0) + 1 } else { word };
        place.store(next, std::sync::atomic::Ordering::Relaxed);
    });
    let slice = Slice::shown(l2(0), crate::cache::slice::Header::there(&arena, line));
    assert_eq!((slice.len(), slice.entry(1 << 20)), (512, 0));
    // It may be anything, but it comes to an end.
    let _ = slice.entry(511);
    let there_was_none =
        [Shape::Narrow(Frame(u32::MAX)), Shape::Wide(Frame(9), None), Shape::Runs(Line(u32::MAX))];
    assert!(there_was_none.iter().all(|shape| entries::entry(&arena, *shape, 512, 300).is_none()));
}
