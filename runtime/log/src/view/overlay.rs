//! What a state holds beyond its view.
//!
//! Invariants: everything that transactions after [`Overlay::pruned`] changed is here, and what is here supersedes what the
//! view has; all the rest is in the view.

use std::sync::Arc;

use busway_types::{Event, KvVersion, Offset, ServiceName, Timestamp};
use bytes::Bytes;

use super::held::Held;
use super::kv::KvOverlay;
use super::timers::Timers;
use super::{DELAYED, View, take_pair};
use crate::error::LogError;
use crate::state::SubState;
use crate::txn::Txn;

/// How often the bytes of a service are looked at anew because the view went on meanwhile. After that they may be off by what
/// waits for the view.
const LOOKS: usize = 8;

/// What a state holds beyond its view.
#[derive(Clone, Debug)]
pub struct Overlay {
    pub(super) view: Arc<dyn View>,
    /// Transactions up to this one are in the view or here; replay of older ones changes only positions.
    pub(super) tables_seq: u64,
    /// What these did is in the view, and no longer here.
    pub(super) pruned: u64,
    pub(super) kv: KvOverlay,
    pub(super) timers: Timers,
    pub(super) held: Held,
    /// Entries that were in the view and no longer have to be, since it was opened, about.
    freed: u64,
}

impl PartialEq for Overlay {
    fn eq(&self, other: &Self) -> bool {
        (self.tables_seq, &self.kv, &self.timers, &self.held)
            == (other.tables_seq, &other.kv, &other.timers, &other.held)
    }
}

impl Eq for Overlay {}

impl Overlay {
    /// Over a view as it was opened; `cache_bytes` for entries that are in the view and were used.
    pub(crate) fn new(view: Arc<dyn View>, cache_bytes: usize) -> Result<Self, LogError> {
        let (count, _) = take_pair(&*view, DELAYED)?;
        let applied = view.applied();
        Ok(Self {
            view,
            tables_seq: applied,
            pruned: applied,
            kv: KvOverlay::new(cache_bytes),
            timers: Timers::new(count),
            held: Held::default(),
            freed: 0,
        })
    }

    /// The same for another user: without what is only cached.
    pub(crate) fn uncached(&self) -> Self {
        Self { kv: self.kv.uncached(), ..self.clone() }
    }

    /// The view.
    pub fn view(&self) -> &Arc<dyn View> {
        &self.view
    }

    /// About how many bytes wait for the view.
    pub(crate) fn waiting(&self) -> usize {
        self.kv.waiting() + self.timers.waiting() + self.held.waiting()
    }

    /// Loads what applying a transaction needs to know.
    pub(crate) fn load(&mut self, txn: &Txn) -> Result<(), LogError> {
        if txn.seq <= self.tables_seq { Ok(()) } else { self.kv.load(&*self.view, txn) }
    }

    /// Takes what is not about positions in; what it needs was loaded.
    pub(crate) fn apply(&mut self, txn: &Txn) {
        if txn.seq <= self.tables_seq {
            return;
        }
        self.tables_seq = txn.seq;
        // An entry that is written over leaves an old one as one that is removed does.
        self.freed += (txn.kv.len() + txn.fired.len() + txn.lapsed.len()) as u64;
        self.kv.apply(txn);
        self.timers.apply(txn);
        self.held.forget_before(self.view.persisted());
        self.prune();
    }

    /// Lets go of what the view has by now.
    pub(crate) fn prune(&mut self) {
        let applied = self.view.applied();
        if applied > self.pruned {
            self.pruned = applied;
            self.kv.prune(applied);
            self.timers.prune(applied);
        }
    }

    /// A subscription parked an event or made a dead letter of it, and held nothing of it before.
    pub(crate) fn hold(&mut self, offset: Offset, seq: u64) {
        self.held.hold(offset, seq, seq > self.tables_seq);
    }

    /// A subscription has no more use for an event that it held.
    pub(crate) fn release(&mut self, offset: Offset, seq: u64) {
        self.freed += 1;
        self.held.release(offset, seq, seq > self.tables_seq);
    }

    /// Counts what subscriptions of a checkpoint hold.
    pub(crate) fn recount<'a>(&mut self, subs: impl Iterator<Item = &'a SubState>) {
        self.held.recount(subs);
    }

    /// The lowest offset of an event that is held and may not be in the view yet.
    pub(crate) fn pinned_from(&self) -> Option<Offset> {
        self.held.pinned_from(self.view.persisted())
    }

    /// Whether segments of the log are needed only because the view is not persisted.
    pub(super) fn is_pinning(&self) -> bool {
        self.held.is_pinning(self.view.persisted())
    }

    /// An entry of key-value and its version (0 when absent).
    pub(crate) fn kv_get(&mut self, service: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), LogError> {
        self.kv.get(&*self.view, service, key)
    }

    /// Calls `each` with entries of key-value until it says false.
    pub(crate) fn kv_scan(
        &self,
        service: &ServiceName,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(&str, &Bytes) -> bool,
    ) -> Result<(), LogError> {
        self.kv.scan(&*self.view, service, prefix, after, each)
    }

    /// Bytes of a service's keys and values, and of those that were written over and are not in the view yet.
    pub(crate) fn kv_bytes(&mut self, service: &ServiceName) -> Result<usize, LogError> {
        let mut bytes = 0;
        for _ in 0..LOOKS {
            self.prune();
            bytes = self.kv.bytes(&*self.view, service)?;
            // What the view took in between was counted twice, and where it shrank something that is too little.
            if self.view.applied() == self.pruned {
                break;
            }
        }
        Ok(bytes)
    }

    /// How many entries of the view became needless since it was opened, about: grows, and stays the same when there is
    /// nothing that a compaction could give back.
    pub fn freed(&self) -> u64 {
        self.freed
    }

    /// How many events wait for their time.
    pub fn delayed(&self) -> u64 {
        self.timers.count
    }

    /// Events that are due at `now`, the first ones first, with their timers: as many as one transaction should have.
    pub fn due(&mut self, now: Timestamp) -> Result<Vec<(u64, Arc<Event>)>, LogError> {
        self.timers.due(&*self.view, now)
    }

    /// When the next delayed event is due.
    pub fn next_due(&mut self) -> Result<Option<Timestamp>, LogError> {
        self.timers.next_due(&*self.view)
    }
}
