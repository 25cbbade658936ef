//! The processor slots that overrunning calls share.
//!
//! Role: a call that outlives an epoch tick must hold one of these slots to go on, so that however many guests spin, one
//! core is left for calls that do not. First come, first served; the holder gives its slot up after a quantum when
//! others wait, which makes it round-robin.
//!
//! Invariant: `free` plus granted slots is constant; a waiter that leaves without its slot was removed from the queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a waiting call looks whether it was told to stop.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Slots {
    state: Mutex<State>,
    /// The length of the queue, readable without the lock.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct State {
    free: usize,
    queue: VecDeque<Arc<Waiter>>,
}

#[derive(Debug, Default)]
struct Waiter {
    granted: Mutex<bool>,
    signal: Condvar,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self { state: Mutex::new(State { free: count.max(1), queue: VecDeque::new() }), waiting: AtomicUsize::new(0) }
    }

    /// Whether somebody waits for a slot.
    pub(crate) fn contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits for a slot. False when `stop` turned true first; then no slot is held.
    pub(crate) fn acquire(&self, stop: &dyn Fn() -> bool) -> bool {
        let waiter = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 && state.queue.is_empty() {
                state.free -= 1;
                return true;
            }
            let waiter = Arc::new(Waiter::default());
            state.queue.push_back(waiter.clone());
            self.waiting.store(state.queue.len(), Ordering::Relaxed);
            waiter
        };
        let mut granted = waiter.granted.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *granted {
                return true;
            }
            if stop() {
                drop(granted);
                self.leave(&waiter);
                return false;
            }
            granted = waiter.signal.wait_timeout(granted, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives a slot back, to the first who waits.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.hand_on(&mut state);
    }

    fn hand_on(&self, state: &mut State) {
        match state.queue.pop_front() {
            Some(next) => {
                *next.granted.lock().unwrap_or_else(PoisonError::into_inner) = true;
                next.signal.notify_one();
            }
            None => state.free += 1,
        }
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
    }

    /// Leaves the queue. The slot may have been granted in the meantime; then it goes to the next.
    fn leave(&self, waiter: &Arc<Waiter>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.queue.len();
        state.queue.retain(|other| !Arc::ptr_eq(other, waiter));
        if state.queue.len() == before {
            self.hand_on(&mut state);
        } else {
            self.waiting.store(state.queue.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_slot_is_handed_on_in_order() {
        let slots = Arc::new(Slots::new(1));
        assert!(slots.acquire(&|| false));
        let order = Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = (0..3)
            .map(|index| {
                let (for_thread, order) = (slots.clone(), order.clone());
                let thread = std::thread::spawn(move || {
                    assert!(for_thread.acquire(&|| false));
                    order.lock().unwrap().push(index);
                    for_thread.release();
                });
                while slots.state.lock().unwrap().queue.len() <= index {
                    std::thread::yield_now();
                }
                thread
            })
            .collect();
        assert!(slots.contended());
        slots.release();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        assert!(!slots.contended());
    }

    #[test]
    fn a_waiter_that_is_told_to_stop_leaves_without_a_slot() {
        let slots = Arc::new(Slots::new(1));
        assert!(slots.acquire(&|| false));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (slots, stop) = (slots.clone(), stop.clone());
            std::thread::spawn(move || slots.acquire(&|| stop.load(Ordering::Relaxed)))
        };
        stop.store(true, Ordering::Relaxed);
        assert!(!thread.join().unwrap());
        slots.release();
        assert!(slots.acquire(&|| true), "the slot was lost");
    }
}
