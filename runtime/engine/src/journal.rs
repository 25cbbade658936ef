//! Where the sequencer's transactions go: the seam between the queue and whoever keeps its records.
//!
//! Role: what the embedded engine needs of its log, so that a broker can keep the same transactions in its place. See
//! ARCHITECTURE, "Engines".
//!
//! A journal MUST
//! - take transactions in the order of their numbers and keep each whole or not at all, without a gap;
//! - call `done` only when they are as safe as it promises, in the order of the submissions;
//! - refuse everything behind the first failure;
//! - give back the very events that it was given, as long as they were not released.
//!
//! It MUST NOT wait in [`Journal::submit`]: what is queued is bounded by [`Journal::queued_bytes`] and its callers.

use std::ops::ControlFlow;
use std::sync::Arc;

use busway_log::{SegmentInfo, SettleRecord, Space, Txn, View};
use busway_types::{EventId, Logged, Offset, Timestamp};

use crate::{EngineError, ReadRequest, ReadResult};

/// Called once with what became of a submission.
pub(crate) type Done = Box<dyn FnOnce(Result<(), EngineError>) + Send>;

/// Takes the settlement of a transaction, if it has one, and says whether it has seen enough.
pub(crate) type Visit<'a> = dyn FnMut(Option<SettleRecord>) -> ControlFlow<()> + 'a;

/// An ordered, durable sequence of transactions with one writer.
pub(crate) trait Journal: Send + Sync {
    /// Queues transactions; `done` hears when they are safe.
    fn submit(&self, txns: Vec<Txn>, done: Done);
    /// About how many bytes wait to be written.
    fn queued_bytes(&self) -> usize;
    /// Bytes in use, without the view.
    fn bytes(&self) -> u64;
    /// How much room there is for writing at all.
    fn space(&self) -> Space;
    /// The oldest offset that is kept.
    fn oldest(&self) -> Offset;
    /// Events below can be read.
    fn written_offset(&self) -> Offset;
    /// Events below are as safe as the journal promises.
    fn safe_offset(&self) -> Offset;
    /// Why nothing can be written any more, if so.
    fn failure(&self) -> Option<EngineError>;
    /// Waits until everything submitted so far can be read.
    fn flush(&self) -> Result<(), EngineError>;
    /// Reads selected events in order; one call looks at a bounded part.
    fn read(&self, request: &ReadRequest) -> Result<ReadResult, EngineError>;
    /// Reads events by offset; what is no longer kept is left out.
    fn fetch(&self, offsets: &[Offset]) -> Result<Vec<Logged>, EngineError>;
    /// Finds an event by id.
    fn find(&self, id: EventId) -> Result<Option<Logged>, EngineError>;
    /// The first event at or behind `from` that one of `causes` caused.
    fn caused(&self, causes: &[EventId], from: Offset) -> Result<Option<Logged>, EngineError>;
    /// The offset of the first kept event published at or after `time`.
    fn offset_at(&self, time: Timestamp) -> Result<Offset, EngineError>;
    /// Visits the settlements behind the event at `from`, in order.
    fn settlements(&self, from: Offset, visit: &mut Visit<'_>) -> Result<ControlFlow<()>, EngineError>;
    /// The parts that can be released one after the other, oldest first.
    fn segments(&self) -> Vec<SegmentInfo>;
    /// Gives parts back whose events are all below `offset`, as far as the state is kept elsewhere; hurries with
    /// that when space is `short`. Nothing goes before all that was submitted so far is safe: the caller has counted
    /// it in, and asks again and again ([`Releases`](busway_log::Releases)).
    fn release_before(&self, offset: Offset, short: bool) -> Result<(), EngineError>;
    /// What of the state is kept apart, if anything is.
    fn view(&self) -> Option<&Arc<dyn View>> {
        None
    }
    /// Writes everything that is queued and ends.
    fn close(&self) -> Result<(), EngineError>;
    /// Does one step of the work of one of its threads, when it has none; false when there was nothing to do.
    #[cfg(any(test, feature = "testing"))]
    fn step(&self, _stage: busway_log::Stage) -> bool {
        false
    }
}
