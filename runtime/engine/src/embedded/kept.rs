//! Parked events and dead letters of a bus in memory.
//!
//! Role: hold the bodies of events that a subscription needs again after the tail forgot them, once per event however
//! many subscriptions need it. A bus on disk has no use for this: its log keeps the events.

use std::collections::BTreeMap;
use std::sync::Arc;

use busway_types::{Event, Logged, Offset};

#[derive(Debug, Default)]
pub(super) struct Kept {
    events: BTreeMap<Offset, (Arc<Event>, u32)>,
    bytes: usize,
}

impl Kept {
    /// One more subscription needs the event.
    pub(super) fn hold(&mut self, offset: Offset, event: &Arc<Event>) {
        let held = self.events.entry(offset).or_insert_with(|| {
            self.bytes += event.cost();
            (Arc::clone(event), 0)
        });
        held.1 += 1;
    }

    /// One subscription does not need the event any more.
    pub(super) fn release(&mut self, offset: Offset) {
        if let Some(held) = self.events.get_mut(&offset) {
            held.1 -= 1;
            if held.1 == 0 {
                self.bytes -= held.0.cost();
                self.events.remove(&offset);
            }
        }
    }

    pub(super) fn get(&self, offset: Offset) -> Option<Logged> {
        self.events.get(&offset).map(|(event, _)| Logged { offset, event: Arc::clone(event) })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Logged> {
        self.events.iter().map(|(offset, (event, _))| Logged { offset: *offset, event: Arc::clone(event) })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
