//! Events in hand.
//!
//! Role: what the queues hold.

use std::sync::Arc;

use busway_types::{Event, Logged, Offset, Ordering};

/// Sequence number of an event that came back from being parked: it is not among the outstanding ones.
pub(crate) const FROM_PARKED: u64 = u64::MAX;

/// The group of all events when ordering is strict.
pub(crate) const STRICT_GROUP: u64 = 0;

/// An event in hand. The group and the cost are kept beside it, so that settling it does not touch the event again.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) event: Arc<Event>,
    pub(crate) offset: Offset,
    /// Its number among the outstanding ones, or [`FROM_PARKED`].
    pub(crate) seq: u64,
    pub(crate) group: Option<u64>,
    pub(crate) cost: usize,
}

impl Item {
    /// Whether the event has never failed: it holds the cursor back and counts in the window.
    pub(crate) fn is_fresh(&self) -> bool {
        self.seq != FROM_PARKED
    }

    pub(crate) fn logged(&self) -> Logged {
        Logged { offset: self.offset, event: Arc::clone(&self.event) }
    }
}

/// What orders an event under `ordering`.
pub(crate) fn group_of(ordering: Ordering, event: &Event) -> Option<u64> {
    match ordering {
        Ordering::None => None,
        Ordering::Strict => Some(STRICT_GROUP),
        Ordering::Key => event.key.as_ref().map(busway_types::Key::hash),
    }
}

/// Something that could start.
#[derive(Debug)]
pub(crate) enum Ready {
    /// An event without a group.
    One(Item),
    /// A group with events in its own queue. It counts while the group says `queued`; others of it are void.
    Group(u64),
}
