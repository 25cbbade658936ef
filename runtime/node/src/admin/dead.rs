//! Dead letters: list, show, give back, drop.

use std::collections::BTreeMap;

use busway_dispatch::Input;
use busway_engine::KnownSubscription;
use busway_gateway::api::{ApiError, DeadChanged, DeadDetail, DeadEntry, DeadFilter, DeadPage, Envelope};
use busway_types::{DeadLetter, EventId, Logged, Offset, Settle, Settlement, SubId, Verdict};

use crate::driver::{Event, PARTITION};
use crate::inner::Inner;

/// What to do with dead letters.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Retry,
    Drop,
}

struct Found {
    known: KnownSubscription,
    letter: DeadLetter,
    logged: Option<Logged>,
}

/// Dead letters that the filter selects, by time ascending, with their events.
fn find(inner: &Inner, filter: &DeadFilter) -> Result<Vec<Found>, ApiError> {
    let mut found = Vec::new();
    for mut known in inner.engine.subscriptions() {
        let dead = std::mem::take(&mut known.state.dead);
        let offsets: Vec<Offset> = dead.iter().map(|letter| letter.offset).collect();
        let events = inner.patiently(|| inner.engine.fetch(PARTITION, &offsets)).map_err(super::failed)?;
        let mut events: BTreeMap<Offset, Logged> = events.into_iter().map(|logged| (logged.offset, logged)).collect();
        for letter in dead {
            let logged = events.remove(&letter.offset);
            let event = logged.as_ref().map(|logged| &*logged.event);
            if filter.selects(&known.service, &letter, event) {
                let known = KnownSubscription { state: busway_types::SubscriptionState::default(), ..known.clone() };
                found.push(Found { known, letter, logged });
            }
        }
    }
    found.sort_by_key(|f| (f.letter.time, f.letter.offset));
    Ok(found)
}

fn last_error(letter: &DeadLetter) -> String {
    letter.attempts.last().map(|attempt| attempt.error.clone()).unwrap_or_default()
}

pub(super) fn list(inner: &Inner, filter: &DeadFilter) -> Result<DeadPage, ApiError> {
    let found = find(inner, filter)?;
    let total = found.len();
    let limit = filter.limit.unwrap_or(DeadFilter::LIST_LIMIT).min(DeadFilter::LIST_LIMIT);
    let letters = found.into_iter().filter_map(|Found { known, letter, logged }| {
        let Logged { offset, event } = logged?;
        Some(DeadEntry {
            id: event.id,
            offset,
            topic: event.topic.clone(),
            key: event.key.as_ref().map(|key| key.as_str().to_owned()),
            subscription: known.name,
            service: known.service,
            reason: letter.reason,
            time_ms: letter.time,
            attempts: letter.attempts.len(),
            error: last_error(&letter),
        })
    });
    Ok(DeadPage { letters: letters.take(limit).collect(), total })
}

pub(super) fn show(inner: &Inner, id: EventId) -> Result<Vec<DeadDetail>, ApiError> {
    let found = find(inner, &DeadFilter { id: Some(id), ..DeadFilter::default() })?;
    if found.is_empty() {
        return Err(ApiError::not_found(format!(
            "no dead letter of event {id}; `busway dead list` shows what there is"
        )));
    }
    let details = found.into_iter().filter_map(|Found { known, letter, logged }| {
        Some(DeadDetail {
            subscription: known.name,
            service: known.service,
            reason: letter.reason,
            time_ms: letter.time,
            attempts: letter.attempts,
            event: Envelope::from(&logged?),
        })
    });
    Ok(details.collect())
}

pub(super) async fn change(inner: &Inner, filter: &DeadFilter, change: Change) -> Result<DeadChanged, ApiError> {
    let mut by_sub: BTreeMap<SubId, (bool, Vec<Offset>)> = BTreeMap::new();
    let mut changed = 0;
    for found in find(inner, filter)?.into_iter().take(filter.limit.unwrap_or(usize::MAX)) {
        let entry = by_sub.entry(found.known.id).or_insert((found.known.detached_since.is_some(), Vec::new()));
        entry.1.push(found.letter.offset);
        changed += 1;
    }
    for (sub, (detached, mut offsets)) in by_sub {
        offsets.sort_unstable();
        if detached {
            settle_detached(inner, sub, offsets, change)?;
            continue;
        }
        let input = match change {
            Change::Retry => Input::Revive { sub, offsets },
            Change::Drop => Input::Drop { sub, offsets },
        };
        inner.driver.inbox.push(Event::Machine(input));
    }
    // The answer promises that it is done: wait until the driver has decided and the engine has it safe.
    inner.driver.stats().await;
    inner.engine.flush().await.map_err(super::failed)?;
    Ok(DeadChanged { changed })
}

/// A subscription that no service is attached to has no machine: its dead letters are settled directly.
fn settle_detached(inner: &Inner, sub: SubId, offsets: Vec<Offset>, change: Change) -> Result<(), ApiError> {
    let verdict = match change {
        Change::Retry => Verdict::Revived,
        Change::Drop => Verdict::Dropped,
    };
    let settle = |offset| Settle { offset, group: None, event: None, verdict: verdict.clone() };
    let settles = offsets.into_iter().map(settle).collect();
    let settlement = Settlement { token: u64::MAX, sub, cursor: 0, settles };
    inner.engine.settle(PARTITION, inner.epoch(), settlement).map_err(super::failed)
}
