//! Where a subscription begins, and moving it back.
//!
//! Role: finds the place of a time, and has a part of the log opened again. Invariant: a subscription is never moved to
//! events that are gone without its caller being told.

use std::sync::Arc;

use busway_log::SubChange;
use busway_types::{Offset, Replay, StartAt, SubId, SubscriptionSpec, Timestamp};

use super::Embedded;
use super::core::Core;
use crate::{EngineError, ReadRequest, Replayed};

impl Embedded {
    /// The first kept event that was published at or after `time`; the end when there is none.
    pub(super) fn find_time(&self, time: Timestamp) -> Result<Offset, EngineError> {
        if let Some(log) = &self.shared.log {
            return log.offset_at(time);
        }
        let core = self.shared.lock();
        let request = ReadRequest { from: 0, patterns: Arc::from([]), max_events: usize::MAX, max_bytes: usize::MAX };
        let kept = core.recent.read(&request, core.state.next_offset).events;
        let found = kept.iter().find(|logged| logged.event.time >= time).map(|logged| logged.offset);
        Ok(found.unwrap_or(core.state.next_offset))
    }

    /// Where a subscription begins if it is new; none for the next event.
    pub(super) fn beginning(&self, spec: &SubscriptionSpec) -> Result<Option<Offset>, EngineError> {
        match spec.start {
            StartAt::Now => Ok(None),
            StartAt::Start => Ok(Some(0)),
            // A known one goes on where it was: nothing has to be looked for.
            StartAt::Time(_) if self.shared.lock().state.sub_named(&spec.name).is_some() => Ok(None),
            StartAt::Time(time) => self.find_time(time).map(Some),
        }
    }

    /// Opens a part of the log for a subscription. What is no longer kept cannot be: a bus on disk moves to the oldest
    /// event that is, one in memory refuses, for there the rest goes any moment.
    pub(super) fn reopen(&self, core: &mut Core, id: SubId, replay: &Replay) -> Result<Replayed, EngineError> {
        let (oldest, head) = (self.oldest(core), core.state.next_offset);
        if replay.from < oldest && self.shared.log.is_none() {
            return Err(EngineError::Refused(format!(
                "event {} is no longer kept; a bus in memory keeps its newest events (limits.recent-bytes), the oldest is {oldest}",
                replay.from
            )));
        }
        let from = replay.from.max(oldest).min(head);
        let replay = Replay { from, to: replay.to.clamp(from, head), dead: replay.dead };
        let Some(sub) = core.state.subs.get(&id) else {
            return Err(EngineError::Refused(format!("subscription {} is not known", id.0)));
        };
        let generation = sub.generation.saturating_add(1);
        if let (Some(kept), true) = (&mut core.kept, replay.dead) {
            for (&offset, _) in sub.progress.dead.range(replay.from..replay.to) {
                kept.release(offset);
            }
        }
        self.shared.change_sub(core, SubChange::Moved { id, generation, replay });
        let state = core.state.subs.get(&id).map(busway_log::SubState::snapshot).unwrap_or_default();
        Ok(Replayed { replay, state })
    }
}
