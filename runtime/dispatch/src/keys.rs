//! The groups: events that wait for each other.
//!
//! Role: one entry per group that has events in hand, in flight, not yet sequenced or parked; none otherwise.
//! Invariants: each queue ascends by offset; `busy` counts the group's deliveries that are in flight or not yet
//! sequenced, all of one chunk; `queued` says whether the group's one token is in a ready queue; while `busy` it has none.

use std::collections::VecDeque;

use busway_types::Offset;
use rustc_hash::FxHashMap;

use crate::queue::Item;

/// Emptied queues that are kept for the next group.
const SPARE: usize = 1_024;

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Events that never failed, in hand.
    pub(crate) fresh: VecDeque<Item>,
    /// Events that are parked; most groups have none.
    pub(crate) parked: Option<Box<ParkedGroup>>,
    /// Deliveries that are in flight or not yet sequenced.
    pub(crate) busy: u32,
    /// Whether its token is in a ready queue.
    pub(crate) queued: bool,
}

/// The parked events of a group.
#[derive(Debug, Default)]
pub(crate) struct ParkedGroup {
    /// All of them.
    pub(crate) offsets: VecDeque<Offset>,
    /// Those of which the body is in hand.
    pub(crate) bodies: VecDeque<Item>,
}

impl Group {
    /// The first parked event: nothing behind it may be delivered.
    pub(crate) fn head(&self) -> Option<Offset> {
        self.parked.as_ref().and_then(|parked| parked.offsets.front().copied())
    }

    /// Whether the first event in `fresh` may be delivered as far as its group is concerned.
    pub(crate) fn fresh_is_next(&self) -> bool {
        self.fresh.front().is_some_and(|item| self.head().is_none_or(|head| item.offset < head))
    }

    /// Whether the first body in hand is of the first parked event.
    pub(crate) fn body_is_next(&self) -> bool {
        self.parked.as_ref().is_some_and(|parked| {
            parked.bodies.front().is_some_and(|item| parked.offsets.front() == Some(&item.offset))
        })
    }

    /// Notes a parked event.
    pub(crate) fn park(&mut self, offset: Offset) {
        let offsets = &mut self.parked.get_or_insert_default().offsets;
        if let Err(at) = offsets.binary_search(&offset) {
            offsets.insert(at, offset);
        }
    }

    /// A parked event is done with.
    pub(crate) fn unpark(&mut self, offset: Offset) {
        if let Some(parked) = &mut self.parked {
            if let Ok(at) = parked.offsets.binary_search(&offset) {
                parked.offsets.remove(at);
            }
            if parked.offsets.is_empty() {
                self.parked = None;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.busy == 0 && !self.queued && self.fresh.is_empty() && self.parked.is_none()
    }
}

/// Puts an item where its offset belongs; cheap near the front.
pub(crate) fn put_back(queue: &mut VecDeque<Item>, item: Item) {
    let at = queue.partition_point(|other| other.offset < item.offset);
    queue.insert(at, item);
}

/// All groups of a subscription.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    map: FxHashMap<u64, Group>,
    spare: Vec<VecDeque<Item>>,
}

impl Groups {
    /// The group, which is made if there is none.
    pub(crate) fn entry(&mut self, group: u64) -> &mut Group {
        let spare = &mut self.spare;
        self.map.entry(group).or_insert_with(|| Group { fresh: spare.pop().unwrap_or_default(), ..Group::default() })
    }

    /// The group, if there is anything to know about it.
    pub(crate) fn get_mut(&mut self, group: u64) -> Option<&mut Group> {
        self.map.get_mut(&group)
    }

    /// Forgets the group if there is nothing to know about it any more.
    pub(crate) fn tidy(&mut self, group: u64) {
        if self.map.get(&group).is_some_and(Group::is_idle)
            && let Some(gone) = self.map.remove(&group)
            && self.spare.len() < SPARE
            && gone.fresh.capacity() <= SPARE
        {
            self.spare.push(gone.fresh);
        }
    }

    /// Takes all events in hand that never failed, and forgets every group.
    pub(crate) fn dissolve(&mut self) -> impl Iterator<Item = Item> + '_ {
        self.map.drain().flat_map(|(_, group)| group.fresh)
    }

    /// Every group.
    #[cfg(any(test, feature = "invariants"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Group)> + '_ {
        self.map.iter().map(|(group, state)| (*group, state))
    }
}
