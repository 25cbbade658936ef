//! Where a subscription begins, and moving it back.
//!
//! Role: finds the place of a time, and has a part of the log opened again. Invariant: a subscription is never moved to
//! events that are gone without its caller being told.

use std::sync::Arc;

use busway_log::SubChange;
use busway_types::{Event, Offset, Replay, StartAt, SubId, SubscriptionSpec, Timestamp};

use super::Embedded;
use super::core::Core;
use crate::{Engine, EngineError, ReadRequest, Replayed};

/// When an event came into the log, as far as it says: a delayed one not before its time.
fn arrived(event: &Event) -> Timestamp {
    event.not_before.map_or(event.time, |at| at.max(event.time))
}

impl Embedded {
    /// A binary search over what is kept.
    pub(super) fn find_time(&self, time: Timestamp) -> Result<Offset, EngineError> {
        let (mut low, mut high) = {
            let core = self.shared.lock();
            (self.oldest(&core), core.state.next_offset)
        };
        while low < high {
            let middle = low + (high - low) / 2;
            let request = ReadRequest { from: middle, patterns: Arc::from([]), max_events: 1, max_bytes: 1 };
            match self.read(0, &request)?.events.first() {
                Some(logged) if arrived(&logged.event) < time => low = logged.offset + 1,
                _ => high = middle,
            }
        }
        Ok(low)
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
