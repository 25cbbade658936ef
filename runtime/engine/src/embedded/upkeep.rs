//! What the engine gives back.
//!
//! Role: positions that nobody came back for, and the segments and bodies that nobody needs. Looked at once a second, with
//! the lock held; the files themselves are removed by the log's own thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use busway_log::{SegmentInfo, SubChange, SubState, View};
use busway_types::{SubId, Timestamp};

use super::core::{Compaction, Core, Wanted};
use super::{Shared, retention};
use crate::EngineError;

/// How long the position of a subscription without a service is kept.
const DETACHED_FOR: Duration = Duration::from_hours(24);
/// How often what nobody needs is looked for.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// After this time the view has heard of everything that touches it, unless it is in trouble.
const HEARD_AFTER: Duration = Duration::from_secs(3);
/// The shortest time between two compactions of the view; ten times as long as the last one took, if that is more.
const COMPACT_EVERY: Duration = Duration::from_secs(2);

impl Shared {
    /// Once a second: releases subscriptions that nobody came back for, and gives log segments back that nobody needs and
    /// that the retention does not ask for.
    pub(super) fn tidy(self: &Arc<Self>, core: &mut Core, now: Timestamp) -> Result<(), EngineError> {
        let last = Timestamp(self.tidied_at.load(Ordering::Relaxed));
        if now.since(last) < TIDY_EVERY {
            return Ok(());
        }
        self.tidied_at.store(now.0, Ordering::Relaxed);
        self.expire_detached(core, now);
        let Some(log) = &self.log else {
            self.make_room_in_memory(core);
            return Ok(());
        };
        let segments = log.segments();
        self.make_room(core, &segments);
        if let Some(view) = log.view() {
            self.view_bytes.store(view.bytes(), Ordering::Relaxed);
            self.make_room_in_view(core, &**view, log.bytes(), now);
        }
        let to = retention::release_to(&segments, core.state.needed_from(), &self.limits, now);
        let used = log.bytes() + self.view_bytes.load(Ordering::Relaxed);
        if to > log.oldest() && used >= self.limits.disk_bytes / 10 * retention::PUBLISHERS_TENTHS {
            log.release_before(to, true)?;
        } else if to > log.oldest() {
            log.release_before(to, false)?;
        }
        Ok(())
    }

    /// At the limit: says who holds the log back, once, and releases detached subscriptions, for a removed service must
    /// not stop the others.
    fn make_room(self: &Arc<Self>, core: &mut Core, segments: &[SegmentInfo]) {
        let limit = self.limits.disk_bytes / 10 * retention::PUBLISHERS_TENTHS;
        let in_view = self.view_bytes.load(Ordering::Relaxed);
        let warning = retention::warning(segments, in_view, retention::holder(&core.state).as_ref(), &self.limits);
        if let (Some(warning), false) = (&warning, self.warned.swap(warning.is_some(), Ordering::Relaxed)) {
            tracing::warn!("{warning}");
        }
        // What is only waiting to be given back is not held by anybody.
        while let Some(holder) = retention::holder(&core.state).filter(|holder| holder.detached)
            && retention::held_bytes(segments, holder.needs) >= limit
            && retention::frees(segments, &core.state, &holder)
        {
            tracing::warn!(
                subscription = holder.name,
                bytes = retention::held_bytes(segments, holder.needs),
                "released a detached subscription, which held back what fills the disk (limits.disk-bytes); if its service comes back it begins with the next event"
            );
            self.forget_locked(core, holder.id);
        }
    }

    /// The same for what is in the view: first the space of what is gone from it is given back, then detached
    /// subscriptions go that have events in it, the oldest first and one at a time.
    fn make_room_in_view(self: &Arc<Self>, core: &mut Core, view: &dyn View, log_bytes: u64, now: Timestamp) {
        let (limit, in_view) = (self.limits.disk_bytes, self.view_bytes.load(Ordering::Relaxed));
        let Some(over) = &core.state.over else { return };
        let freed = over.freed();
        if view.is_compacting() {
            core.compaction.ended = now;
            return;
        }
        if in_view + log_bytes < limit / 10 * retention::COMPACTING_TENTHS || in_view < limit / 10 {
            return;
        }
        let Compaction { began, ended, freed: before, wanted } = core.compaction;
        let pause = (ended.since(began) * 10).max(COMPACT_EVERY);
        let Some(wanted) = wanted.filter(|_| freed != before) else {
            if freed != before {
                // Now would be too early: the view does not know yet what is gone, and would keep it for good.
                let seq = core.state.next_seq.saturating_sub(1);
                core.compaction.wanted = Some(Wanted { freed, seq, noticed: now });
            } else if in_view + log_bytes >= limit / 10 * retention::PUBLISHERS_TENTHS {
                self.release_oldest_holding(core, "what fills the disk (limits.disk-bytes)");
            }
            return;
        };
        // Transactions that do not touch the view do not move it on by themselves.
        let has_heard = view.applied() >= wanted.seq || now.since(wanted.noticed) >= HEARD_AFTER;
        if has_heard && now.since(ended) >= pause {
            core.compaction = Compaction { began: now, ended: now, freed: wanted.freed, wanted: None };
            view.compact();
        }
    }

    /// Releases the detached subscription that was detached first, of those that have parked events or dead letters.
    fn release_oldest_holding(self: &Arc<Self>, core: &mut Core, what: &str) -> bool {
        let holds = |sub: &SubState| !(sub.progress.parked.is_empty() && sub.progress.dead.is_empty());
        let detached = core.state.subs.iter().filter(|(_, sub)| holds(sub));
        let oldest = detached.filter_map(|(id, sub)| Some((sub.detached_since?, *id, sub.name.clone()))).min();
        let Some((_, id, name)) = oldest else { return false };
        tracing::warn!(
            subscription = name,
            "released a detached subscription, whose parked events and dead letters are part of {what}"
        );
        self.forget_locked(core, id);
        true
    }

    /// The same in memory, where detached subscriptions hold parked events and dead letters: the oldest goes first.
    fn make_room_in_memory(self: &Arc<Self>, core: &mut Core) {
        let limit = self.limits.memory_bytes / 10 * retention::PUBLISHERS_TENTHS as usize;
        while core.kept_bytes() >= limit {
            if !self.release_oldest_holding(core, "what fills the memory (limits.memory-bytes)") {
                return;
            }
        }
    }

    /// Releases subscriptions that nobody came back for. One of which something was settled since is in use, whatever
    /// was said of its service.
    fn expire_detached(self: &Arc<Self>, core: &mut Core, now: Timestamp) {
        let used = &core.used;
        let last = |id: &SubId, since: Timestamp| used.get(id).copied().map_or(since, |at| at.max(since));
        let is_over = |id: &SubId, since: Timestamp| now.since(last(id, since)) >= DETACHED_FOR;
        let expired: Vec<SubId> = core
            .state
            .subs
            .iter()
            .filter(|(id, sub)| sub.detached_since.is_some_and(|since| is_over(id, since)))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.forget_locked(core, id);
        }
    }

    pub(super) fn forget_locked(self: &Arc<Self>, core: &mut Core, id: SubId) {
        if let (Some(kept), Some(sub)) = (&mut core.kept, core.state.subs.get(&id)) {
            for &offset in sub.progress.parked.keys().chain(sub.progress.dead.keys()) {
                kept.release(offset);
            }
        }
        core.used.remove(&id);
        self.change_sub(core, SubChange::Forgotten { id });
    }
}
