//! The contract between the node and the place where the queues live.
//!
//! An engine is a **partitioned log with fenced ownership**. Keys hash to partitions; at any time a partition is owned by
//! at most one node, under an epoch that only grows. The owner runs the dispatcher's state machine over the partition.
//!
//! ```text
//!   publish(events) ----append----> [0 1 2 3 4 5 6 7 8] ----appended----> the owner's sink
//!                                     ^cursor of a subscription: all below is settled, parked, dead or not selected
//!   settle(epoch, ..) --one commit--> cursors, parked, dead letters, key-value, published events
//! ```
//!
//! An engine MUST
//! - report [`Sink::assigned`] before anything else about a partition, and each appended event exactly once, densely
//!   and in order, through [`Sink::appended`];
//! - accept an event whose publisher chose its id ([`busway_types::Origin::chosen_id`]) once per topic and id within
//!   `Limits::dedup_window`, from publishers and settlements alike, and answer a repetition like the first;
//! - answer [`Engine::publish`] only when the events are as safe as its durability promises;
//! - commit a [`Settlement`] atomically or not at all, and refuse one whose epoch is not the current one;
//! - validate what settled deliveries read from key-value, and leave out those in conflict together with the later ones
//!   of their group, naming them in [`Settled::conflicts`];
//! - give back from [`Engine::read`] the very events that were appended, as long as a subscription may need them.
//!
//! An engine MUST NOT decide about redelivery, order or dead letters: the dispatcher does, the same for every engine.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use busway_types::{
    Batch, DeadLetter, Effects, Event, EventId, KvRead, KvVersion, KvWrite, Logged, Offset, Parked, Pattern, Receipt,
    Replay, ServiceName, Settlement, SubId, SubscriptionSpec, SubscriptionState, Timestamp,
};
use bytes::Bytes;

use crate::mesh::Mesh;

/// A partition's number, from 0. The embedded engine has one.
pub type Partition = u32;

/// Counts the owners of a partition; a settlement under an older one is refused.
pub type Epoch = u64;

/// A future that an engine gives back.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where an engine reports to. Called from any thread; must return at once.
pub trait Sink: Send + Sync {
    /// This node owns `partition` from now on; its log ends at `head`.
    fn assigned(&self, partition: Partition, epoch: Epoch, head: Offset);
    /// Events were appended to an owned partition.
    fn appended(&self, partition: Partition, batch: Batch);
    /// An event was accepted that is to be appended at `due`; the node calls [`Engine::tick`] then.
    fn delayed(&self, partition: Partition, due: Timestamp);
    /// What became of a settlement.
    fn settled(&self, partition: Partition, settled: Settled);
    /// This node does not own `partition` any more; what is in flight is void.
    fn revoked(&self, partition: Partition);
    /// Nothing can be committed any more; the node has to stop.
    fn failed(&self, error: EngineError);
    /// Another node sent a message ([`Engine::mesh`]).
    fn heard(&self, from: &Arc<str>, message: Bytes) {
        drop((from, message));
    }
}

/// What became of a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The token of the settlement.
    pub token: u64,
    /// Offsets whose deliveries were left out, because what they read had changed or an earlier delivery of their group
    /// was left out. They have to run again; it costs them no attempt.
    pub conflicts: Vec<Offset>,
}

/// How full an engine is; decides who may still write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Enough for everybody.
    #[default]
    Enough,
    /// External publishers have to wait.
    NoPublishers,
    /// Deliveries that may publish have to wait too; acknowledgements and dead letters still fit.
    NoTransactions,
}

/// What an engine can do; what it cannot is refused at load when a manifest asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Acknowledged events survive the process.
    pub durable: bool,
    /// A delivery's acknowledgement, publications and writes are one commit.
    pub transactional: bool,
    /// Services may use key-value.
    pub key_value: bool,
    /// Old events can be read again from any kept offset.
    pub replay: bool,
    /// Events may be delayed.
    pub delay: bool,
    /// Several nodes may be started on it: one owns the bus, the others wait ([`Engine::standby`]). What is not in memory is
    /// read over a network and may take long, so whoever must not wait asks from elsewhere.
    pub shared: bool,
}

/// Figures of an engine for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    /// For people: where the queues live and how durable they are.
    pub description: String,
    /// The oldest offset that is kept.
    pub oldest: Offset,
    /// The offset after the newest event.
    pub head: Offset,
    /// Bytes on disk, or of kept events in memory.
    pub bytes: u64,
    /// Delayed events that wait.
    pub delayed: usize,
    /// What is wrong with the space, and which subscription holds it back; none while there is enough.
    pub warning: Option<String>,
    /// Events that were not accepted again because their id was known, since the engine was opened.
    pub duplicates: u64,
    /// Delayed events that had expired when their time came, since the engine was opened.
    pub expired: u64,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// The first offset to look at.
    pub from: Offset,
    /// Only events that one of these patterns selects; all when empty.
    pub patterns: Arc<[Pattern]>,
    /// At most this many events.
    pub max_events: usize,
    /// Stop when this many bytes of events are collected; at least one event is given if there is one.
    pub max_bytes: usize,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadResult {
    /// The selected events, ascending.
    pub events: Vec<Logged>,
    /// Where to go on: everything below was looked at.
    pub next: Offset,
}

