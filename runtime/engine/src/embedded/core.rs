//! What the embedded engine holds under its one lock.
//!
//! Role: give transactions their sequence. Everything here is in memory and brief: validate, number, apply to the
//! [`State`], remember the events. Writing and syncing happen later, in the order of the numbers, on the log's thread.
//!
//! Invariant: a transaction is applied to the state exactly once, in the order of its sequence, before it is submitted.

use std::collections::BTreeSet;
use std::sync::Arc;

use busway_log::{KvRecord, SettleRecord, State, Txn};
use busway_types::{
    Batch, DeadLetter, Effects, Event, KvRead, KvWrite, Limits, Offset, Parked, Receipt, ServiceName, Settlement,
    Timestamp, Verdict,
};

use super::kept::Kept;
use super::kv::{self, ConflictGuard};
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

    /// Applies a transaction that was built on [`Core::blank`].
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

    /// Splits published events into those that are appended now and those that wait for their time.
    pub(super) fn publish(
        &mut self,
        events: Vec<Arc<Event>>,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<(Sequenced, Vec<Receipt>), EngineError> {
        let mut txn = self.blank();
        let waits = |event: &Event| event.not_before.is_some_and(|at| at > now);
        if !events.iter().any(|event| waits(event)) {
            let first = txn.first_offset;
            let receipt = |(i, e): (usize, &Arc<Event>)| Receipt { id: e.id, offset: Some(first + i as u64) };
            let receipts = events.iter().enumerate().map(receipt).collect();
            txn.events = events;
            return Ok((self.sequence(txn), receipts));
        }
        self.check_delayed(events.iter().filter(|e| waits(e)), limits)?;
        let mut receipts = Vec::with_capacity(events.len());
        for event in events {
            let offset = if waits(&event) { None } else { Some(txn.first_offset + txn.events.len() as u64) };
            receipts.push(Receipt { id: event.id, offset });
            self.place(&mut txn, event, now);
        }
        Ok((self.sequence(txn), receipts))
    }

    fn check_delayed<'a>(
        &self,
        delayed: impl Iterator<Item = &'a Arc<Event>>,
        limits: &Limits,
    ) -> Result<(), EngineError> {
        let (count, bytes) = delayed.fold((0, 0), |(n, b), event| (n + 1, b + event.cost()));
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
                self.due.insert((at, id));
                txn.delayed.push((id, event));
            }
            _ => txn.events.push(event),
        }
    }

    /// The transaction that appends delayed events whose time has come, as many as one transaction should
    /// have; none when there are none.
    pub(super) fn fire(&mut self, now: Timestamp) -> Option<Sequenced> {
        let mut txn = self.blank();
        let mut bytes = 0;
        while let Some(&(at, id)) = self.due.first() {
            if at > now || txn.fired.len() >= FIRE_EVENTS || bytes >= FIRE_BYTES {
                break;
            }
            self.due.pop_first();
            if let Some(event) = self.state.delayed.get(&id) {
                bytes += event.cost();
                txn.events.push(Arc::clone(event));
                txn.fired.push(id);
            }
        }
        (!txn.fired.is_empty()).then(|| self.sequence(txn))
    }

    /// The transaction of a settlement, and the offsets that were left out because of a conflict.
    pub(super) fn settle(
        &mut self,
        settlement: Settlement,
        service: &ServiceName,
        now: Timestamp,
    ) -> (Sequenced, Vec<Offset>) {
        let Settlement { token: _, sub, cursor, settles } = settlement;
        let mut txn = self.blank();
        let mut record = SettleRecord { cursor, acked: Vec::with_capacity(settles.len()), ..SettleRecord::of(sub) };
        let mut guard = ConflictGuard::default();
        for settle in settles {
            let offset = settle.offset;
            if let Verdict::Acked(Some(effects)) = &settle.verdict
                && !guard.admits(&self.state, service, offset, settle.group, effects)
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
                        let Effects { reads: _, scans: _, writes, publishes } = *effects;
                        txn.kv.extend(writes.into_iter().map(|op| KvRecord { service: service.clone(), op }));
                        for event in publishes {
                            self.place(&mut txn, event, now);
                        }
                    }
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
        (self.sequence(txn), guard.conflicts)
    }

    /// Takes hold of the bodies that a verdict keeps, and lets go of those it does not.
    fn keep(&mut self, sub: busway_types::SubId, settle: &busway_types::Settle) {
        let Some(kept) = &mut self.kept else { return };
        let held = self.state.subs.get(&sub).is_some_and(|s| {
            s.progress.parked.contains_key(&settle.offset) || s.progress.dead.contains_key(&settle.offset)
        });
        match (&settle.verdict, &settle.event) {
            (Verdict::Parked(_) | Verdict::Dead { .. }, Some(event)) if !held => kept.hold(settle.offset, event),
            (Verdict::Acked(_) | Verdict::Dropped, _) if held => kept.release(settle.offset),
            _ => {}
        }
    }

    /// The transaction of writes from outside a delivery; none when something of `reads` does not hold.
    pub(super) fn write(&mut self, service: &ServiceName, reads: &[KvRead], writes: Vec<KvWrite>) -> Option<Sequenced> {
        if !reads.iter().all(|read| kv::holds(&self.state, service, read)) {
            return None;
        }
        let mut txn = self.blank();
        txn.kv = writes.into_iter().map(|op| KvRecord { service: service.clone(), op }).collect();
        Some(self.sequence(txn))
    }
}
