//! What the admin API asks of a node.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use busway_types::{Logged, Offset, Pattern, ServiceName};

use crate::admin::api::{
    ApiError, AskReply, AskRequest, DeadChanged, DeadDetail, DeadFilter, DeadPage, ForgetRequest, Forgotten, KvPage,
    KvQuery, PublishReply, PublishRequest, ReplayReply, ReplayRequest, ServiceInfo, ShutdownRequest, StatusReport,
    TailFrom, Trace, TraceQuery,
};

/// The answer to a call of [`AdminBackend`].
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send + 'a>>;

/// The next events that a reader is to see.
#[derive(Clone, Debug)]
pub struct TailRead {
    /// The first offset to look at.
    pub from: Offset,
    /// Only events that one of these selects; all when empty.
    pub patterns: Arc<[Pattern]>,
    /// At most this many events.
    pub max_events: usize,
    /// Stop when this many bytes of events are collected; at least one event is given if there is one.
    pub max_bytes: usize,
    /// With nothing at or after `from`: wait for something to be appended instead of answering at once.
    pub wait: bool,
}

/// What a reader sees next.
#[derive(Clone, Debug, Default)]
pub struct TailBatch {
    /// The selected events, ascending.
    pub events: Vec<Logged>,
    /// Where to go on: everything below was looked at.
    pub next: Offset,
    /// The oldest offset that was kept when the reading began; what lies between `from` and it was missed.
    pub oldest: Offset,
    /// The offset after the newest event.
    pub head: Offset,
}

/// A node, as the admin API sees it.
///
/// An implementation MUST answer `publish` only when the events are as safe as the node's durability promises; take a
/// batch whole or not at all; give readers only events that are safe in the same sense; and answer everything with
/// [`ApiError::Stopping`] once it takes nothing new. A dropped answer MUST leave nothing half done.
pub trait AdminBackend: Send + Sync + 'static {
    /// Publishes events in order, all or none; one reply per event. Use [`PublishRequest::into_draft`], and
    /// [`ApiError::at`] to say which element is wrong.
    fn publish(&self, batch: Vec<PublishRequest>) -> Reply<'_, Vec<PublishReply>>;

    /// Asks a request of a contract. Parameters that break it are invalid and reach nobody.
    fn request(&self, request: AskRequest) -> Reply<'_, AskReply>;

    /// The offset at which a reader starts.
    fn tail_position(&self, from: TailFrom) -> Reply<'_, Offset>;

    /// Reads the next events. With `wait` it may also answer with no events after a while, never before.
    fn tail_read(&self, read: TailRead) -> Reply<'_, TailBatch>;

    /// Everything about the node.
    fn status(&self) -> Reply<'_, StatusReport>;

    /// What a service is and may do.
    fn service(&self, name: ServiceName) -> Reply<'_, ServiceInfo>;

    /// Dead letters, by time ascending.
    fn dead_list(&self, filter: DeadFilter) -> Reply<'_, DeadPage>;

    /// The dead letters of one event, one per subscription that gave up on it; not found when there are none.
    fn dead_show(&self, id: busway_types::EventId) -> Reply<'_, Vec<DeadDetail>>;

    /// Gives dead letters back to their subscriptions, with no attempts counted.
    fn dead_retry(&self, filter: DeadFilter) -> Reply<'_, DeadChanged>;

    /// Drops dead letters for good.
    fn dead_drop(&self, filter: DeadFilter) -> Reply<'_, DeadChanged>;

    /// The journey of an event; not found when the event is not kept.
    fn trace(&self, id: busway_types::EventId, query: TraceQuery) -> Reply<'_, Trace>;

    /// Releases what is kept of a subscription that no service is attached to.
    fn forget(&self, request: ForgetRequest) -> Reply<'_, Forgotten>;

    /// Delivers a part of the log to one subscription again, or says what that would be.
    fn replay(&self, request: ReplayRequest) -> Reply<'_, ReplayReply>;

    /// Entries of a service's key-value, by key ascending.
    fn kv_list(&self, service: ServiceName, query: KvQuery) -> Reply<'_, KvPage>;

    /// Begins to shut down and answers before it is done.
    fn shutdown(&self, request: ShutdownRequest) -> Reply<'_, ()>;
}
