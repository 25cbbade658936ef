//! From the log into the view, and from the state into checkpoints.
//!
//! Role: one thread behind the committer. It applies what is safely in the log to a state of its own, moves what that state
//! collects into the view, batch by batch, and makes checkpoints when it is asked to. It never holds up a commit, except
//! when it is a bounded queue behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use busway_types::{Logged, Offset};
use rustc_hash::FxHashMap;

use super::{DELAYED, Overlay, event_value, held_key, kv_value, pair, take_pair, timer_key, total_key};
use crate::checkpoint::{Feed, slices};
use crate::error::LogError;
use crate::options::Durability;
use crate::read::Source;
use crate::shared::Shared;
use crate::state::State;
use crate::txn::Txn;
use crate::upkeep::sync_all;

/// What waits for the view is written once it is this much, or when nothing came for a moment.
const FLUSH_BYTES: usize = 4 * 1024 * 1024;
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// How often the view is persisted when that is all that keeps segments of the log from being given back.
const PERSIST_EVERY: Duration = Duration::from_secs(1);

/// How often a full disk is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// With a durability that does not sync by itself: bytes of transactions that may wait for a sync.
const UNSYNCED_BYTES: usize = 16 * 1024 * 1024;

/// Held events copied with one batch, about.
const COPY_BYTES: usize = 8 * 1024 * 1024;
const COPY_EVENTS: usize = 1_024;

/// Follows the committer until it ends.
pub(crate) fn run(state: State, feed: &Receiver<Feed>, shared: &Arc<Shared>) {
    let mut feeder = Feeder {
        state,
        shared,
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        fed: 0,
        persisted_ns: 0,
        asked: false,
        tried_ns: 0,
    };
    if let Err(error) = feeder.run(feed) {
        shared.fail(&error);
    }
}

struct Feeder<'a> {
    state: State,
    shared: &'a Shared,
    /// Written, and perhaps not safe yet.
    waiting: VecDeque<Txn>,
    waiting_bytes: usize,
    /// The last transaction that came.
    fed: u64,
    /// When the view was persisted last.
    persisted_ns: u64,
    /// A checkpoint is to be made.
    asked: bool,
    /// When there was no room.
    tried_ns: u64,
}

