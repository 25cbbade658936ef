//! What the embedded engine holds under its one lock.
//!
//! Role: give transactions their sequence. Everything here is in memory and brief: validate, number, apply to the
//! [`State`], remember the events. Writing and syncing happen later, in the order of the numbers, on the log's thread.
//!
//! Invariant: a transaction is applied to the state exactly once, in the order of its sequence, before it is submitted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use busway_log::{KvRecord, LogError, SettleRecord, State, Txn};
use busway_types::{
    Batch, DeadLetter, Effects, Event, Limits, Offset, Parked, Receipt, ServiceName, Settlement, SubId, Timestamp,
    Verdict,
};

use super::dedup::NewIds;
use super::kept::Kept;
use super::kv::ConflictGuard;
use super::recent::Recent;
use crate::EngineError;

/// Delayed events that one transaction appends.
const FIRE_EVENTS: usize = 1_000;
const FIRE_BYTES: usize = 8 * 1024 * 1024;

/// A numbered transaction, and the events that it appended.
pub(super) struct Sequenced {
    pub(super) txn: Txn,
    pub(super) batch: Option<Batch>,
}

/// The last time that the view was made smaller.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compaction {
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    /// What [`busway_log::Overlay::freed`] was when it was decided on.
    pub(super) freed: u64,
    /// The next one, which has to wait until the view has heard of what became needless.
    pub(super) wanted: Option<Wanted>,
}

/// A compaction that would give something back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// What [`busway_log::Overlay::freed`] was when that was noticed.
    pub(super) freed: u64,
    /// The last transaction then; the view hears of it a moment later.
    pub(super) seq: u64,
    pub(super) noticed: Timestamp,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) state: State,
    pub(super) recent: Recent,
    /// Only when the bus is in memory.
    pub(super) kept: Option<Kept>,
    /// When delayed events are due.
    pub(super) due: BTreeSet<(Timestamp, u64)>,
    /// Old batches that nobody reads any more, to be dropped by whoever holds the lock, after letting go of it: freeing
    /// hundreds of events takes longer than numbering them.
    evicted: Vec<Batch>,
    /// Events that were not accepted again, since the engine was opened.
    pub(super) duplicates: u64,
    /// Delayed events that had expired when their time came, since the engine was opened.
    pub(super) expired: u64,
    /// When something of a detached subscription was settled last: as long as that goes on, it is in use.
    pub(super) used: BTreeMap<SubId, Timestamp>,
    /// Settlements of subscriptions that are not known; each of these is told once.
    pub(super) unknown: BTreeSet<SubId>,
    pub(super) compaction: Compaction,
}

impl Core {
    pub(super) fn new(state: State, limits: &Limits, in_memory: bool) -> Self {
        let due = state.delayed.iter().map(|(id, event)| (event.not_before.unwrap_or_default(), *id)).collect();
        Self {
            state,
            recent: Recent::new(limits.recent_bytes),
            kept: in_memory.then(Kept::default),
            due,
            evicted: Vec::new(),
            duplicates: 0,
            expired: 0,
            used: BTreeMap::new(),
            unknown: BTreeSet::new(),
            compaction: Compaction::default(),
        }
    }

