//! One transaction, which is one record of the log.
//!
//! Role: plain values. Whatever changes durable state is in here; what a [`State`](crate::State) makes of it is a pure
//! function, so that the running node and the replay of its log cannot differ.

use std::sync::Arc;

use busway_types::{
    DeadLetter, Event, Fingerprint, KvWrite, Offset, Parked, Replay, ServiceName, Settings, SubId, Timestamp,
};

/// What is committed together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Its number, given by the caller: dense and ascending from 1.
    pub seq: u64,
    /// The offset of the first event; the others follow densely. Without events, the next offset.
    pub first_offset: Offset,
    /// Events appended.
    pub events: Vec<Arc<Event>>,
    /// One subscription's settlement.
    pub settlement: Option<SettleRecord>,
    /// Changes to key-value, in order; the version of each changed key becomes `seq`.
    pub kv: Vec<KvRecord>,
    /// Events kept aside until their `not_before`, with their timer's number.
    pub delayed: Vec<(u64, Arc<Event>)>,
    /// Timers that fired: their events are the first ones of `events`, in the same order.
    pub fired: Vec<u64>,
    /// Timers whose events had expired when they were due, and when that was.
    pub lapsed: Vec<(u64, Timestamp)>,
    /// Subscriptions that came, went or changed.
    pub subs: Vec<SubChange>,
    /// Client-supplied ids of events appended or delayed.
    pub ids: Option<Box<IdRecord>>,
}

impl Txn {
    /// The offset after its last event.
    pub fn end_offset(&self) -> Offset {
        self.first_offset + self.events.len() as u64
    }

    /// About how many bytes it takes in a queue.
    pub fn cost(&self) -> usize {
        let events: usize = self.events.iter().chain(self.delayed.iter().map(|(_, e)| e)).map(|e| e.cost()).sum();
        let kv: usize = self.kv.iter().map(KvRecord::cost).sum();
        let settled = self.settlement.as_ref().map_or(0, SettleRecord::cost);
        let ids = self.ids.as_ref().map_or(0, |ids| 32 * (ids.ids.len() + 2));
        size_of::<Self>()
            + events
            + kv
            + settled
            + 8 * self.fired.len()
            + 16 * self.lapsed.len()
            + 64 * self.subs.len()
            + ids
    }
}

/// What one subscription has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleRecord {
    /// Which subscription.
    pub sub: SubId,
    /// Every offset below is settled, parked, dead or not selected from now on. Never moves back.
    pub cursor: Offset,
    /// Done with. At most [`SettleRecord::MAX_ACKED`].
    pub acked: Vec<Offset>,
    /// Waiting for their next attempt; replaces an earlier parking of the same event.
    pub parked: Vec<Parked>,
    /// Given up.
    pub dead: Vec<DeadLetter>,
    /// Dead letters that are parked again, without attempts and due at once.
    pub revived: Vec<Offset>,
    /// Dead letters dropped for good.
    pub dropped: Vec<Offset>,
    /// When it was settled, for people; none where only a cursor is noted.
    pub time: Option<Timestamp>,
    /// Those of `acked` that had expired instead of being handled, for people. Only with a time.
    pub expired: Vec<Offset>,
}

impl SettleRecord {
    /// The most offsets that one record acknowledges.
    pub const MAX_ACKED: usize = 1 << 20;

    /// A settlement of this subscription with nothing in it.
    pub fn of(sub: SubId) -> Self {
        let (acked, revived, dropped) = (Vec::new(), Vec::new(), Vec::new());
        let (time, expired) = (None, Vec::new());
        Self { sub, cursor: 0, acked, parked: Vec::new(), dead: Vec::new(), revived, dropped, time, expired }
    }

    fn cost(&self) -> usize {
        let attempts = self.parked.iter().map(|p| &p.attempts).chain(self.dead.iter().map(|d| &d.attempts));
        let errors: usize = attempts.flatten().map(|a| a.error.len() + 32).sum();
        8 * (self.acked.len() + self.revived.len() + self.dropped.len() + self.expired.len())
            + 64 * (self.parked.len() + self.dead.len())
            + errors
    }
}

/// Client-supplied ids, and what is forgotten of earlier ones. See [`SeenIds`](crate::SeenIds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdRecord {
    /// When they came.
    pub now: Timestamp,
    /// How many of the oldest buckets are forgotten first.
    pub forgotten: usize,
    /// Whether a new bucket begins with them.
    pub begins: bool,
    /// Each id with the offset its event got; none for a delayed one.
    pub ids: Vec<(Fingerprint, Option<Offset>)>,
}

/// One change to a service's key-value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvRecord {
    /// Whose.
    pub service: ServiceName,
    /// What.
    pub op: KvWrite,
}

impl KvRecord {
    fn cost(&self) -> usize {
        let value = if let KvWrite::Set { value, .. } = &self.op { value.len() } else { 0 };
        size_of::<Self>() + self.op.key().len() + value
    }
}

/// A subscription came, went or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubChange {
    /// A new one.
    Created {
        /// Its number.
        id: SubId,
        /// Its durable name.
        name: String,
        /// The service it belongs to.
        service: ServiceName,
        /// Where it starts.
        cursor: Offset,
    },
    /// Its service is there again.
    Attached {
        /// Which.
        id: SubId,
    },
    /// Its service is gone; the position is kept.
    Detached {
        /// Which.
        id: SubId,
        /// Since when.
        at: Timestamp,
    },
    /// It gets a part of the log again.
    Moved {
        /// Which.
        id: SubId,
        /// Its generation from now on.
        generation: u32,
        /// What it gets again.
        replay: Replay,
    },
    /// Everything kept of it is released.
    Forgotten {
        /// Which.
        id: SubId,
    },
    /// A deployment has set it to something.
    Set {
        /// Its number.
        id: SubId,
        /// What, and which deployment.
        settings: Box<Settings>,
    },
}
