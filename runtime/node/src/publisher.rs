//! Admission: the way into the bus from outside of a delivery.
//!
//! Role: check a draft, give it an id and a time, wait for room, hand batches to the engine. Used by the admin API, by
//! tasks and schedules, and by benchmarks.
//!
//! Bounds: waits at most `Limits::publish_wait` when (a) too many bytes are on their way to the driver, (b) a subscription
//! that selects one of the topics is full, or (c) the engine has no room; then the whole batch is refused as overloaded and
//! nothing of it was published.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use busway_engine::{Engine, EngineError, Room};
use busway_types::{Clock, Draft, Entropy, Event, EventId, InvalidEvent, Limits, Pattern, Receipt, SplitMix, SubId};
use tokio::sync::Notify;

use crate::contracts::{Contracts, Unfit};
use crate::inbox::Gate;

/// Bytes of one batch, which all become one transaction.
const BATCH_BYTES: usize = 32 * 1024 * 1024;

/// Why nothing was published, split by what the publisher has to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Change the event.
    #[error("event {index} of the batch: {source}")]
    Invalid {
        /// Which draft of the batch, from 0.
        index: usize,
        /// What is wrong with it.
        source: InvalidEvent,
    },
    /// Change the event.
    #[error("event {index} of the batch: {source}")]
    Unfit {
        /// Which draft of the batch, from 0.
        index: usize,
        /// How it breaks the contract of its topic.
        source: Box<Unfit>,
    },
    /// Make smaller batches.
    #[error("a batch of {found} events; at most {max} are taken at once")]
    BatchTooLarge {
        /// How many.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Make smaller batches.
    #[error("a batch of {bytes} bytes; at most {max} are taken at once")]
    BatchBytes {
        /// How many.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Try again later.
    #[error("overloaded: {0}")]
    Overloaded(String),
    /// The bus is stopping or broken.
    #[error(transparent)]
    Engine(EngineError),
}

impl PublishError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded(_))
    }
}

/// A subscription that is full, and what it selects.
#[derive(Debug)]
struct Full {
    sub: SubId,
    service: String,
    patterns: Vec<Pattern>,
}

/// Publishes from outside of deliveries. Cheap to share.
pub struct Publisher {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    entropy: Mutex<SplitMix>,
    contracts: Arc<Contracts>,
    gate: Arc<Gate>,
    any_full: AtomicBool,
    /// Whether the engine has no room for publishers, as the driver saw it last.
    no_room: AtomicBool,
    full: RwLock<Vec<Full>>,
    changed: Notify,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("gate", &self.gate).field("full", &self.full).finish_non_exhaustive()
    }
}

impl Publisher {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        seed: u64,
        contracts: Arc<Contracts>,
        gate: Arc<Gate>,
    ) -> Self {
        Self {
            engine,
            clock,
            limits,
            entropy: Mutex::new(SplitMix(seed)),
            contracts,
            gate,
            any_full: AtomicBool::new(false),
            no_room: AtomicBool::new(false),
            full: RwLock::new(Vec::new()),
            changed: Notify::new(),
        }
    }

    /// Publishes a batch, in order, all or none; returns when the events are as safe as the bus promises.
    pub async fn publish(&self, drafts: Vec<Draft>) -> Result<Vec<Receipt>, PublishError> {
        let events = self.admit(drafts)?;
        self.wait_for_room(&events).await?;
        match self.engine.publish(events).await {
            Ok(receipts) => Ok(receipts),
            Err(EngineError::Overloaded(reason)) => Err(PublishError::Overloaded(reason)),
            Err(error) => Err(PublishError::Engine(error)),
        }
    }

    fn admit(&self, mut drafts: Vec<Draft>) -> Result<Vec<Arc<Event>>, PublishError> {
        if drafts.len() > self.limits.batch_events {
            return Err(PublishError::BatchTooLarge { found: drafts.len(), max: self.limits.batch_events });
        }
        for (index, draft) in drafts.iter_mut().enumerate() {
            self.contracts
                .check(draft, &self.limits)
                .map_err(|source| PublishError::Unfit { index, source: Box::new(source) })?;
        }
        let now = self.clock.now();
        let mut entropy = self.entropy.lock().unwrap_or_else(PoisonError::into_inner);
        let admit = |(index, draft): (usize, Draft)| {
            let id = draft.id.unwrap_or_else(|| EventId::new(now, &mut *entropy as &mut dyn Entropy));
            let admitted = draft.admit(id, now, &self.limits);
            admitted.map(Arc::new).map_err(|source| PublishError::Invalid { index, source })
        };
        let events: Vec<Arc<Event>> = drafts.into_iter().enumerate().map(admit).collect::<Result<_, _>>()?;
        // A batch is one transaction of the log, which has a bound of its own.
        let bytes = events.iter().map(|event| event.payload_bytes()).sum();
        if bytes > BATCH_BYTES {
            return Err(PublishError::BatchBytes { bytes, max: BATCH_BYTES });
        }
        Ok(events)
    }

    async fn wait_for_room(&self, events: &[Arc<Event>]) -> Result<(), PublishError> {
        let Some(obstacle) = self.obstacle(events) else { return Ok(()) };
        let room = async {
            loop {
                // Some of what may be waited for (space on disk) sends no signal: look again at least every 50 ms.
                let look_again = std::time::Duration::from_millis(50);
                let _ = tokio::time::timeout(look_again, async {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = self.gate.open(), if !self.gate.is_open() => {}
                    }
                })
                .await;
                if self.obstacle(events).is_none() {
                    return;
                }
            }
        };
        match tokio::time::timeout(self.limits.publish_wait, room).await {
            Ok(()) => Ok(()),
            Err(_) => Err(PublishError::Overloaded(obstacle)),
        }
    }

    /// What stands in the way of publishing these events now.
    fn obstacle(&self, events: &[Arc<Event>]) -> Option<String> {
        if !self.gate.is_open() {
            return Some("more is being published than the node can hand on; publish slower".to_owned());
        }
        if self.any_full.load(Ordering::Acquire) {
            let full = self.full.read().unwrap_or_else(PoisonError::into_inner);
            let blocked = events.iter().find_map(|event| {
                let hit = full.iter().find(|f| f.patterns.iter().any(|p| p.matches(&event.topic)))?;
                Some(format!(
                    "the queue of service `{}` for topic `{}` is full; it takes events again when the service has caught up",
                    hit.service, event.topic
                ))
            });
            if blocked.is_some() {
                return blocked;
            }
        }
        if self.no_room.load(Ordering::Acquire) {
            if let Some(warning) = self.engine.status().warning {
                return Some(warning);
            }
            let limit = if self.engine.capabilities().durable { "limits.disk-bytes" } else { "limits.memory-bytes" };
            return Some(format!(
                "the space for events is nearly used up ({limit}; dead letters and slow services keep it), or the disk is \
                 full or slow"
            ));
        }
        None
    }

    /// Notes how full the engine is.
    pub(crate) fn set_room(&self, room: Room) {
        self.no_room.store(room > Room::Enough, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Notes that a subscription became full or has room again.
    pub(crate) fn set_full(&self, sub: SubId, service: &str, patterns: &[Pattern], is_full: bool) {
        let mut full = self.full.write().unwrap_or_else(PoisonError::into_inner);
        full.retain(|f| f.sub != sub);
        if is_full {
            full.push(Full { sub, service: service.to_owned(), patterns: patterns.to_vec() });
        }
        self.any_full.store(!full.is_empty(), Ordering::Release);
        drop(full);
        self.changed.notify_waiters();
    }
}
