//! Taking events in.
//!
//! Role: what a selected event becomes first: nothing (own, already settled, expired), a dead letter (loop), parked
//! (behind an earlier one of its key), or waiting. Counts everything it keeps.

use std::sync::Arc;

use busway_types::{Attempt, DeadReason, Event, Limits, Offset, Ordering, Parked, Settle, Verdict};

use crate::feed::Feed;
use crate::queue::{Item, group_of};
use crate::subscription::{Bus, Sub};

impl Sub {
    /// The tail brought an event that a pattern selects. Says whether the subscription has something to do.
    pub(crate) fn take_from_tail(&mut self, offset: Offset, event: &Arc<Event>, bus: &Bus) -> bool {
        let Feed::Tail { from } = self.feed else { return true };
        if offset < from {
            return false;
        }
        if bus.options.replayable && self.window_is_full(&bus.options.limits) {
            self.feed = Feed::behind(offset);
            return true;
        }
        self.take(offset, event, bus);
        true
    }

    /// Takes an event that a pattern selects.
    pub(crate) fn take(&mut self, offset: Offset, event: &Arc<Event>, bus: &Bus) {
        if !self.skip.is_empty() && self.was_settled(offset) {
            return;
        }
        if !self.spec.own_events && event.causality.source.as_ref() == Some(&self.spec.service) {
            return;
        }
        if event.is_expired(bus.now) {
            return self.note_expired(offset);
        }
        let limits = &bus.options.limits;
        if event.causality.hops > limits.hops {
            self.dead.insert(offset);
            self.pending.push(looped(offset, event, limits, bus));
            return;
        }
        let group = group_of(self.ordering, event);
        let seq = self.outstanding.open(offset);
        let item = Item { event: Arc::clone(event), offset, seq, group, cost: event.cost() };
        self.held += 1;
        self.held_bytes += item.cost;
        self.expiring += usize::from(event.expires.is_some());
        if let Some(key) = group
            && self.parks_behind(key, offset, limits)
        {
            self.park_behind_head(key, item);
        } else {
            self.waiting += 1;
            self.queue(item);
        }
    }

    fn was_settled(&mut self, offset: Offset) -> bool {
        while self.skip.front().is_some_and(|run| run.1 <= offset) {
            self.skip.pop_front();
        }
        self.skip.front().is_some_and(|run| run.0 <= offset)
    }

    /// Whether an arriving event has to be parked because an earlier one of its key is.
    fn parks_behind(&mut self, key: u64, offset: Offset, limits: &Limits) -> bool {
        self.ordering == Ordering::Key
            && self.parked.len() < limits.parked
            && self
                .groups
                .get_mut(key)
                .is_some_and(|group| group.fresh.is_empty() && group.head().is_some_and(|head| head < offset))
    }

    /// Parks an event that was never delivered.
    fn park_behind_head(&mut self, key: u64, item: Item) {
        self.groups.entry(key).park(item.offset);
        self.parked.put(item.offset, None, Vec::new(), Some(key));
        self.pending.push(Settle {
            offset: item.offset,
            group: item.group,
            event: Some(Arc::clone(&item.event)),
            verdict: Verdict::Parked(Parked { offset: item.offset, due: None, attempts: Vec::new() }),
        });
        self.forget(&item);
    }

    /// The first of a key was parked: those that wait for it in memory are parked behind it, as many as may be.
    pub(crate) fn park_followers(&mut self, key: u64, limits: &Limits) {
        if self.ordering != Ordering::Key {
            return;
        }
        while self.parked.len() < limits.parked {
            let Some(group) = self.groups.get_mut(key) else { return };
            if group.head().is_none() || group.fresh_is_next() {
                return;
            }
            let Some(item) = group.fresh.pop_front() else { return };
            self.waiting -= 1;
            self.park_behind_head(key, item);
        }
    }

    /// A fresh event is done: it leaves the memory and holds the cursor back no more.
    pub(crate) fn forget(&mut self, item: &Item) {
        self.outstanding.close(item.seq);
        self.held -= 1;
        self.held_bytes -= item.cost;
        if self.expiring > 0 && item.event.expires.is_some() {
            self.expiring -= 1;
        }
    }

    /// An event is done with because it expired.
    pub(crate) fn note_expired(&mut self, offset: Offset) {
        self.expired += 1;
        self.pending.push(Settle { offset, group: None, event: None, verdict: Verdict::Expired });
    }
}

fn looped(offset: Offset, event: &Arc<Event>, limits: &Limits, bus: &Bus) -> Settle {
    let error = format!(
        "{} handlers caused one another, {} are allowed (limits.hops); look for services that publish in a circle",
        event.causality.hops, limits.hops
    );
    let attempts = vec![Attempt { time: bus.now, error }];
    let verdict = Verdict::Dead { reason: DeadReason::Loop, time: bus.now, attempts };
    Settle { offset, group: None, event: Some(Arc::clone(event)), verdict }
}
