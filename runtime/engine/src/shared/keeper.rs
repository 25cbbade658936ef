//! Keeping a bus: one task for as long as the engine is open.
//!
//! Role: takes the lease when it is free, begins, renews, and stops when the lease or the journal went to another node; then
//! waits for its turn again. Says each change once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use busway_types::{Batch, Clock, Limits, Offset, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::owner::{Owned, begin};
use super::{Broker, Lease, Trouble, pause};
use crate::mesh::{Post, Posted, To};
use crate::{Engine as _, EngineError, Epoch, Partition, Settled, Sink};

/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often a node that waits looks whether the bus is free.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the engine and its task share.
pub(super) struct Inner {
    /// Where the bus is, for people.
    pub(super) shown: String,
    pub(super) node: String,
    /// The way to other nodes, and what is to be sent until somebody sends it.
    pub(super) post: Arc<Post>,
    pub(super) posted: Mutex<Option<Posted>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) sink: OnceLock<Arc<dyn Sink>>,
    /// While this node owns the bus.
    pub(super) owned: RwLock<Option<Arc<Owned>>>,
    /// Who owns it otherwise, as far as it is known.
    pub(super) owner: Mutex<String>,
    /// Who is to own it next, when this node gives it away.
    pub(super) next: Mutex<Option<String>>,
    pub(super) closing: AtomicBool,
    /// Everything is written: the lease may be given back.
    pub(super) leaving: AtomicBool,
    /// Something changed that the task has to look at.
    pub(super) changed: Notify,
}

impl Inner {
    pub(super) fn owned(&self) -> Option<Arc<Owned>> {
        self.owned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_owned(&self, owned: Option<Arc<Owned>>) {
        *self.owned.write().unwrap_or_else(PoisonError::into_inner) = owned;
    }

    fn next(&self) -> Option<String> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whose the bus is, for people, while it is not this node's.
    pub(super) fn whose(&self) -> String {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if owner.is_empty() || *owner == self.node {
            return format!("node {} waits for its turn to own the bus {}", self.node, self.shown);
        }
        format!("node {} does not own the bus {}: node {owner} does", self.node, self.shown)
    }

    /// Notes who owns the bus; says so when that is news.
    fn note_owner(&self, owner: &str) {
        if owner.is_empty() {
            // It does not say; whoever was it last is the best guess.
            return;
        }
        let mut known = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != owner {
            tracing::info!(bus = %self.shown, owner, "another node owns the bus; this one takes over when that ends");
            owner.clone_into(&mut known);
        }
    }
}

/// Passes on what the sequencer reports; what a newer owner refuses ends the ownership and not the node.
struct Relay {
    inner: Arc<Inner>,
    sink: Arc<dyn Sink>,
}

impl Sink for Relay {
    fn assigned(&self, partition: Partition, epoch: Epoch, head: Offset) {
        self.sink.assigned(partition, epoch, head);
    }
    fn appended(&self, partition: Partition, batch: Batch) {
        self.sink.appended(partition, batch);
    }
    fn delayed(&self, partition: Partition, due: Timestamp) {
        self.sink.delayed(partition, due);
    }
    fn settled(&self, partition: Partition, settled: Settled) {
        self.sink.settled(partition, settled);
    }
    fn revoked(&self, partition: Partition) {
        self.sink.revoked(partition);
    }
    fn failed(&self, error: EngineError) {
        if matches!(error, EngineError::Stale { .. }) {
            self.inner.changed.notify_one();
        } else {
            self.sink.failed(error);
        }
    }
}

/// How the first try ended, told once to whoever starts the engine.
struct First(Option<SyncSender<Result<(), EngineError>>>);

impl First {
    /// Tells it; gives the outcome back when it was told before.
    fn tell(&mut self, outcome: Result<(), EngineError>) -> Option<Result<(), EngineError>> {
        match self.0.take() {
            Some(tell) => {
                // Whoever started the engine waits for this.
                let _ = tell.send(outcome);
                None
            }
            None => Some(outcome),
        }
    }
}

/// Runs until the engine is closed or cannot go on; tells `first` when it owns the bus or knows that somebody else does.
pub(super) async fn keep(inner: Arc<Inner>, first: SyncSender<Result<(), EngineError>>, ended: SyncSender<()>) {
    let mut first = First(Some(first));
    let mut tries = 0;
    talk(&inner);
    while !inner.is_closing() {
        match inner.broker.lease(&inner.node).await {
            Ok(Ok(lease)) => {
                tries = 0;
                if !own(&inner, lease, &mut first).await {
                    break;
                }
            }
            Ok(Err(owner)) => {
                tries = 0;
                inner.note_owner(&owner);
                let _ = first.tell(Ok(()));
                rest(&inner, LOOK_EVERY).await;
            }
            Err(trouble) => {
                if let Trouble::Later(why) = trouble
                    && first
                        .tell(Err(EngineError::Overloaded(format!("{} does not answer: {why}", inner.shown))))
                        .is_none()
                {
                    break;
                }
                rest(&inner, pause(tries)).await;
                tries += 1;
            }
        }
    }
    // Nobody waits any more when the engine was dropped.
    let _ = ended.send(());
}

/// Sends what this node has for others, and hears what they have for it, until the engine's runtime ends.
fn talk(inner: &Arc<Inner>) {
    let posted = inner.posted.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (Some(posted), Some(sink)) = (posted, inner.sink.get().cloned()) else { return };
    let runtime = Handle::current();
    runtime.spawn(inner.broker.hear(To::Node(inner.node.as_str().into()), sink));
    runtime.spawn(inner.broker.send(&inner.node, posted));
}

/// Waits a while, or until something changed.
async fn rest(inner: &Inner, time: Duration) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = inner.changed.notified() => {}
    }
}

