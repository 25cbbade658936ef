//! Deduplication: client-supplied ids of the transaction that is being built.
//!
//! Role: tell whether an event was published before, in the state or in this transaction, and collect what the
//! transaction has to remember. Events without such an id pass unseen.

use busway_log::{FirstSeen, SeenIds, Txn};
use busway_types::{Event, Fingerprint, Limits, Offset, Timestamp};
use rustc_hash::FxHashMap;

/// The ids of one transaction.
#[derive(Debug, Default)]
pub(super) struct NewIds {
    /// In order, for the record.
    ids: Vec<(Fingerprint, Option<Offset>)>,
    /// The same, to look into.
    known: FxHashMap<Fingerprint, FirstSeen>,
}

impl NewIds {
    /// The earlier event with the topic and the client-supplied id of `event`. When there is none, `offset` is remembered
    /// as the one that `event` gets.
    pub(super) fn first_of(
        &mut self,
        seen: &SeenIds,
        event: &Event,
        offset: Option<Offset>,
        now: Timestamp,
        limits: &Limits,
    ) -> Option<FirstSeen> {
        if !event.causality.chosen_id || limits.dedup_window.is_zero() {
            return None;
        }
        let id = Fingerprint::of(&event.topic, event.id);
        let first = self.known.get(&id).copied().or_else(|| seen.find(&id, now, limits.dedup_window));
        if first.is_none() {
            self.ids.push((id, offset));
            self.known.insert(id, FirstSeen { offset });
        }
        first
    }

    /// Puts the ids into the transaction.
    pub(super) fn record(self, seen: &SeenIds, txn: &mut Txn, now: Timestamp, limits: &Limits) {
        if !self.ids.is_empty() {
            let record = seen.record(self.ids, now, (limits.dedup_window, limits.dedup_ids));
            txn.ids = Some(Box::new(record));
        }
    }
}
