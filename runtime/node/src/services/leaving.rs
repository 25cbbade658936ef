//! Services on their way out.
//!
//! Role: let what is in flight finish, then note in the engine that nobody is attached to the subscription.
//!
//! Invariant: as long as a service is in [`Leaving`], nobody attaches it again. Otherwise it would go on from a position to
//! which what is still in flight is added later, and a late note would call a running service detached.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use busway_types::ServiceName;
use tokio::sync::oneshot;

use super::catalog::Handler;
use crate::driver::{Event, PARTITION};
use crate::inner::Inner;

/// How long a removed service may take to finish what is in flight before its instances are ended; as long again may
/// pass until that is done.
pub(super) const DRAIN_FOR: Duration = Duration::from_secs(30);

/// The services that are on their way out, and how often.
#[derive(Clone, Default)]
pub(super) struct Leaving(Arc<Mutex<BTreeMap<ServiceName, usize>>>);

/// Something of a service is on its way out until this is dropped.
pub(super) struct Leaves {
    leaving: Leaving,
    name: ServiceName,
}

impl Leaving {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, name: &ServiceName) -> Leaves {
        *self.lock().entry(name.clone()).or_default() += 1;
        Leaves { leaving: self.clone(), name: name.clone() }
    }

    pub(super) fn contains(&self, name: &ServiceName) -> bool {
        self.lock().contains_key(name)
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        let mut leaving = self.leaving.lock();
        if let Some(count) = leaving.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                leaving.remove(&self.name);
            }
        }
    }
}

/// Waits until nothing of a subscription is in flight, then notes that no service is attached to it.
pub(super) async fn detach(inner: &Inner, handler: &Handler) {
    let (done, mut gone) = oneshot::channel();
    inner.driver.inbox.push(Event::Detach { sub: handler.sub, done });
    let mut ended = tokio::time::timeout(DRAIN_FOR, &mut gone).await;
    if ended.is_err() {
        tracing::warn!(subscription = handler.name, "still busy; its instances are ended and the rest is tried again");
        handler.lane.stop();
        ended = tokio::time::timeout(DRAIN_FOR, &mut gone).await;
    }
    if let Ok(Err(_)) = ended {
        // The driver ended, and with it the node; the next start finds out who is gone.
        return;
    }
    if let Err(error) = inner.engine.detach(PARTITION, inner.epoch(), handler.sub, inner.clock.now()) {
        tracing::warn!(subscription = handler.name, %error, "could not be detached");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_leaves_until_all_of_it_is_gone() {
        let (leaving, name) = (Leaving::default(), "a".parse::<ServiceName>().expect("a name"));
        let (first, second) = (leaving.begin(&name), leaving.begin(&name));
        drop(first);
        assert!(leaving.contains(&name));
        drop(second);
        assert!(!leaving.contains(&name));
    }
}
