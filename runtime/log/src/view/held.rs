//! The events of parked deliveries and dead letters.
//!
//! Role: know which events are held by how many subscriptions, and which of them the view may lack. They are copied from
//! the log into the view, once however many subscriptions hold them, so that they pin no segment.

use std::collections::{BTreeMap, VecDeque};

use busway_types::Offset;
use rustc_hash::FxHashMap;

use crate::state::SubState;

/// Which events are held.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// By how many subscriptions.
    refs: FxHashMap<Offset, u32>,
    /// What changed and may not be persisted: whether it is held now, and since which transaction.
    changed: BTreeMap<Offset, (bool, u64)>,
    order: VecDeque<(u64, Offset)>,
    /// How many changes the view does not have, about.
    fresh: usize,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.refs == other.refs
    }
}

/// About what copying one event costs.
const EVENT_BYTES: usize = 1_024;

impl Held {
    pub(super) fn recount<'a>(&mut self, subs: impl Iterator<Item = &'a SubState>) {
        self.refs.clear();
        for sub in subs {
            for offset in sub.progress.parked.keys().chain(sub.progress.dead.keys()) {
                *self.refs.entry(*offset).or_default() += 1;
            }
        }
    }

    /// `fresh` unless the view has this transaction already.
    pub(super) fn hold(&mut self, offset: Offset, seq: u64, fresh: bool) {
        let refs = self.refs.entry(offset).or_default();
        *refs += 1;
        if *refs == 1 && fresh {
            self.change(offset, true, seq);
        }
    }

    pub(super) fn release(&mut self, offset: Offset, seq: u64, fresh: bool) {
        let Some(refs) = self.refs.get_mut(&offset) else { return };
        *refs -= 1;
        if *refs == 0 {
            self.refs.remove(&offset);
            if fresh {
                self.change(offset, false, seq);
            }
        }
    }

    fn change(&mut self, offset: Offset, held: bool, seq: u64) {
        self.changed.insert(offset, (held, seq));
        self.order.push_back((seq, offset));
        self.fresh += 1;
    }

    pub(super) fn waiting(&self) -> usize {
        self.fresh * EVENT_BYTES
    }

    /// What changed after a transaction: offsets that are held now, and such that are not.
    pub(super) fn changed_after(&self, seq: u64) -> (Vec<Offset>, Vec<Offset>) {
        let changed = self.changed.iter().filter(|(_, (_, since))| *since > seq);
        let (held, released): (Vec<_>, Vec<_>) = changed.partition(|(_, (held, _))| *held);
        let offsets = |list: Vec<(&Offset, &(bool, u64))>| list.into_iter().map(|(offset, _)| *offset).collect();
        (offsets(held), offsets(released))
    }

    /// The view has everything.
    pub(super) fn copied(&mut self) {
        self.fresh = 0;
    }

    /// The view has all up to `seq`, whatever happens.
    pub(super) fn forget_before(&mut self, seq: u64) {
        while let Some((_, offset)) = self.order.pop_front_if(|(since, _)| *since <= seq) {
            if self.changed.get(&offset).is_some_and(|(_, since)| *since <= seq) {
                self.changed.remove(&offset);
            }
        }
    }

    /// The lowest held event that is not safely in the view, which has all up to `persisted`.
    pub(super) fn pinned_from(&self, persisted: u64) -> Option<Offset> {
        self.changed.iter().find(|(_, (held, since))| *held && *since > persisted).map(|(offset, _)| *offset)
    }

    /// Whether something changed that is not safely in the view.
    pub(super) fn is_pinning(&self, persisted: u64) -> bool {
        self.order.back().is_some_and(|(since, _)| *since > persisted)
    }
}
