//! Delayed events over a view.
//!
//! Role: keep in memory what is not in the view yet, and what is due next. Events are read from the view in the order in
//! which they are due, a bounded number at a time, from where the last reading ended: what was fired before is not looked
//! at again.
//!
//! Invariant: every waiting event that is before the horizon, or not in the view yet, is here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use busway_types::{Event, Timestamp};
use rustc_hash::FxHashSet;

use super::{View, take_event_value, take_timer_key, timer_key};
use crate::error::LogError;
use crate::txn::Txn;

/// When an event is due, and its timer.
pub(super) type TimerKey = (Timestamp, u64);

/// Events kept here beyond those that are not in the view yet, and their bytes.
const NEAR_EVENTS: usize = 8_192;
const NEAR_BYTES: usize = 16 * 1024 * 1024;

/// Events given to be fired at a time, and about their bytes.
const DUE_EVENTS: usize = 1_000;
const DUE_BYTES: usize = 8 * 1024 * 1024;

/// Delayed events.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    /// How many wait.
    pub(super) count: u64,
    /// Events, each with the transaction that delayed it.
    pub(super) near: BTreeMap<TimerKey, (Arc<Event>, u64)>,
    near_bytes: usize,
    horizon: TimerKey,
    /// The lowest key in the view at or behind the horizon, if it is known.
    ahead: Option<TimerKey>,
    /// Timers by transaction, that are not known to be in the view, and their bytes.
    order: VecDeque<(u64, TimerKey, usize)>,
    order_bytes: usize,
    /// Timers that fired and may still be in the view.
    pub(super) gone: FxHashSet<TimerKey>,
    gone_order: VecDeque<(u64, TimerKey)>,
}

impl PartialEq for Timers {
    fn eq(&self, other: &Self) -> bool {
        (self.count, &self.gone) == (other.count, &other.gone)
    }
}

fn key_of(timer: u64, event: &Event) -> TimerKey {
    (event.not_before.unwrap_or_default(), timer)
}

