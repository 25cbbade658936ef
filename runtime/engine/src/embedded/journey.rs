//! Where an event came from and what became of it.
//!
//! Role: finds effects of events and what was settled about them, for people. A bus on disk asks the indexes of its log
//! and reads its settlements; one in memory knows its newest events and no past settlements.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use busway_log::SettleRecord;
use busway_types::{EventId, Logged, Offset};

use super::Embedded;
use crate::{EngineError, Handled, Handling, Handlings, ReadRequest};

impl Embedded {
    /// The first event from `from` on that one of `causes` caused.
    pub(super) fn find_caused(&self, causes: &[EventId], from: Offset) -> Result<Option<Logged>, EngineError> {
        if let Some(log) = &self.shared.log {
            let found = log.caused(causes, from)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let core = self.shared.lock();
        let request = ReadRequest { from, patterns: Arc::from([]), max_events: usize::MAX, max_bytes: usize::MAX };
        let newest = core.recent.read(&request, core.state.next_offset).events;
        let is_caused = |logged: &Logged| logged.event.causality.cause.is_some_and(|cause| causes.contains(&cause));
        // Events that wait or were given up are kept longer than their neighbours.
        let kept = core.kept.iter().flat_map(super::kept::Kept::iter).filter(|logged| logged.offset >= from);
        Ok(kept.chain(newest).filter(is_caused).min_by_key(|logged| logged.offset))
    }

    /// What the settlements in the log say of these events.
    pub(super) fn find_handled(
        &self,
        offsets: &BTreeSet<Offset>,
        within: Duration,
    ) -> Result<Option<Handlings>, EngineError> {
        let (Some(log), Some(first)) = (&self.shared.log, offsets.first()) else { return Ok(None) };
        let clock = &self.shared.clock;
        let began = clock.monotonic_ns();
        let mut steps = Vec::new();
        let ended = log.settlements(*first, &mut |record| {
            if let Some(record) = record {
                take(record, offsets, &mut steps);
            }
            let taken = Duration::from_nanos(clock.monotonic_ns().saturating_sub(began));
            if taken < within { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(Some(Handlings { steps, complete: ended.is_continue() }))
    }
}

/// Takes out of a settlement what is about these events.
fn take(record: SettleRecord, offsets: &BTreeSet<Offset>, steps: &mut Vec<Handled>) {
    let SettleRecord { sub, cursor: _, acked, parked, dead, revived, dropped, time, expired } = record;
    let mut note = |offset: Offset, what: Handling| {
        if offsets.contains(&offset) {
            steps.push(Handled { offset, sub, time, what });
        }
    };
    for offset in acked {
        note(offset, if expired.contains(&offset) { Handling::Expired } else { Handling::Acked });
    }
    for parked in parked {
        note(parked.offset, Handling::Parked(parked));
    }
    for letter in dead {
        note(letter.offset, Handling::Dead(letter));
    }
    for offset in revived {
        note(offset, Handling::Revived);
    }
    for offset in dropped {
        note(offset, Handling::Dropped);
    }
}
