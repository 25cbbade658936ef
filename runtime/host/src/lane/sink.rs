//! What a lane is set to, where it reports to, and its figures.

use std::sync::Arc;

use busway_types::{Chunk, Report, ServiceName, SubId};

/// Where a lane reports to. Called on lane threads, with no lock of the lane held; must return at once.
pub trait LaneSink: Send + Sync {
    /// Results of a chunk, in order; the last part has `finished` set. Each delivery is reported exactly once.
    fn report(&self, report: Report);

    /// A chunk could not be run and none of its deliveries was reported: give it to the lane again later.
    fn lost(&self, sub: SubId, chunk: u64);

    /// A chunk of which nothing more will be said, to be dropped by whoever has time: letting go of events that other
    /// threads hold as well takes a while, and the lane has better things to do.
    fn spent(&self, _chunk: Arc<Chunk>) {}

    /// No instance could be made. Either `lost` follows for the chunk that needed it, or, in the middle of a chunk, the
    /// rest of it comes back skipped.
    fn instance_failed(&self, service: &ServiceName, reason: &str);
}

/// How the events of a subscription reach the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handles {
    /// As bytes, by `busway:bus/handler`.
    Raw,
    /// As typed values, by the functions of the handled contract at this place of
    /// [`Inspection::handled`](crate::Inspection::handled).
    Contract(usize),
}

/// A subscription whose events a lane handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its name; part of the ids of what its handlers publish.
    pub subscription: Arc<str>,
    /// How its events reach the guest.
    pub handles: Handles,
}

impl Binding {
    pub(super) fn is_raw(&self) -> bool {
        self.handles == Handles::Raw
    }
}

/// What a lane is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSettings {
    /// Threads and instances at most, at least 1.
    pub concurrency: usize,
    /// Chunks that wait for a thread at most; a further one is given back.
    pub queue: usize,
}

impl LaneSettings {
    /// A lane of `concurrency` threads with room for as many chunks as the dispatcher may send for one subscription.
    pub fn new(concurrency: usize) -> Self {
        Self::for_subscriptions(concurrency, 1)
    }

    /// A lane of `concurrency` threads with room for as many chunks as the dispatcher may send for several subscriptions.
    pub fn for_subscriptions(concurrency: usize, subscriptions: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self { concurrency, queue: (concurrency + Chunk::AHEAD).saturating_mul(subscriptions.max(1)) }
    }
}

/// A chunk that a lane did not take, given back.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The queue is full; try again after the next report.
    #[error("the lane's queue is full")]
    Full(Chunk),
    /// The lane was closed; it takes nothing any more.
    #[error("the lane is closed")]
    Closed(Chunk),
}

impl NotTaken {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// The chunk that was not taken.
    pub fn into_chunk(self) -> Chunk {
        match self {
            Self::Full(chunk) | Self::Closed(chunk) => chunk,
        }
    }
}

/// Figures of a lane, since it was made unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Instances that exist now.
    pub instances: usize,
    /// Threads that run one of its chunks now.
    pub busy_threads: usize,
    /// Chunks that wait now.
    pub queued_chunks: usize,
    /// Instances made.
    pub instances_made: u64,
    /// The most bytes of memories and tables that one instance had.
    pub memory_bytes: usize,
    /// Deliveries acknowledged.
    pub acked: u64,
    /// Deliveries to be retried.
    pub retried: u64,
    /// Deliveries rejected.
    pub rejected: u64,
    /// Deliveries that trapped.
    pub trapped: u64,
    /// Deliveries that took too long.
    pub timed_out: u64,
    /// Deliveries skipped.
    pub skipped: u64,
    /// Events published by acknowledged deliveries.
    pub published: u64,
    /// Nanoseconds in which guests ran.
    pub busy_ns: u64,
}
