//! Places for connections.
//!
//! Invariant: a [`Slot`] is given back exactly once, when whatever holds the connection's bytes is dropped.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::edge::rate::client_block;

#[derive(Default)]
struct Taken {
    open: usize,
    clients: HashMap<IpAddr, usize>,
}

/// All places.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<Taken>,
    changed: Notify,
}

/// The place of one connection.
pub(super) struct Slot {
    slots: Arc<Slots>,
    client: IpAddr,
}

impl Slots {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, unless the client has `most` already.
    pub(super) fn take(self: &Arc<Self>, addr: IpAddr, most: usize) -> Option<Slot> {
        let client = client_block(addr);
        let mut taken = self.taken();
        let count = taken.clients.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        taken.open += 1;
        drop(taken);
        Some(Slot { slots: Arc::clone(self), client })
    }

    pub(super) fn open(&self) -> usize {
        self.taken().open
    }

    /// Waits until fewer than `most` places are taken; asked again whenever one is given back.
    pub(super) async fn room(&self, most: impl Fn() -> usize) {
        self.until(|open| open < most()).await;
    }

    /// Waits until no place is taken.
    pub(super) async fn empty(&self) {
        self.until(|open| open == 0).await;
    }

    async fn until(&self, is_so: impl Fn(usize) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(self.open()) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.open -= 1;
        if let Some(count) = taken.clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.clients.remove(&self.client);
            }
        }
        drop(taken);
        self.slots.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_of_ipv6_is_one_client_and_mapped_ipv4_is_ipv4() {
        let same = |a: &str, b: &str| client_block(a.parse().expect("ip")) == client_block(b.parse().expect("ip"));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }

    #[test]
    fn places_are_counted_for_each_client_and_given_back() {
        let slots = Arc::new(Slots::default());
        let (a, b) = ("10.0.0.1".parse().expect("ip"), "10.0.0.2".parse().expect("ip"));
        let first = slots.take(a, 2).expect("a place");
        let second = slots.take(a, 2).expect("a place");
        assert!(slots.take(a, 2).is_none());
        let other = slots.take(b, 2).expect("a place");
        assert_eq!(slots.open(), 3);
        drop(first);
        let third = slots.take(a, 2).expect("a place again");
        drop((second, other, third));
        assert_eq!((slots.open(), slots.taken().clients.len()), (0, 0));
    }
}