/// Which entries of a service's key-value are meant.
#[derive(Clone, Copy, Debug)]
pub struct KvSelect<'a> {
    /// Keys that begin with this.
    pub prefix: &'a str,
    /// Only keys after this one.
    pub after: Option<&'a str>,
    /// At most this many.
    pub limit: usize,
}

/// Entries of key-value by key, ascending, and whether there are more.
pub type KvEntries = (Vec<(Box<str>, Bytes)>, bool);

/// How a subscription was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// What is delivered again: what was asked for, as far as it is kept and below the head.
    pub replay: Replay,
    /// What is durable of the subscription now.
    pub state: SubscriptionState,
}

/// What became of an event in a subscription, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Handled.
    Acked,
    /// Not handled, because it had expired.
    Expired,
    /// Put aside for another attempt, or behind an earlier event of its key.
    Parked(Parked),
    /// Given up.
    Dead(DeadLetter),
    /// A dead letter that went back.
    Revived,
    /// A dead letter that was dropped.
    Dropped,
}

/// One step in the life of an event in a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// The event.
    pub offset: Offset,
    /// The subscription.
    pub sub: SubId,
    /// When it was settled so.
    pub time: Option<Timestamp>,
    /// What became of it.
    pub what: Handling,
}

/// What became of some events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handlings {
    /// In the order in which it happened.
    pub steps: Vec<Handled>,
    /// Whether that is all; not when it took too long.
    pub complete: bool,
}

