//! The parked events of one subscription.
//!
//! Role: what is known of each (attempts, due time, group), which of them are due, and which bodies to ask for. Bodies
//! are not kept here; those in hand are counted so that asking stays bounded.
//! Invariants: at most one `Fetch` is unanswered; an event is `Held` exactly while its body is in a queue or in flight.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use busway_types::{Attempt, Limits, Offset, Timestamp};
use rustc_hash::FxHashMap;

/// Bodies asked for at once before their size is known.
const FIRST_FETCH: usize = 32;

/// Where the body of a parked event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// With the engine, not wanted now.
    Away,
    /// Its group is not known yet; asked for, or to be asked for.
    Unknown,
    /// To be asked for.
    Wanted,
    /// Asked for.
    Asked,
    /// In a queue or in flight.
    Held,
}

/// One parked event.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Not before; none when it waits behind another one of its group.
    pub(crate) due: Option<Timestamp>,
    /// The failed attempts.
    pub(crate) attempts: Vec<Attempt>,
    /// Its group; only once it is not `Unknown`.
    pub(crate) group: Option<u64>,
    /// Where its body is.
    pub(crate) body: Body,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct ParkedSet {
    entries: FxHashMap<Offset, Entry>,
    due: BinaryHeap<Reverse<(Timestamp, Offset)>>,
    unknown: VecDeque<Offset>,
    /// How many are `Unknown`.
    learning: usize,
    wanted: VecDeque<Offset>,
    /// Whether a `Fetch` is unanswered.
    asking: bool,
    /// How many are `Held`.
    held: usize,
    /// Moving average of what a fetched event costs.
    cost: Option<usize>,
}