/// Owns the bus for as long as it is this node's; false when the node cannot go on.
async fn own(inner: &Arc<Inner>, mut lease: Box<dyn Lease>, first: &mut First) -> bool {
    let begun = begin(&inner.broker, &inner.node, Arc::clone(&inner.clock), inner.limits.clone()).await;
    let owned = match begun {
        Ok(owned) => Arc::new(owned),
        Err(error) => {
            // It ends by itself if it cannot be given back.
            let _ = lease.give_back().await;
            let again = error.is_retryable();
            if let Some(Err(error)) = first.tell(Err(error)) {
                if again {
                    rest(inner, LOOK_EVERY).await;
                    return true;
                }
                if let Some(sink) = inner.sink.get() {
                    sink.failed(error);
                }
            }
            return false;
        }
    };
    let Some(sink) = inner.sink.get().cloned() else { return false };
    inner.set_owned(Some(Arc::clone(&owned)));
    inner.note_owner_is_us();
    let relay = Relay { inner: Arc::clone(inner), sink: Arc::clone(&sink) };
    if let Err(error) = owned.engine.start(Arc::new(relay)) {
        let _ = first.tell(Err(error));
        return false;
    }
    let _ = first.tell(Ok(()));
    let hearing = async {
        inner.broker.hear(To::Owner, Arc::clone(&sink)).await;
        std::future::pending::<()>().await;
    };
    let given = tokio::select! {
        given = hold(inner, &owned, &mut *lease) => given,
        () = hearing => None,
    };
    if inner.is_closing() {
        let _ = lease.give_back().await;
        return false;
    }
    if let Some(next) = given {
        // If that fails the lease ends by itself.
        let _ = owned.engine.flush().await;
        let _ = lease.give_to(&next).await;
        tracing::info!(bus = %inner.shown, next, "this node gave the bus to another one");
    } else {
        tracing::warn!(bus = %inner.shown, "another node took the bus over; what is in flight here is void");
    }
    // First: whoever is refused from now on knows why.
    sink.revoked(0);
    inner.set_owned(None);
    owned.shared.abandon(owned.epoch);
    owned.reader.stop();
    true
}

/// Returns when the bus is not this node's any more, or is to be another one's, which it gives, or when the engine is closed.
async fn hold(inner: &Inner, owned: &Owned, lease: &mut dyn Lease) -> Option<String> {
    let mut renewal = tokio::time::interval(RENEW_EVERY);
    renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = renewal.tick() => match lease.renew().await {
                Err(Trouble::Conflict) => {
                    owned.shared.abandon(owned.epoch);
                    return None;
                }
                // Whether another node is the owner meanwhile is decided by the journal.
                Ok(()) | Err(Trouble::Later(_) | Trouble::Gone) => {}
            },
            () = inner.changed.notified() => {}
            () = owned.shared.failed.notified() => {}
        }
        let stale = matches!(owned.shared.failure(), Some(EngineError::Stale { .. }));
        // The lease goes last: for a broker it may be one with the right to write.
        if inner.leaving.load(Ordering::Acquire) || stale {
            return None;
        }
        if let Some(next) = inner.next() {
            return Some(next);
        }
    }
}

impl Inner {
    fn note_owner_is_us(&self) {
        let mut known = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone_from(&self.node);
        tracing::info!(bus = %self.shown, "this node owns the bus");
    }
}