/// A queue engine.
pub trait Engine: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Begins to report. Called once, before anything else but `capabilities`.
    fn start(&self, sink: Arc<dyn Sink>) -> Result<(), EngineError>;

    /// Appends events, in order and all or none; answers when they are safe. One that was published before gets the first
    /// receipt, once the first is safe. Delayed events are kept aside and appended
    /// when their time has come.
    fn publish(&self, events: Vec<Arc<Event>>) -> Answer<Result<Vec<Receipt>, EngineError>>;

    /// Why this node does nothing now, when it waits for its turn to own the bus; none when it owns it.
    fn standby(&self) -> Option<String> {
        None
    }

    /// The way to the other nodes that share it; none for one that is not shared.
    fn mesh(&self) -> Option<Arc<dyn Mesh>> {
        None
    }

    /// How full it is.
    fn room(&self) -> Room;

    /// Finds or creates a subscription and gives what is durable of it. A subscription that was detached is attached.
    fn subscribe(
        &self,
        partition: Partition,
        epoch: Epoch,
        spec: &SubscriptionSpec,
    ) -> Result<(SubId, SubscriptionState), EngineError>;

    /// The settings that a subscription runs with: those of `spec`, which are kept as those of the deployment of this
    /// `generation`, or those that a deployment of a higher one has left.
    fn settings(
        &self,
        partition: Partition,
        epoch: Epoch,
        sub: SubId,
        spec: SubscriptionSpec,
        generation: u32,
    ) -> Result<SubscriptionSpec, EngineError>;

    /// Whether a node that owns the bus can say which one is the next ([`Engine::hand_over`]).
    fn hands_over(&self) -> bool {
        false
    }

    /// Gives the bus to another node that waits for it; [`Sink::revoked`] follows.
    fn hand_over(&self, node: &str) {
        let _ = node;
    }

    /// The offset of the first kept event that was published at or after `time`; the head when there is none. Events behind
    /// it may be older: delayed ones are.
    fn offset_at(&self, partition: Partition, time: Timestamp) -> Result<Offset, EngineError>;

    /// Opens a part of the log for a subscription again: what it had settled there is open, what is parked stays so, dead
    /// letters stay so unless asked for, and nothing else changes. Only with nothing of it in flight and everything
    /// sequenced. [`EngineError::Refused`] when that part is not kept and nothing was done.
    fn replay(&self, partition: Partition, epoch: Epoch, sub: SubId, replay: &Replay) -> Result<Replayed, EngineError>;

    /// The service of a subscription is gone; its position is kept until `forget`.
    fn detach(&self, partition: Partition, epoch: Epoch, sub: SubId, now: Timestamp) -> Result<(), EngineError>;

    /// Releases what is kept of a detached subscription. False when there is none of that name.
    fn forget(&self, name: &str) -> Result<bool, EngineError>;

    /// Commits a settlement; the answer comes through [`Sink::settled`], possibly before this returns. One of a
    /// subscription that is not known (it was forgotten meanwhile) is answered too, and has no effect.
    fn settle(&self, partition: Partition, epoch: Epoch, settlement: Settlement) -> Result<(), EngineError>;

    /// Notes, lazily and without a sync of its own, that a subscription has nothing to do below `cursor`.
    fn advance(&self, partition: Partition, epoch: Epoch, sub: SubId, cursor: Offset);

    /// Reads events in order.
    fn read(&self, partition: Partition, request: &ReadRequest) -> Result<ReadResult, EngineError>;

    /// Reads events by offset, for parked events and dead letters. What is no longer kept is left out.
    fn fetch(&self, partition: Partition, offsets: &[Offset]) -> Result<Vec<Logged>, EngineError>;

    /// Does what is due at `now` (delayed events; one that has expired is dropped and counted) and gives the next time something will be.
    fn tick(&self, now: Timestamp) -> Result<Option<Timestamp>, EngineError>;

    /// Dead letters and state of every known subscription, attached or not.
    fn subscriptions(&self) -> Vec<KnownSubscription>;

    /// A committed key-value entry of a service and its version (0 when absent).
    fn kv_get(&self, service: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), EngineError>;

    /// Committed keys of a service, ascending: as many as asked for, or all that there are.
    fn kv_keys(&self, service: &ServiceName, select: &KvSelect<'_>) -> Result<Vec<Box<str>>, EngineError>;

    /// Committed entries of a service by key, ascending, and whether there are more; ends early when they are large.
    fn kv_entries(&self, service: &ServiceName, select: &KvSelect<'_>) -> Result<KvEntries, EngineError>;

    /// Bytes of keys and values that a service has stored.
    fn kv_bytes(&self, service: &ServiceName) -> usize;

    /// Makes what a service did outside of a delivery visible (tasks, answered requests), all or nothing, if everything that
    /// it rests on still holds, and answers when it is safe; otherwise nothing is done and the answer is
    /// [`EngineError::Conflict`].
    fn commit(&self, service: &ServiceName, effects: Effects) -> Answer<Result<(), EngineError>>;

    /// [`Engine::commit`] of writes alone.
    fn kv_write(
        &self,
        service: &ServiceName,
        reads: Vec<KvRead>,
        writes: Vec<KvWrite>,
    ) -> Answer<Result<(), EngineError>> {
        self.commit(service, Effects { reads, writes, ..Effects::default() })
    }

    /// Every event below this offset is as safe as the durability promises. Nothing at or above it may leave the process.
    fn safe_head(&self) -> Offset;

    /// Answers when everything that was settled or published so far is safe.
    fn flush(&self) -> Answer<Result<(), EngineError>>;

    /// Finds an event by id among the kept ones. Slow; for people.
    fn find(&self, id: EventId) -> Result<Option<Logged>, EngineError>;

    /// The first event at or behind `from` that one of `causes` caused. Slow; for people.
    fn caused(&self, partition: Partition, causes: &[EventId], from: Offset) -> Result<Option<Logged>, EngineError>;

    /// What became of these events in all subscriptions, as far as it is found `within` a time; none when the engine keeps
    /// no record of it. Slow; for people.
    fn handled(
        &self,
        partition: Partition,
        offsets: &BTreeSet<Offset>,
        within: Duration,
    ) -> Result<Option<Handlings>, EngineError>;

    /// Figures for `status`.
    fn status(&self) -> EngineStatus;

    /// Makes everything safe and gives up ownership. Nothing is accepted afterwards.
    fn close(&self) -> Result<(), EngineError>;
}

/// A subscription that an engine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSubscription {
    /// Its number.
    pub id: SubId,
    /// Its name.
    pub name: String,
    /// The service it belongs to.
    pub service: ServiceName,
    /// Since when no service is attached to it; none while one is.
    pub detached_since: Option<Timestamp>,
    /// The oldest offset that was ever for it: where it began, or what it was moved back to.
    pub began: Offset,
    /// What is durable of it.
    pub state: SubscriptionState,
}

/// Why an engine could not do something, split by what the caller has to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// No room now; trying again later may help.
    #[error("{0}")]
    Overloaded(String),
    /// What had to hold for a write to key-value does not hold: read again.
    #[error("{0}")]
    Conflict(String),
    /// The caller does not own the partition any more: drop what is in flight.
    #[error("this node no longer owns partition {partition} (epoch {epoch} is stale)")]
    Stale {
        /// The partition.
        partition: Partition,
        /// The caller's epoch.
        epoch: Epoch,
    },
    /// Another node was asked, and whether it did it is not known.
    #[error("{0}; it may have taken effect all the same")]
    Unanswered(String),
    /// The engine was closed.
    #[error("the engine is closed")]
    Closed,
    /// What is stored cannot be used, or not by this version: an operator has to look.
    #[error("{0}")]
    Refused(String),
    /// The store failed; nothing is accepted any more and the node has to stop.
    #[error("{0}")]
    Failed(String),
}

impl EngineError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded(_))
    }
}