impl ParkedSet {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, offset: Offset) -> Option<&Entry> {
        self.entries.get(&offset)
    }

    /// Whether groups are not known, so that nothing may be delivered.
    pub(crate) fn is_learning(&self) -> bool {
        self.learning > 0
    }

    /// Whether a `Fetch` is unanswered.
    pub(crate) fn is_asking(&self) -> bool {
        self.asking
    }

    /// Adds an event, or replaces what is known of it.
    pub(crate) fn put(&mut self, offset: Offset, due: Option<Timestamp>, attempts: Vec<Attempt>, group: Option<u64>) {
        if let Some(due) = due {
            self.due.push(Reverse((due, offset)));
        }
        self.set_body(offset, Body::Away);
        self.entries.insert(offset, Entry { due, attempts, group, body: Body::Away });
    }

    /// Adds an event of which the group has to be learned.
    pub(crate) fn put_unknown(&mut self, offset: Offset, due: Option<Timestamp>, attempts: Vec<Attempt>) {
        self.put(offset, due, attempts, None);
        self.set_body(offset, Body::Unknown);
        self.unknown.push_back(offset);
    }

    /// The group of an event is now known.
    pub(crate) fn learn(&mut self, offset: Offset, group: Option<u64>) {
        self.set_body(offset, Body::Away);
        if let Some(entry) = self.entries.get_mut(&offset) {
            entry.group = group;
            if group.is_none() && entry.due.is_none() {
                entry.due = Some(Timestamp(0));
            }
            if let Some(due) = entry.due {
                self.due.push(Reverse((due, offset)));
            }
        }
    }

    /// The event is settled.
    pub(crate) fn remove(&mut self, offset: Offset) -> Option<Entry> {
        self.set_body(offset, Body::Away);
        self.entries.remove(&offset)
    }

    /// Moves a body, counting.
    pub(crate) fn set_body(&mut self, offset: Offset, body: Body) {
        let Some(entry) = self.entries.get_mut(&offset) else { return };
        match entry.body {
            Body::Held => self.held -= 1,
            Body::Unknown => self.learning -= 1,
            Body::Away | Body::Wanted | Body::Asked => {}
        }
        match body {
            Body::Held => self.held += 1,
            Body::Unknown => self.learning += 1,
            Body::Away | Body::Wanted | Body::Asked => {}
        }
        entry.body = body;
    }

    /// Wants the body of an event.
    pub(crate) fn want(&mut self, offset: Offset) {
        self.set_body(offset, Body::Wanted);
        self.wanted.push_back(offset);
    }

    /// Whether the body is on its way.
    pub(crate) fn is_coming(&self, offset: Offset) -> bool {
        self.entries.get(&offset).is_some_and(|entry| matches!(entry.body, Body::Wanted | Body::Asked | Body::Unknown))
    }

    /// Whether its time has come, or it needs none.
    pub(crate) fn is_due(&self, offset: Offset, now: Timestamp) -> bool {
        self.entries.get(&offset).is_some_and(|entry| entry.due.is_none_or(|due| due <= now))
    }

    /// The next event whose time has come.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(Offset, Option<u64>)> {
        while let Some(&Reverse((due, offset))) = self.due.peek() {
            if due > now {
                return None;
            }
            self.due.pop();
            if let Some(entry) = self.entries.get(&offset)
                && entry.due == Some(due)
                && entry.body == Body::Away
            {
                return Some((offset, entry.group));
            }
        }
        None
    }

    /// When the next one is due.
    pub(crate) fn next_due(&mut self) -> Option<Timestamp> {
        while let Some(&Reverse((due, offset))) = self.due.peek() {
            let valid =
                self.entries.get(&offset).is_some_and(|entry| entry.due == Some(due) && entry.body == Body::Away);
            if valid {
                return Some(due);
            }
            self.due.pop();
        }
        None
    }

    /// What to ask for now, if anything. Groups are learned first.
    pub(crate) fn ask(&mut self, limits: &Limits) -> Option<Vec<Offset>> {
        if self.asking || (self.unknown.is_empty() && self.wanted.is_empty()) {
            return None;
        }
        let most = limits.chunk_events.max(1);
        let slice = self.cost.map_or(FIRST_FETCH, |cost| limits.window_bytes / 4 / cost.max(1)).clamp(1, most);
        let mut asked = Vec::new();
        while asked.len() < slice
            && let Some(offset) = self.unknown.pop_front()
        {
            if self.entries.get(&offset).is_some_and(|entry| entry.body == Body::Unknown) {
                asked.push(offset);
            }
        }
        if asked.is_empty() && self.learning == 0 {
            while asked.len() + self.held < slice
                && let Some(offset) = self.wanted.pop_front()
            {
                if self.entries.get(&offset).is_some_and(|entry| entry.body == Body::Wanted) {
                    self.set_body(offset, Body::Asked);
                    asked.push(offset);
                }
            }
        }
        self.asking = !asked.is_empty();
        self.asking.then_some(asked)
    }

    /// A `Fetch` was answered with an event of this cost.
    pub(crate) fn weigh(&mut self, cost: usize) {
        self.cost = Some(self.cost.map_or(cost, |mean| (mean * 7 + cost) / 8));
    }

    /// The `Fetch` is answered.
    pub(crate) fn answered(&mut self) {
        self.asking = false;
    }

    /// Takes everything out, by offset ascending; bodies in hand have to be dropped by the caller.
    pub(crate) fn dissolve(&mut self) -> Vec<(Offset, Entry)> {
        let Self { entries, due, unknown, learning, wanted, asking: _, held, cost: _ } = self;
        due.clear();
        unknown.clear();
        wanted.clear();
        (*learning, *held) = (0, 0);
        let mut all: Vec<(Offset, Entry)> = entries.drain().collect();
        all.sort_unstable_by_key(|(offset, _)| *offset);
        all
    }

    /// Every entry.
    #[cfg(any(test, feature = "invariants"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Offset, &Entry)> + '_ {
        self.entries.iter().map(|(offset, entry)| (*offset, entry))
    }

    /// How many are `Held`.
    #[cfg(any(test, feature = "invariants"))]
    pub(crate) fn held(&self) -> usize {
        self.held
    }
}
