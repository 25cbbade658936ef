//! The driver's queue.
//!
//! Role: everything that happens to a partition reaches its driver here, in whole batches: one lock and at most one
//! wake-up per batch. The driver takes all that is there at once.
//!
//! What comes back from lanes and the engine goes ahead of what is new: a lane that waits for its next chunk must not wait
//! until a flood of new events has been looked at. Within each of the two the order is kept.
//!
//! Bound: events are bounded by [`Gate`], which publishers pass before they append; reports and settlements are bounded by
//! the chunks in flight; commands by the number of services. So the vector has no limit of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// A queue of which the one reader takes everything.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    items: Mutex<Items<T>>,
    filled: Condvar,
    /// Whether there is something to take; may be read without the lock.
    any: AtomicBool,
    /// Whether there is something that goes ahead.
    any_ahead: AtomicBool,
}

#[derive(Debug)]
struct Items<T> {
    ahead: Vec<T>,
    queue: Vec<T>,
    /// Whether the reader sleeps and has to be woken.
    asleep: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self {
            items: Mutex::new(Items { ahead: Vec::new(), queue: Vec::new(), asleep: false }),
            filled: Condvar::new(),
            any: AtomicBool::new(false),
            any_ahead: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Items<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something new.
    pub(crate) fn push(&self, item: T) {
        let mut items = self.lock();
        items.queue.push(item);
        self.pushed(items);
    }

    /// Adds something that goes ahead of what is new.
    pub(crate) fn push_ahead(&self, item: T) {
        let mut items = self.lock();
        items.ahead.push(item);
        self.any_ahead.store(true, Ordering::Release);
        self.pushed(items);
    }

    fn pushed(&self, mut items: MutexGuard<'_, Items<T>>) {
        self.any.store(true, Ordering::Release);
        let wake = std::mem::take(&mut items.asleep);
        drop(items);
        if wake {
            self.filled.notify_one();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Moves what goes ahead into `ahead` and the rest into `into` (both must be empty); waits at most `wait` for the first
    /// item. When nothing is there it first naps, unless `nap` is zero: where batches follow closely, waking the reader
    /// for each costs the writer a system call and moves the reader to the writer's core, where it stands in the
    /// writer's way.
    pub(crate) fn take(&self, ahead: &mut Vec<T>, into: &mut Vec<T>, wait: Duration, nap: Duration) {
        if !nap.is_zero() && self.is_empty() {
            std::thread::sleep(nap);
        }
        let mut items = self.lock();
        if items.is_empty() && !wait.is_zero() {
            items.asleep = true;
            let waited = self.filled.wait_timeout_while(items, wait, |items| items.is_empty());
            (items, _) = waited.unwrap_or_else(PoisonError::into_inner);
            items.asleep = false;
        }
        std::mem::swap(&mut items.ahead, ahead);
        std::mem::swap(&mut items.queue, into);
        self.any_ahead.store(false, Ordering::Release);
        self.any.store(false, Ordering::Release);
    }

    /// Moves what goes ahead into `ahead` (which must be empty), if there is anything. Never waits.
    pub(crate) fn take_ahead(&self, ahead: &mut Vec<T>) {
        if self.any_ahead.load(Ordering::Acquire) {
            let mut items = self.lock();
            std::mem::swap(&mut items.ahead, ahead);
            self.any_ahead.store(false, Ordering::Release);
            self.any.store(!items.queue.is_empty(), Ordering::Release);
        }
    }
}

impl<T> Items<T> {
    fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.queue.is_empty()
    }
}

/// Bounds the bytes between publishers and the driver.
#[derive(Debug)]
pub(crate) struct Gate {
    pending: AtomicUsize,
    max: usize,
    freed: Notify,
}

impl Gate {
    pub(crate) fn new(max: usize) -> Self {
        Self { pending: AtomicUsize::new(0), max, freed: Notify::new() }
    }

    /// Notes bytes on their way to the driver. Publishers call [`Gate::open`] before; handlers' events, which are bounded
    /// by their outboxes, come without asking.
    pub(crate) fn add(&self, bytes: usize) {
        self.pending.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Notes that the driver took them.
    pub(crate) fn remove(&self, bytes: usize) {
        let before = self.pending.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.max && before - bytes < self.max {
            self.freed.notify_waiters();
        }
    }

    /// Whether more may be published now. Publishers that see an open gate at the same time may pass it together, each
    /// with at most one batch.
    pub(crate) fn is_open(&self) -> bool {
        self.pending.load(Ordering::Acquire) < self.max
    }

    /// Waits until the gate is open.
    pub(crate) async fn open(&self) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.is_open() {
                return;
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_reader_takes_all_that_is_there_in_order() {
        let inbox = Inbox::new();
        for i in 0..5 {
            inbox.push(i);
        }
        let (mut ahead, mut taken) = (Vec::new(), Vec::new());
        inbox.take(&mut ahead, &mut taken, Duration::ZERO, Duration::ZERO);
        assert_eq!((ahead, taken), (vec![], vec![0, 1, 2, 3, 4]));
        assert!(inbox.is_empty());
    }

    #[test]
    fn what_goes_ahead_is_taken_alone_and_leaves_the_rest() {
        let inbox = Inbox::new();
        for i in 0..3 {
            inbox.push(i);
            inbox.push_ahead(10 + i);
        }
        let (mut ahead, mut taken) = (Vec::new(), Vec::new());
        inbox.take_ahead(&mut ahead);
        assert_eq!(ahead, vec![10, 11, 12]);
        assert!(!inbox.is_empty());
        ahead.clear();
        inbox.take_ahead(&mut ahead);
        assert!(ahead.is_empty());
        inbox.push_ahead(13);
        inbox.take(&mut ahead, &mut taken, Duration::ZERO, Duration::ZERO);
        assert_eq!((ahead, taken), (vec![13], vec![0, 1, 2]));
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_sleeping_reader_is_woken_and_a_napping_one_finds_what_came() {
        for nap in [Duration::ZERO, Duration::from_millis(5)] {
            let inbox = Arc::new(Inbox::new());
            let writer = Arc::clone(&inbox);
            let pushing = std::thread::spawn(move || writer.push(7));
            let (mut ahead, mut taken) = (Vec::new(), Vec::new());
            inbox.take(&mut ahead, &mut taken, Duration::from_secs(30), nap);
            assert_eq!(taken, vec![7]);
            pushing.join().expect("the writer ends");
        }
    }

    #[tokio::test]
    async fn a_closed_gate_opens_when_the_driver_catches_up() {
        let gate = Gate::new(10);
        gate.add(10);
        assert!(!gate.is_open());
        let opened = gate.open();
        let freed = async {
            tokio::task::yield_now().await;
            gate.remove(4);
        };
        tokio::join!(opened, freed);
        assert!(gate.is_open());
    }
}
