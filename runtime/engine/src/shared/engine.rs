//! The engine that nodes share: the sequencer over a journal that a broker keeps.
//!
//! Role: [`Engine`] for a bus whose records a broker keeps, so that it survives the machine of the node and another node takes
//! over when that ends. See ARCHITECTURE, "Engines".
//!
//! Invariants: everything that decides about events is the sequencer's, here as in the embedded engine; only the owner's
//! records land in the journal; an answer to a publisher comes after the broker has confirmed the record.
//!
//! The engine has threads of its own for the network: the driver and the lanes are no tasks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use busway_types::{
    Clock, Effects, Event, EventId, KvVersion, Limits, Logged, Offset, Receipt, Replay, ServiceName, Settlement, SubId,
    SubscriptionSpec, SubscriptionState, Timestamp,
};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::Broker;
use super::keeper::{Inner, keep};
use super::owner::Owned;
use crate::mesh::post;
use crate::{
    Answer, Capabilities, Engine, EngineError, EngineStatus, Epoch, Handlings, KnownSubscription, KvEntries, KvSelect,
    Mesh, Partition, ReadRequest, ReadResult, Replayed, Room, Sink,
};

/// Threads for the network.
const THREADS: usize = 2;
/// How long closing waits for the lease to be given back.
const GIVE_BACK_FOR: Duration = Duration::from_secs(6);

/// An engine whose queues a broker keeps and several nodes share. Opened by the module of the broker.
pub struct SharedEngine {
    inner: Arc<Inner>,
    /// Always there, except while this is dropped.
    runtime: Option<Runtime>,
    /// Hears when the task has ended.
    ended: Mutex<Option<Receiver<()>>>,
}

/// Who opens an engine, and how it keeps time and bounds.
pub(crate) struct Opening {
    /// The name of this node, which no other one has.
    pub(crate) node: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
}

impl SharedEngine {
    /// Opens the engine over the broker that `connect` finds. To be called on a thread that is no task's.
    pub(crate) fn open(
        opening: Opening,
        threads: &str,
        connect: impl Future<Output = Result<Arc<dyn Broker>, EngineError>>,
    ) -> Result<Self, EngineError> {
        let Opening { node, clock, limits } = opening;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name(threads)
            .enable_all()
            .build()
            .map_err(|error| EngineError::Refused(format!("no threads for the network: {error}")))?;
        let broker = runtime.block_on(connect)?;
        let (post, posted) = post(node.clone());
        let inner = Inner {
            shown: broker.shown(),
            node,
            post: Arc::new(post),
            posted: Mutex::new(Some(posted)),
            clock,
            limits,
            broker,
            sink: OnceLock::new(),
            owned: RwLock::new(None),
            owner: Mutex::default(),
            next: Mutex::default(),
            closing: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            changed: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner), runtime: Some(runtime), ended: Mutex::default() })
    }

    /// The bus, if it is this node's; else why nothing can be done.
    fn owned(&self) -> Result<Arc<Owned>, EngineError> {
        self.inner.owned().ok_or_else(|| {
            if self.inner.closing.load(Ordering::Acquire) {
                return EngineError::Closed;
            }
            EngineError::Overloaded(self.inner.whose())
        })
    }

    /// The bus, for a caller who thinks to own it.
    fn owned_under(&self, partition: Partition, epoch: Epoch) -> Result<Arc<Owned>, EngineError> {
        match self.inner.owned() {
            Some(owned) => Ok(owned),
            None if self.inner.closing.load(Ordering::Acquire) => Err(EngineError::Closed),
            None => Err(EngineError::Stale { partition, epoch }),
        }
    }
}