impl Feeder<'_> {
    fn run(&mut self, feed: &Receiver<Feed>) -> Result<(), LogError> {
        loop {
            let next = self.wait(feed);
            let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
            let was_flushed = match next {
                Ok(Feed::Written(txns)) => {
                    self.take(txns);
                    false
                }
                Ok(Feed::Checkpoint) => {
                    self.asked = true;
                    false
                }
                Err(_) => true,
            };
            match self.go_on(was_flushed) {
                Ok(()) => {}
                // The log has everything; it goes on here when there is room.
                Err(LogError::Full { .. }) => {
                    self.shared.note_view_full(true);
                    self.tried_ns = self.now();
                }
                Err(error) => return Err(error),
            }
            if ended {
                return Ok(());
            }
        }
    }

    fn now(&self) -> u64 {
        self.shared.options.clock.monotonic_ns()
    }

    /// The next thing to do; a timeout when what was collected is to be written.
    fn wait(&self, feed: &Receiver<Feed>) -> Result<Feed, RecvTimeoutError> {
        let unfinished = !self.waiting.is_empty() || self.asked || self.state.waiting_bytes() > 0 || self.is_pinning();
        if self.state.over.is_some() && unfinished {
            feed.recv_timeout(FLUSH_AFTER)
        } else {
            feed.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
    }

    fn take(&mut self, txns: Vec<Txn>) {
        if self.state.over.is_none() {
            for txn in &txns {
                self.state.apply(txn);
            }
            return;
        }
        self.fed = txns.last().map_or(self.fed, |txn| txn.seq);
        self.waiting_bytes += txns.iter().map(Txn::cost).sum::<usize>();
        self.waiting.extend(txns);
    }

    /// Does what can be done. Whatever fails for want of room is done again from where it failed.
    fn go_on(&mut self, flush: bool) -> Result<(), LogError> {
        if self.shared.is_view_full() {
            if Duration::from_nanos(self.now().saturating_sub(self.tried_ns)) < AGAIN {
                return Ok(());
            }
            if let Some(over) = &self.state.over {
                over.view().revive()?;
            }
        }
        if self.state.over.is_some() {
            if self.waiting_bytes > UNSYNCED_BYTES {
                self.make_safe()?;
            }
            self.advance()?;
            if flush {
                self.flush()?;
            }
            self.unpin()?;
        }
        if self.asked {
            self.checkpoint()?;
            self.asked = false;
        }
        self.shared.note_view_full(false);
        Ok(())
    }

    /// Syncs the log where its durability does not.
    fn make_safe(&mut self) -> Result<(), LogError> {
        if self.shared.options.durability != Durability::Sync && self.fed > self.shared.synced_seq() {
            sync_all(self.shared)?;
            self.shared.note_synced(self.fed);
        }
        Ok(())
    }

    /// Applies what is safe.
    fn advance(&mut self) -> Result<(), LogError> {
        let safe = self.shared.synced_seq();
        while let Some(txn) = self.waiting.pop_front_if(|txn| txn.seq <= safe) {
            self.waiting_bytes -= txn.cost();
            self.state.load(&txn)?;
            self.state.apply(&txn);
            if self.state.waiting_bytes() > FLUSH_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let shared = self.shared;
        flush(&mut self.state, &|offsets| {
            let segments = shared.segments().clone();
            let source = Source { fs: &*shared.fs, indexes: &shared.indexes, segments: &segments };
            source.fetch(shared.written_offset.load(Ordering::Acquire), offsets)
        })
    }

    fn is_pinning(&self) -> bool {
        self.state.over.as_ref().is_some_and(|over| over.is_pinning())
    }

    /// Persists the view when only that keeps segments, now and then: what is held must not need the next checkpoint,
    /// which may never come when publishers wait for room.
    fn unpin(&mut self) -> Result<(), LogError> {
        let now = self.now();
        let due = Duration::from_nanos(now.saturating_sub(self.persisted_ns)) >= PERSIST_EVERY;
        if let (true, true, Some(over)) = (due, self.is_pinning(), &self.state.over) {
            over.view().persist()?;
            self.persisted_ns = now;
        }
        Ok(())
    }

    /// The checkpoint covers what the view has, so that neither is older than what the other needs.
    fn checkpoint(&mut self) -> Result<(), LogError> {
        if self.state.over.is_some() {
            self.make_safe()?;
            self.advance()?;
            self.flush()?;
            if let Some(over) = &self.state.over {
                over.view().apply(Vec::new(), self.state.next_seq - 1)?;
                over.view().persist()?;
            }
        }
        self.shared.offer_slices(slices(&self.state));
        Ok(())
    }
}

/// Reads events of the log by their offsets.
type Bodies<'a> = dyn Fn(&[Offset]) -> Result<Vec<Logged>, LogError> + 'a;

/// Moves what a state collects into its view.
pub(crate) fn flush(state: &mut State, bodies: &Bodies<'_>) -> Result<(), LogError> {
    let applied = state.next_seq - 1;
    let Some(over) = &mut state.over else { return Ok(()) };
    if over.waiting() == 0 {
        return Ok(());
    }
    let view = Arc::clone(&over.view);
    let before = view.applied();
    let (held, released) = over.held.changed_after(before);
    for offsets in held.chunks(COPY_EVENTS) {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for logged in bodies(offsets)? {
            let value = event_value(&logged.event);
            bytes += value.len();
            changes.push((held_key(logged.offset), Some(value)));
            if bytes > COPY_BYTES {
                // Early is harmless: if this is all that happens, replay holds the same events again.
                view.apply(std::mem::take(&mut changes), before)?;
                bytes = 0;
            }
        }
        view.apply(changes, before)?;
    }
    let mut changes = kv_changes(over)?;
    changes.extend(released.into_iter().map(|offset| (held_key(offset), None)));
    for (key, (event, _)) in &over.timers.near {
        changes.push((timer_key(*key), Some(event_value(event))));
    }
    changes.extend(over.timers.gone.iter().map(|key| (timer_key(*key), None)));
    changes.push((DELAYED.to_vec(), Some(pair(over.timers.count, 0))));
    view.apply(changes, applied)?;
    over.held.copied();
    over.prune();
    Ok(())
}

/// What changed in key-value, and the bytes of each service's entries.
fn kv_changes(over: &Overlay) -> Result<Vec<super::Change>, LogError> {
    let view = &*over.view;
    let mut changes = Vec::with_capacity(over.kv.dirty.len() + 8);
    let mut growth: FxHashMap<&[u8], i64> = FxHashMap::default();
    for (key, (value, version)) in &over.kv.dirty {
        let service = key.get(1..).and_then(|rest| rest.split(|byte| *byte == 0).next()).unwrap_or_default();
        let own = (key.len() - service.len() - 2) as u64;
        let before = view.get(key)?.map_or(0, |value| own + (value.len() as u64).saturating_sub(8));
        let after = value.as_ref().map_or(0, |value| own + value.len() as u64);
        *growth.entry(service).or_default() += after.cast_signed() - before.cast_signed();
        changes.push((key.to_vec(), value.as_ref().map(|value| kv_value(value, *version))));
    }
    for (service, grown) in growth {
        let Some(service) = std::str::from_utf8(service).ok().and_then(|name| name.parse().ok()) else { continue };
        let key = total_key(&service);
        let (total, _) = take_pair(view, &key)?;
        let total = total.saturating_add_signed(grown);
        changes.push((key, (total > 0).then(|| pair(total, 0))));
    }
    Ok(changes)
}