impl Timers {
    pub(super) fn new(count: u64) -> Self {
        Self {
            count,
            near: BTreeMap::new(),
            near_bytes: 0,
            horizon: TimerKey::default(),
            ahead: None,
            order: VecDeque::new(),
            order_bytes: 0,
            gone: FxHashSet::default(),
            gone_order: VecDeque::new(),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.near_bytes + 64 * (self.order.len() + self.gone.len())
    }

    pub(super) fn apply(&mut self, txn: &Txn) {
        for (timer, event) in &txn.delayed {
            let key = key_of(*timer, event);
            self.count += 1;
            self.near_bytes += event.cost();
            self.near.insert(key, (Arc::clone(event), txn.seq));
            self.order.push_back((txn.seq, key, event.cost()));
            self.order_bytes += event.cost();
        }
        // Timers fire in a transaction of their own: its events are theirs, in order.
        let fired = txn.fired.iter().zip(&txn.events).map(|(timer, event)| key_of(*timer, event));
        for key in fired.chain(txn.lapsed.iter().map(|(timer, due)| (*due, *timer))) {
            self.count = self.count.saturating_sub(1);
            self.remove(key);
            if self.gone.insert(key) {
                self.gone_order.push_back((txn.seq, key));
            }
        }
    }

    fn remove(&mut self, key: TimerKey) -> bool {
        let removed = self.near.remove(&key);
        if let Some((event, _)) = &removed {
            self.near_bytes -= event.cost();
        }
        removed.is_some()
    }

    /// The view has all up to `applied`.
    pub(super) fn prune(&mut self, applied: u64) {
        while let Some((_, key, bytes)) = self.order.pop_front_if(|(seq, ..)| *seq <= applied) {
            self.order_bytes -= bytes;
            // It is only in the view from now on, unless it fired.
            if key >= self.horizon && self.remove(key) {
                self.ahead = self.ahead.map(|ahead| ahead.min(key));
            }
        }
        while let Some((_, key)) = self.gone_order.pop_front_if(|(seq, _)| *seq <= applied) {
            self.gone.remove(&key);
        }
        if self.near.len() > self.order.len() + NEAR_EVENTS || self.near_bytes > self.order_bytes + NEAR_BYTES {
            self.shrink();
        }
    }

    /// Moves the horizon nearer, so that fewer events before it have to be here.
    fn shrink(&mut self) {
        let waiting: FxHashSet<TimerKey> = self.order.iter().map(|(_, key, _)| *key).collect();
        let (mut kept, mut bytes) = (0, 0);
        let mut beyond = self.near.iter().skip_while(|(_, (event, _))| {
            kept += 1;
            bytes += event.cost();
            kept <= NEAR_EVENTS / 2 && bytes <= NEAR_BYTES / 2
        });
        let Some((&first, _)) = beyond.next().filter(|(first, _)| **first < self.horizon) else { return };
        self.horizon = first;
        self.ahead = None;
        for (key, event) in self.near.split_off(&first) {
            if waiting.contains(&key) {
                self.near.insert(key, event);
            } else {
                self.near_bytes -= event.0.cost();
            }
        }
    }

    /// Reads on in the view, until there is an event that is due at `now` before all others, or none is.
    fn reach(&mut self, view: &dyn View, now: Timestamp) -> Result<(), LogError> {
        // Everything before this is due.
        let due = (now.after(std::time::Duration::from_millis(1)), 0);
        while self.horizon < due && self.near.first_key_value().is_none_or(|(first, _)| *first >= self.horizon) {
            let (mut read, mut bytes, mut reached) = (0, 0, due);
            let mut found = Vec::new();
            view.scan(&timer_key(self.horizon), &timer_key(due), &mut |key, value| {
                let key = take_timer_key(view, key)?;
                if read == DUE_EVENTS || bytes > DUE_BYTES {
                    reached = key;
                    return Ok(false);
                }
                read += 1;
                bytes += value.len();
                if !self.gone.contains(&key) && !self.near.contains_key(&key) {
                    found.push((key, take_event_value(view, &value)?));
                }
                Ok(true)
            })?;
            self.horizon = reached;
            self.ahead = None;
            for (key, event) in found {
                self.near_bytes += event.cost();
                self.near.insert(key, (event, 0));
            }
        }
        Ok(())
    }

    /// Events that are due, in the order in which they are, as many as one transaction should have.
    pub(super) fn due(&mut self, view: &dyn View, now: Timestamp) -> Result<Vec<(u64, Arc<Event>)>, LogError> {
        self.reach(view, now)?;
        let mut bytes = 0;
        let here = self.near.iter().take_while(|((due, _), _)| *due <= now).take(DUE_EVENTS);
        let here = here.take_while(|(key, (event, _))| {
            let fits = **key < self.horizon && bytes < DUE_BYTES;
            bytes += event.cost();
            fits
        });
        Ok(here.map(|((_, timer), (event, _))| (*timer, Arc::clone(event))).collect())
    }

    /// When the next event is due.
    pub(super) fn next_due(&mut self, view: &dyn View) -> Result<Option<Timestamp>, LogError> {
        const NONE: TimerKey = (Timestamp(u64::MAX), u64::MAX);
        let here = self.near.first_key_value().map(|(key, _)| *key);
        if here.is_some_and(|first| first < self.horizon) || self.count == 0 {
            return Ok(here.map(|(due, _)| due));
        }
        // This is asked all the time, so the view is asked only when the answer may be another one.
        let mut ahead = self.ahead.unwrap_or(NONE);
        if self.ahead.is_none() {
            view.scan(&timer_key(self.horizon), &timer_key(NONE), &mut |key, _| {
                let key = take_timer_key(view, key)?;
                let gone = self.gone.contains(&key);
                if !gone {
                    ahead = key;
                }
                Ok(gone)
            })?;
            self.ahead = Some(ahead);
        }
        let first = here.map_or(ahead, |here| here.min(ahead));
        Ok((first != NONE).then_some(first.0))
    }
}