impl Drop for SharedEngine {
    fn drop(&mut self) {
        self.inner.closing.store(true, Ordering::Release);
        self.inner.leaving.store(true, Ordering::Release);
        self.inner.changed.notify_one();
        if let Some(runtime) = self.runtime.take() {
            // The last owner may be a task of another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// An answer that is there already.
fn ready<T: Send + 'static>(answer: T) -> Answer<T> {
    Box::pin(std::future::ready(answer))
}

/// What a publisher is told whose events went to an owner that is none any more: they were not appended.
fn moved<T: Send + 'static>(answer: Answer<Result<T, EngineError>>) -> Answer<Result<T, EngineError>> {
    Box::pin(async move {
        answer.await.map_err(|error| match error {
            EngineError::Stale { .. } => {
                EngineError::Overloaded("the bus moved to another node meanwhile; nothing was done".to_owned())
            }
            error => error,
        })
    })
}

impl Engine for SharedEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { durable: true, transactional: true, key_value: true, replay: true, delay: true, shared: true }
    }

    fn start(&self, sink: Arc<dyn Sink>) -> Result<(), EngineError> {
        if self.inner.sink.set(sink).is_err() {
            return Err(EngineError::Refused("the engine was started twice".to_owned()));
        }
        let Some(runtime) = &self.runtime else { return Err(EngineError::Closed) };
        let (tell, first) = sync_channel(1);
        let (tell_end, ended) = sync_channel(1);
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        runtime.spawn(keep(Arc::clone(&self.inner), tell, tell_end));
        first.recv().unwrap_or(Err(EngineError::Closed))
    }

    fn publish(&self, events: Vec<Arc<Event>>) -> Answer<Result<Vec<Receipt>, EngineError>> {
        match self.owned() {
            Ok(owned) => moved(owned.engine.publish(events)),
            Err(error) => ready(Err(error)),
        }
    }

    fn standby(&self) -> Option<String> {
        if self.inner.owned().is_some() || self.inner.closing.load(Ordering::Acquire) {
            return None;
        }
        Some(self.inner.whose())
    }

    fn mesh(&self) -> Option<Arc<dyn Mesh>> {
        Some(Arc::clone(&self.inner.post) as Arc<dyn Mesh>)
    }

    fn hands_over(&self) -> bool {
        self.inner.broker.hands_over()
    }

    fn hand_over(&self, node: &str) {
        *self.inner.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.to_owned());
        self.inner.changed.notify_one();
    }

    fn room(&self) -> Room {
        self.inner.owned().map_or(Room::NoPublishers, |owned| owned.engine.room())
    }

    fn subscribe(
        &self,
        partition: Partition,
        epoch: Epoch,
        spec: &SubscriptionSpec,
    ) -> Result<(SubId, SubscriptionState), EngineError> {
        self.owned_under(partition, epoch)?.engine.subscribe(partition, epoch, spec)
    }

    fn settings(
        &self,
        partition: Partition,
        epoch: Epoch,
        sub: SubId,
        spec: SubscriptionSpec,
        generation: u32,
    ) -> Result<SubscriptionSpec, EngineError> {
        self.owned_under(partition, epoch)?.engine.settings(partition, epoch, sub, spec, generation)
    }

    fn offset_at(&self, partition: Partition, time: Timestamp) -> Result<Offset, EngineError> {
        self.owned()?.engine.offset_at(partition, time)
    }

    fn replay(&self, partition: Partition, epoch: Epoch, sub: SubId, replay: &Replay) -> Result<Replayed, EngineError> {
        self.owned_under(partition, epoch)?.engine.replay(partition, epoch, sub, replay)
    }

    fn detach(&self, partition: Partition, epoch: Epoch, sub: SubId, now: Timestamp) -> Result<(), EngineError> {
        self.owned_under(partition, epoch)?.engine.detach(partition, epoch, sub, now)
    }

    fn forget(&self, name: &str) -> Result<bool, EngineError> {
        self.owned()?.engine.forget(name)
    }

    fn settle(&self, partition: Partition, epoch: Epoch, settlement: Settlement) -> Result<(), EngineError> {
        self.owned_under(partition, epoch)?.engine.settle(partition, epoch, settlement)
    }

    fn advance(&self, partition: Partition, epoch: Epoch, sub: SubId, cursor: Offset) {
        if let Some(owned) = self.inner.owned() {
            owned.engine.advance(partition, epoch, sub, cursor);
        }
    }

    fn read(&self, partition: Partition, request: &ReadRequest) -> Result<ReadResult, EngineError> {
        self.owned()?.engine.read(partition, request)
    }

    fn fetch(&self, partition: Partition, offsets: &[Offset]) -> Result<Vec<Logged>, EngineError> {
        self.owned()?.engine.fetch(partition, offsets)
    }

    fn tick(&self, now: Timestamp) -> Result<Option<Timestamp>, EngineError> {
        match self.inner.owned() {
            Some(owned) => owned.engine.tick(now),
            None if self.inner.closing.load(Ordering::Acquire) => Err(EngineError::Closed),
            None => Ok(None),
        }
    }

    fn subscriptions(&self) -> Vec<KnownSubscription> {
        self.inner.owned().map_or_else(Vec::new, |owned| owned.engine.subscriptions())
    }

    fn kv_get(&self, service: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), EngineError> {
        self.owned()?.engine.kv_get(service, key)
    }

    fn kv_keys(&self, service: &ServiceName, select: &KvSelect<'_>) -> Result<Vec<Box<str>>, EngineError> {
        self.owned()?.engine.kv_keys(service, select)
    }

    fn kv_entries(&self, service: &ServiceName, select: &KvSelect<'_>) -> Result<KvEntries, EngineError> {
        self.owned()?.engine.kv_entries(service, select)
    }

    fn kv_bytes(&self, service: &ServiceName) -> usize {
        // Without an answer nothing may be added.
        self.inner.owned().map_or(usize::MAX, |owned| owned.engine.kv_bytes(service))
    }

    fn commit(&self, service: &ServiceName, effects: Effects) -> Answer<Result<(), EngineError>> {
        match self.owned() {
            Ok(owned) => moved(owned.engine.commit(service, effects)),
            Err(error) => ready(Err(error)),
        }
    }

    fn safe_head(&self) -> Offset {
        self.inner.owned().map_or(0, |owned| owned.engine.safe_head())
    }

    fn flush(&self) -> Answer<Result<(), EngineError>> {
        match self.owned() {
            Ok(owned) => owned.engine.flush(),
            Err(error) => ready(Err(error)),
        }
    }

    fn find(&self, id: EventId) -> Result<Option<Logged>, EngineError> {
        self.owned()?.engine.find(id)
    }

    fn caused(&self, partition: Partition, causes: &[EventId], from: Offset) -> Result<Option<Logged>, EngineError> {
        self.owned()?.engine.caused(partition, causes, from)
    }

    fn handled(
        &self,
        partition: Partition,
        offsets: &BTreeSet<Offset>,
        within: Duration,
    ) -> Result<Option<Handlings>, EngineError> {
        self.owned()?.engine.handled(partition, offsets, within)
    }

    fn status(&self) -> EngineStatus {
        match self.owned() {
            Ok(owned) if owned.shared.is_unwell() => EngineStatus {
                warning: Some(format!("{} does not confirm records; publishers wait until it does", self.inner.shown)),
                ..owned.engine.status()
            },
            Ok(owned) => owned.engine.status(),
            Err(error) => EngineStatus {
                description: self.inner.shown.clone(),
                warning: Some(error.to_string()),
                ..EngineStatus::default()
            },
        }
    }

    fn close(&self) -> Result<(), EngineError> {
        if self.inner.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let closed = self.inner.owned().map_or(Ok(()), |owned| owned.engine.close());
        self.inner.leaving.store(true, Ordering::Release);
        self.inner.changed.notify_one();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended
            && ended.recv_timeout(GIVE_BACK_FOR).is_err()
        {
            tracing::warn!(bus = %self.inner.shown, "the lease was not given back; it ends by itself");
        }
        closed
    }
}