    /// What is to be dropped once the lock is free.
    pub(super) fn take_evicted(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.evicted)
    }

    /// Bytes of what is kept in memory apart from the tail.
    pub(super) fn kept_bytes(&self) -> usize {
        self.state.delayed_bytes + self.kept.as_ref().map_or(0, Kept::bytes)
    }

    /// An empty transaction, to be filled and given to [`Core::sequence`].
    pub(super) fn blank(&self) -> Txn {
        Txn { seq: self.state.next_seq, first_offset: self.state.next_offset, ..Txn::default() }
    }

    /// Applies a transaction that was built on [`Core::blank`]; what it needs was loaded if it has writes to key-value.
    pub(super) fn sequence(&mut self, mut txn: Txn) -> Sequenced {
        self.state.apply(&txn);
        let batch = (!txn.events.is_empty()).then(|| {
            // Without a log nobody needs the transaction's own copy.
            let events = if self.kept.is_some() { std::mem::take(&mut txn.events) } else { txn.events.clone() };
            let batch = Batch { first: txn.first_offset, events: Arc::new(events) };
            let bytes = batch.events.iter().map(|event| event.cost()).sum();
            self.recent.push(batch.clone(), bytes, &mut self.evicted);
            batch
        });
        Sequenced { txn, batch }
    }

    /// Splits published events into those that are appended now, those that wait for their time, and those that were
    /// published before and get the first one's receipt. No transaction when all are of the last kind.
    pub(super) fn publish(
        &mut self,
        events: Vec<Arc<Event>>,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<(Option<Sequenced>, Vec<Receipt>), EngineError> {
        let mut txn = self.blank();
        let waits = |event: &Event| event.not_before.is_some_and(|at| at > now);
        if !events.iter().any(|event| event.causality.chosen_id || waits(event)) {
            let first = txn.first_offset;
            let receipt = |(i, e): (usize, &Arc<Event>)| Receipt { id: e.id, offset: Some(first + i as u64) };
            let receipts = events.iter().enumerate().map(receipt).collect();
            txn.events = events;
            return Ok((Some(self.sequence(txn)), receipts));
        }
        let mut receipts = Vec::with_capacity(events.len());
        let mut fresh = Vec::with_capacity(events.len());
        let mut ids = NewIds::default();
        let mut next = txn.first_offset;
        for event in events {
            let offset = (!waits(&event)).then_some(next);
            let first = ids.first_of(&self.state.seen, &event, offset, now, limits);
            receipts.push(Receipt { id: event.id, offset: first.map_or(offset, |first| first.offset) });
            if first.is_none() {
                next += u64::from(offset.is_some());
                fresh.push(event);
            }
        }
        self.check_delayed(fresh.iter().filter(|e| waits(e)), limits)?;
        self.duplicates += (receipts.len() - fresh.len()) as u64;
        if fresh.is_empty() {
            return Ok((None, receipts));
        }
        for event in fresh {
            self.place(&mut txn, event, now);
        }
        ids.record(&self.state.seen, &mut txn, now, limits);
        Ok((Some(self.sequence(txn)), receipts))
    }

    fn check_delayed<'a>(
        &self,
        delayed: impl Iterator<Item = &'a Arc<Event>>,
        limits: &Limits,
    ) -> Result<(), EngineError> {
        let (count, bytes) = delayed.fold((0, 0), |(n, b), event| (n + 1, b + event.cost()));
        // Those of a bus on disk are on disk, and count there.
        if self.state.over.is_some() {
            return Ok(());
        }
        if self.due.len() + count > limits.delayed_events || self.state.delayed_bytes + bytes > limits.delayed_bytes {
            return Err(EngineError::Overloaded(format!(
                "{} delayed events are waiting already (at most {} events or {} bytes); publish with less delay or try later",
                self.due.len(),
                limits.delayed_events,
                limits.delayed_bytes
            )));
        }
        Ok(())
    }

    /// Puts one event into `txn`: appended, or kept until its time.
    fn place(&mut self, txn: &mut Txn, event: Arc<Event>, now: Timestamp) {
        match event.not_before {
            Some(at) if at > now => {
                let id = self.state.next_timer + txn.delayed.len() as u64;
                if self.state.over.is_none() {
                    self.due.insert((at, id));
                }
                txn.delayed.push((id, event));
            }
            _ => txn.events.push(event),
        }
    }

    /// The transaction that appends delayed events whose time has come, as many as one transaction should
    /// have; none when there are none.
    pub(super) fn fire(&mut self, now: Timestamp) -> Result<Option<Sequenced>, LogError> {
        let mut txn = self.blank();
        if let Some(over) = &mut self.state.over {
            for (timer, event) in over.due(now)? {
                self.expired += fire_one(&mut txn, timer, &event, now);
            }
            return Ok(self.fired(txn));
        }
        let mut bytes = 0;
        while let Some(&(at, id)) = self.due.first() {
            if at > now || txn.fired.len() + txn.lapsed.len() >= FIRE_EVENTS || bytes >= FIRE_BYTES {
                break;
            }
            self.due.pop_first();
            if let Some(event) = self.state.delayed.get(&id) {
                bytes += event.cost();
                self.expired += fire_one(&mut txn, id, event, now);
            }
        }
        Ok(self.fired(txn))
    }

    fn fired(&mut self, txn: Txn) -> Option<Sequenced> {
        (!(txn.fired.is_empty() && txn.lapsed.is_empty())).then(|| self.sequence(txn))
    }

    /// When the next delayed event is due.
    pub(super) fn next_due(&mut self) -> Result<Option<Timestamp>, LogError> {
        match &mut self.state.over {
            Some(over) => over.next_due(),
            None => Ok(self.due.first().map(|(at, _)| *at)),
        }
    }

    /// How many events wait for their time.
    pub(super) fn delayed(&self) -> usize {
        self.state.over.as_ref().map_or(self.due.len(), |over| over.delayed() as usize)
    }

    /// The service of a subscription that settles something; none when it was forgotten, which is told once.
    pub(super) fn user(&mut self, sub: SubId, now: Timestamp) -> Option<ServiceName> {
        let Some(known) = self.state.subs.get(&sub) else {
            if self.unknown.insert(sub) {
                tracing::warn!(
                    subscription = sub.0,
                    "it settles although it was forgotten; what it does has no effect"
                );
            }
            return None;
        };
        if known.detached_since.is_some() {
            self.used.insert(sub, now);
        }
        Some(known.service.clone())
    }

    /// The transaction of a settlement, and the offsets that were left out because of a conflict.
    pub(super) fn settle(
        &mut self,
        settlement: Settlement,
        service: &ServiceName,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<(Sequenced, Vec<Offset>), LogError> {
        let Settlement { token: _, sub, cursor, settles } = settlement;
        let mut txn = self.blank();
        let acked = Vec::with_capacity(settles.len());
        let mut record = SettleRecord { cursor, acked, time: Some(now), ..SettleRecord::of(sub) };
        let mut guard = ConflictGuard::default();
        let mut ids = NewIds::default();
        for settle in settles {
            let offset = settle.offset;
            if let Verdict::Acked(Some(effects)) = &settle.verdict
                && !guard.admits(&mut self.state, service, offset, settle.group, effects)?
            {
                continue;
            }
            if guard.is_void(settle.group) {
                guard.conflicts.push(offset);
                continue;
            }
            self.keep(sub, &settle);
            match settle.verdict {
                Verdict::Acked(effects) => {
                    record.acked.push(offset);
                    if let Some(effects) = effects {
                        self.add(&mut txn, &mut ids, service, *effects, now, limits);
                    }
                }
                Verdict::Expired => {
                    record.acked.push(offset);
                    record.expired.push(offset);
                }
                Verdict::Parked(parked) => record.parked.push(Parked { offset, ..parked }),
                Verdict::Dead { reason, time, attempts } => {
                    record.dead.push(DeadLetter { offset, reason, time, attempts });
                }
                Verdict::Revived => record.revived.push(offset),
                Verdict::Dropped => record.dropped.push(offset),
            }
        }
        if let Some(&lowest) = guard.conflicts.iter().min() {
            record.cursor = record.cursor.min(lowest);
        }
        txn.settlement = Some(record);
        ids.record(&self.state.seen, &mut txn, now, limits);
        self.state.load(&txn)?;
        Ok((self.sequence(txn), guard.conflicts))
    }

    /// Puts what a delivery or a request leaves into `txn`.
    fn add(
        &mut self,
        txn: &mut Txn,
        ids: &mut NewIds,
        service: &ServiceName,
        effects: Effects,
        now: Timestamp,
        limits: &Limits,
    ) {
        let Effects { reads: _, scans: _, writes, publishes } = effects;
        txn.kv.extend(writes.into_iter().map(|op| KvRecord { service: service.clone(), op }));
        for event in publishes {
            let waits = event.not_before.is_some_and(|at| at > now);
            let offset = (!waits).then_some(txn.end_offset());
            if ids.first_of(&self.state.seen, &event, offset, now, limits).is_some() {
                self.duplicates += 1;
            } else {
                self.place(txn, event, now);
            }
        }
    }

    /// Takes hold of the bodies that a verdict keeps, and lets go of those it does not.
    fn keep(&mut self, sub: SubId, settle: &busway_types::Settle) {
        let Some(kept) = &mut self.kept else { return };
        let held = self.state.subs.get(&sub).is_some_and(|s| {
            s.progress.parked.contains_key(&settle.offset) || s.progress.dead.contains_key(&settle.offset)
        });
        match (&settle.verdict, &settle.event) {
            (Verdict::Parked(_) | Verdict::Dead { .. }, Some(event)) if !held => kept.hold(settle.offset, event),
            (Verdict::Acked(_) | Verdict::Expired | Verdict::Dropped, _) if held => kept.release(settle.offset),
            _ => {}
        }
    }

    /// The transaction of effects from outside a delivery; none when something that they rest on does not hold.
    pub(super) fn commit(
        &mut self,
        service: &ServiceName,
        effects: Effects,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<Option<Sequenced>, LogError> {
        if !ConflictGuard::default().rests_on_truth(&mut self.state, service, &effects)? {
            return Ok(None);
        }
        let mut txn = self.blank();
        let mut ids = NewIds::default();
        self.add(&mut txn, &mut ids, service, effects, now, limits);
        ids.record(&self.state.seen, &mut txn, now, limits);
        self.state.load(&txn)?;
        Ok(Some(self.sequence(txn)))
    }
}

/// Puts an event whose time has come into a transaction; gives 1 if it has expired and is only counted.
fn fire_one(txn: &mut Txn, timer: u64, event: &Arc<Event>, now: Timestamp) -> u64 {
    if event.is_expired(now) {
        txn.lapsed.push((timer, event.not_before.unwrap_or_default()));
        return 1;
    }
    txn.fired.push(timer);
    txn.events.push(Arc::clone(event));
    0
}
