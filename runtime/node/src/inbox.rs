//! The driver's queue.
//!
//! Role: everything that happens to a partition reaches its driver here, in whole batches: one lock and at most one
//! wake-up per batch. The driver takes all that is there at once.
//!
//! Bound: events are bounded by [`Gate`], which publishers pass before they append; reports and settlements are bounded by
//! the chunks in flight; commands by the number of services. So the vector has no limit of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// A queue of which the one reader takes everything.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    items: Mutex<Vec<T>>,
    filled: Condvar,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self { items: Mutex::new(Vec::new()), filled: Condvar::new() }
    }

    pub(crate) fn push(&self, item: T) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.push(item);
        let first = items.len() == 1;
        drop(items);
        if first {
            self.filled.notify_one();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Moves everything into `into` (which must be empty); waits at most `wait` for the first item.
    pub(crate) fn take(&self, into: &mut Vec<T>, wait: Duration) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.is_empty() && !wait.is_zero() {
            (items, _) = self
                .filled
                .wait_timeout_while(items, wait, |items| items.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut *items, into);
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
        let mut taken = Vec::new();
        inbox.take(&mut taken, Duration::ZERO);
        assert_eq!(taken, vec![0, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_closed_gate_opens_when_the_driver_catches_up() {
        let gate = Arc::new(Gate::new(10));
        gate.add(10);
        assert!(!gate.is_open());
        let waiting = tokio::task::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.open().await }
        });
        tokio::task::yield_now().await;
        gate.remove(4);
        waiting.await.expect("the waiter is woken");
    }
}
