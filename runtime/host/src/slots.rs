//! The processor slots that overrunning calls share.
//!
//! Role: a call that outlives an epoch tick must hold one of these slots to go on, so that however many guests spin, one
//! core is left for calls that do not. First come, first served; the holder gives its slot up after a quantum when
//! others wait, which makes it round-robin.
//!
//! Invariant: `free` plus granted slots is constant; a waiter that leaves without its slot was removed from the queue.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
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
    grant: Mutex<Grant>,
    signal: Condvar,
}

#[derive(Debug, Default)]
struct Grant {
    granted: bool,
    /// Of a future that waits; none while a thread does.
    waker: Option<Waker>,
}

/// A place in the queue that is given up when the future that holds it is dropped.
struct Queued<'a> {
    slots: &'a Slots,
    waiter: Arc<Waiter>,
    taken: bool,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if !self.taken {
            self.slots.leave(&self.waiter);
        }
    }
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
        let Some(waiter) = self.take_or_queue() else { return true };
        let mut grant = waiter.grant.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if grant.granted {
                return true;
            }
            if stop() {
                drop(grant);
                self.leave(&waiter);
                return false;
            }
            grant = waiter.signal.wait_timeout(grant, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a slot without holding a thread, in the same queue as those who do. Dropping the future leaves the queue.
    pub(crate) async fn acquire_async(&self) {
        let Some(waiter) = self.take_or_queue() else { return };
        let mut queued = Queued { slots: self, waiter, taken: false };
        poll_fn(|context| {
            let mut grant = queued.waiter.grant.lock().unwrap_or_else(PoisonError::into_inner);
            if grant.granted {
                return Poll::Ready(());
            }
            grant.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        queued.taken = true;
    }

    /// Takes a slot if one is free now.
    pub(crate) fn try_acquire(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let free = state.free > 0 && state.queue.is_empty();
        if free {
            state.free -= 1;
        }
        free
    }

    /// Takes a free slot (none is returned), or joins the queue.
    fn take_or_queue(&self) -> Option<Arc<Waiter>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.free > 0 && state.queue.is_empty() {
            state.free -= 1;
            return None;
        }
        let waiter = Arc::new(Waiter::default());
        state.queue.push_back(waiter.clone());
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
        Some(waiter)
    }

    /// Gives a slot back, to the first who waits.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.hand_on(&mut state);
    }

    fn hand_on(&self, state: &mut State) {
        match state.queue.pop_front() {
            Some(next) => {
                let mut grant = next.grant.lock().unwrap_or_else(PoisonError::into_inner);
                grant.granted = true;
                let waker = grant.waker.take();
                drop(grant);
                match waker {
                    Some(waker) => waker.wake(),
                    None => next.signal.notify_one(),
                }
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
    fn a_future_waits_in_the_same_queue_and_leaves_it_when_dropped() {
        use std::task::Context;
        let slots = Slots::new(1);
        assert!(slots.try_acquire() && !slots.try_acquire());
        let (mut dropped, mut kept) = (Box::pin(slots.acquire_async()), Box::pin(slots.acquire_async()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(dropped.as_mut().poll(&mut context).is_pending() && kept.as_mut().poll(&mut context).is_pending());
        slots.release();
        assert!(!slots.try_acquire(), "the slot belongs to the first who waits");
        drop(dropped);
        assert!(kept.as_mut().poll(&mut context).is_ready(), "whoever leaves hands its slot on");
        slots.release();
        assert!(slots.try_acquire());
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
