//! Turns that are had in the order in which they were asked for.
//!
//! Role: [`Line`] lets so many through at a time; who comes when all are taken waits behind those who came before.
//!
//! Invariant: a turn that ends is the next in line's, never a later comer's. So who asks for turn after turn has one
//! when everybody who waits has had one. While anybody waits, no turn is free.
//!
//! Absent on purpose: sharing between threads.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use event_listener::{Event, listener};

/// So many turns at a time.
#[derive(Debug)]
pub(crate) struct Line {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Place>>>,
}

/// A place in the line.
#[derive(Debug, Default)]
struct Place {
    is_called: Cell<bool>,
    called: Event,
}

impl Line {
    /// A line for `turns` at a time.
    pub(crate) fn of(turns: usize) -> Self {
        Line { free: Cell::new(turns), waiting: RefCell::default() }
    }

    /// Waits for a turn. Dropping the future gives its place up.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        if let Some(left) = self.free.get().checked_sub(1) {
            self.free.set(left);
            return Turn { line: self, place: None };
        }
        let place = Rc::<Place>::default();
        self.waiting.borrow_mut().push_back(Rc::clone(&place));
        let turn = Turn { line: self, place: Some(Rc::clone(&place)) };
        while !place.is_called.get() {
            listener!(place.called => called);
            called.await;
        }
        turn
    }

    fn call_next(&self) {
        match self.waiting.borrow_mut().pop_front() {
            Some(next) => {
                next.is_called.set(true);
                next.called.notify(1);
            }
            None => self.free.set(self.free.get() + 1),
        }
    }

    fn leave(&self, place: &Rc<Place>) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(at) = waiting.iter().position(|other| Rc::ptr_eq(other, place)) {
            waiting.remove(at);
        }
    }
}

/// A turn, or the wait for one. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    line: &'a Line,
    /// Where it waited.
    place: Option<Rc<Place>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        match &self.place {
            Some(place) if !place.is_called.get() => self.line.leave(place),
            _ => self.line.call_next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    #[test]
    fn who_has_had_a_turn_has_the_next_behind_those_who_wait() {
        let line = Line::of(1);
        block_on(async {
            let first = line.turn().await;
            let mut waits = pin!(line.turn());
            assert!(poll_once(&mut waits).await.is_none());
            drop(first);
            let mut again = pin!(line.turn());
            assert!(poll_once(&mut again).await.is_none(), "the turn is another's already");
            drop(poll_once(&mut waits).await.expect("it was next"));
            assert!(poll_once(&mut again).await.is_some());
        });
        assert_eq!(line.free.get(), 1);
    }

    #[test]
    fn a_place_that_is_given_up_is_the_next_ones() {
        let line = Line::of(1);
        block_on(async {
            let first = line.turn().await;
            let mut waits = pin!(line.turn());
            let mut last = pin!(line.turn());
            {
                let mut called = Box::pin(line.turn());
                assert!(poll_once(&mut called).await.is_none());
                assert!(poll_once(&mut waits).await.is_none());
                assert!(poll_once(line.turn()).await.is_none(), "it leaves while it waits");
                assert!(poll_once(&mut last).await.is_none());
                drop(first);
            }
            drop(poll_once(&mut waits).await.expect("who was called before has left"));
            drop(poll_once(&mut last).await.expect("it is next"));
        });
        assert_eq!((line.free.get(), line.waiting.borrow().len()), (1, 0));
    }
}
