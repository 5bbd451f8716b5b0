//! What a model checker does not bring, made out of what it does bring.
//!
//! Role: [`Event`] and [`OnceLock`] with the part of their interfaces that the engine uses, for models
//! alone.
//!
//! Invariant: each promises what the real one documents and no more: where the real one lets a reader see an older value
//! or wakes one of several, so does this one.
//!
//! Absent on purpose: speed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use super::atomic::{AtomicBool, Ordering};
use super::{Mutex, MutexGuard};

/// As `event_listener::Event`.
#[derive(Default)]
pub(crate) struct Event(Arc<Mutex<Listeners>>);

/// Those who wait, in the order they came. Who is notified stands before who is not.
#[derive(Default)]
struct Listeners {
    next: u64,
    waiting: VecDeque<(u64, State)>,
}

enum State {
    Created,
    Waiting(Waker),
    Notified { additional: bool },
}

/// As `event_listener::EventListener`: listens from its creation; dropped after it was notified and before it
/// looked, it passes the notification on.
pub struct EventListener {
    list: Arc<Mutex<Listeners>>,
    number: u64,
}

impl Event {
    pub(crate) fn listen(&self) -> EventListener {
        let mut list = lock(&self.0);
        let number = list.next;
        list.next += 1;
        list.waiting.push_back((number, State::Created));
        EventListener { list: Arc::clone(&self.0), number }
    }

    pub(crate) fn total_listeners(&self) -> usize {
        lock(&self.0).waiting.len()
    }

    /// Sees to it that at least so many are notified.
    pub(crate) fn notify(&self, count: usize) {
        let woken = lock(&self.0).notify(count, false);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Notifies so many more.
    pub(crate) fn notify_additional(&self, count: usize) {
        let woken = lock(&self.0).notify(count, true);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Listeners {
    fn notify(&mut self, count: usize, additional: bool) -> Vec<Waker> {
        let notified =
            self.waiting.iter().take_while(|(_, state)| matches!(state, State::Notified { .. })).count();
        let count = if additional { count } else { count.saturating_sub(notified) };
        let next = self.waiting.iter_mut().skip(notified).take(count);
        next.filter_map(|(_, state)| match std::mem::replace(state, State::Notified { additional }) {
            State::Waiting(waker) => Some(waker),
            State::Created | State::Notified { .. } => None,
        })
        .collect()
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.waiting.iter().position(|(own, _)| *own == number)
    }
}

impl Future for EventListener {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut list = lock(&self.list);
        let place = list.place(self.number).expect("a listener is not polled again once it is done");
        if matches!(list.waiting[place].1, State::Notified { .. }) {
            list.waiting.remove(place);
            return Poll::Ready(());
        }
        list.waiting[place].1 = State::Waiting(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for EventListener {
    fn drop(&mut self) {
        let mut list = lock(&self.list);
        let left = list.place(self.number).and_then(|place| list.waiting.remove(place));
        let woken = match left {
            Some((_, State::Notified { additional })) => list.notify(1, additional),
            _ => Vec::new(),
        };
        drop(list);
        woken.into_iter().for_each(Waker::wake);
    }
}

fn lock(list: &Mutex<Listeners>) -> MutexGuard<'_, Listeners> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As `std::sync::OnceLock`.
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    setting: Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        OnceLock {
            is_set: AtomicBool::new(false),
            setting: Mutex::new(()),
            value: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let _setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        let value = self.value.get_or_init(make);
        self.is_set.store(true, Ordering::Release);
        value
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let once = OnceLock::new();
        once.get_or_init(|| value);
        once
    }
}
