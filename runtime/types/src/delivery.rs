//! Deliveries: what goes to a lane, what comes back, and what the engine is asked to commit.
//!
//! Role: the values that pass between dispatcher, lanes and engine, always in chunks.

use std::sync::Arc;
use std::time::Duration;

use crate::{Attempt, DeadReason, Event, KvRead, KvScan, KvWrite, Logged, Offset, Ordering, Parked, SubId, Timestamp};

/// One attempt to give one event to one subscription.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The event and its place.
    pub logged: Logged,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

/// Deliveries that one instance runs one after the other.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Unique among the chunks in flight.
    pub id: u64,
    /// For which subscription.
    pub sub: SubId,
    /// Which later deliveries a failed one voids.
    pub ordering: Ordering,
    /// How often the subscription was moved.
    pub generation: u32,
    /// The deliveries, in order.
    pub deliveries: Vec<Delivery>,
}

impl Chunk {
    /// How many chunks a subscription has in flight beyond one for each of its lanes' threads, so that a thread that ends
    /// one finds the next while the dispatcher still digests the last.
    pub const AHEAD: usize = 5;
}

/// How one delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handled.
    Acked,
    /// To be tried again.
    Retry {
        /// What the handler said.
        reason: String,
        /// The handler's wish for the wait; otherwise the subscription's back-off decides.
        after: Option<Duration>,
    },
    /// Not wanted; a dead letter at once.
    Rejected {
        /// What the handler said.
        reason: String,
    },
    /// The guest trapped or broke a limit; its instance is gone.
    Trapped {
        /// The trap, and what the guest wrote to stderr.
        reason: String,
    },
    /// The guest took longer than its timeout; its instance is gone.
    TimedOut {
        /// How long it was given, and what the guest wrote to stderr.
        reason: String,
    },
    /// Not run, or void because an earlier delivery of its key in the chunk failed. Costs no attempt.
    Skipped,
}

/// What a delivery wants to become visible if it is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// What it read from key-value and must still be so.
    pub reads: Vec<KvRead>,
    /// Which keys it found there, and must still be so.
    pub scans: Vec<KvScan>,
    /// What it changes in key-value, in order.
    pub writes: Vec<KvWrite>,
    /// What it publishes, in order.
    pub publishes: Vec<Arc<Event>>,
}

impl Effects {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        !self.may_conflict() && self.writes.is_empty() && self.publishes.is_empty()
    }

    /// Whether it rests on something that may have changed by the time of its commit.
    pub fn may_conflict(&self) -> bool {
        !self.reads.is_empty() || !self.scans.is_empty()
    }
}

/// How one delivery of a chunk ended.
#[derive(Clone, Debug)]
pub struct DeliveryResult {
    /// Which event.
    pub offset: Offset,
    /// How it ended.
    pub outcome: Outcome,
    /// Only with `Acked`.
    pub effects: Option<Box<Effects>>,
    /// How long the guest ran, in nanoseconds; waits for a processor slot are not counted.
    pub busy_ns: u64,
}

/// What a lane says about a chunk. A chunk may be reported in parts, in order; each delivery is reported exactly once.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which chunk.
    pub chunk: u64,
    /// For which subscription.
    pub sub: SubId,
    /// The next results, in the order of the chunk.
    pub results: Vec<DeliveryResult>,
    /// Whether this is the chunk's last part.
    pub finished: bool,
}

/// What becomes of one event in one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with; its effects become visible.
    Acked(Option<Box<Effects>>),
    /// Kept for later (replaces an earlier parking of the same event).
    Parked(Parked),
    /// Given up.
    Dead {
        /// Why.
        reason: DeadReason,
        /// When.
        time: Timestamp,
        /// Every failed attempt, oldest first.
        attempts: Vec<Attempt>,
    },
    /// Done with, without having been handled: it expired first.
    Expired,
    /// A dead letter goes back: parked again, no attempts, due at once.
    Revived,
    /// A dead letter is dropped for good.
    Dropped,
}

/// One event's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// Which event.
    pub offset: Offset,
    /// Events of one settlement that wait for each other (the hash of the key; the same number for all when ordering is
    /// strict): after a conflict the later ones of the group are void too.
    pub group: Option<u64>,
    /// The event itself, given whenever the verdict is `Parked` or `Dead` (else none): an engine that keeps such events
    /// apart from its log copies it from here.
    pub event: Option<Arc<Event>>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What the engine is asked to commit atomically for one subscription. Never mixes the results of two reports: what a
/// delivery read without a version was written earlier in the same settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Chosen by the dispatcher; comes back with the answer.
    pub token: u64,
    /// Which subscription.
    pub sub: SubId,
    /// After this commit every offset below is settled, parked, dead or not selected.
    pub cursor: Offset,
    /// The verdicts, in the order in which the deliveries ran.
    pub settles: Vec<Settle>,
}
