//! `replay`: delivers a part of the log again. `forget`: lets go of what a service left.

use std::sync::Arc;
use std::time::Duration;

use busway_engine::{EngineStatus, KnownSubscription, KvSelect, ReadRequest};
use busway_gateway::api::{ApiError, ForgetRequest, Forgotten, ReplayReply, ReplayRequest, TailFrom};
use busway_types::{Event, KvWrite, Offset, Pattern, Replay, ServiceName, SubscriptionState};
use tokio::sync::oneshot;

use crate::driver::{self, PARTITION};
use crate::inner::Inner;

/// How long counting may take; what is beyond it stays uncounted.
const COUNT_FOR: Duration = Duration::from_secs(5);
/// How long to wait for what is in flight.
const DRAIN_FOR: Duration = Duration::from_secs(20);
/// Keys that are deleted in one transaction.
const CLEARED_AT_ONCE: usize = 1_000;
const READ_EVENTS: usize = 4_096;
const READ_BYTES: usize = 8 * 1024 * 1024;

/// What a subscription selects now.
struct Selection {
    patterns: Arc<[Pattern]>,
    /// Its service, when it does not receive what that publishes.
    not_from: Option<ServiceName>,
}

pub(super) async fn replay(inner: &Arc<Inner>, request: ReplayRequest) -> Result<ReplayReply, ApiError> {
    let known = find(inner, &request.service)?;
    let status = inner.engine.status();
    let replay = part(inner, &request, &status)?;
    let state = known.state.clone();
    let within = |offset: &Offset| (replay.from..replay.to).contains(offset);
    let parked = state.parked.iter().filter(|parked| within(&parked.offset)).count();
    let dead = state.dead.iter().filter(|letter| within(&letter.offset)).count();
    let generation = state.generation;
    let (counting, selection) = (Arc::clone(inner), selection(inner, &known));
    let counted = tokio::task::spawn_blocking(move || {
        selection.map(|selection| count(&counting, &selection, &state, &replay)).transpose()
    });
    let counted = counted.await.map_err(|panic| ApiError::Failed { detail: panic.to_string() })??;
    let mut reply = ReplayReply {
        subscription: known.name,
        service: known.service,
        from: replay.from,
        to: replay.to,
        events: counted.map(|(events, _)| events),
        counted_to: counted.map_or(replay.from, |(_, to)| to),
        parked,
        dead,
        oldest: status.oldest,
        moved: false,
        generation,
    };
    if !request.dry_run {
        let (moved, generation) = ask(inner, known.id, replay).await?;
        (reply.from, reply.to, reply.generation, reply.moved) = (moved.from, moved.to, generation, true);
        inner.engine.flush().await.map_err(super::failed)?;
    }
    Ok(reply)
}

pub(super) async fn forget(inner: &Inner, request: ForgetRequest) -> Result<Forgotten, ApiError> {
    let ForgetRequest { subscription: name, key_value } = request;
    let known = inner.engine.subscriptions().into_iter().find(|known| known.name == name);
    let service = match &known {
        Some(known) => Some(known.service.clone()),
        // A service that never subscribed may have stored something.
        None => name.parse::<ServiceName>().ok().filter(|service| key_value && inner.engine.kv_bytes(service) > 0),
    };
    let Some(service) = service else {
        return Err(ApiError::not_found(format!(
            "no subscription `{name}` is known here; `busway status` lists those that are detached"
        )));
    };
    let attached = || {
        let detail = format!("a service is attached to `{name}`; remove the service first, then forget what it left");
        Err(ApiError::Conflict { detail })
    };
    if key_value && inner.services.get(&service).is_some() {
        return attached();
    }
    let mut forgotten = Forgotten { subscription: name.clone(), parked: 0, dead: 0, lag: 0, keys: 0 };
    if let Some(known) = known {
        if known.detached_since.is_none() || !inner.engine.forget(&name).map_err(super::failed)? {
            return attached();
        }
        let lag = inner.engine.status().head.saturating_sub(known.state.cursor);
        let (parked, dead) = (known.state.parked.len(), known.state.dead.len());
        forgotten = Forgotten { parked, dead, lag, ..forgotten };
    }
    if key_value {
        forgotten.keys = clear(inner, &service).await?;
    }
    inner.engine.flush().await.map_err(super::failed)?;
    Ok(forgotten)
}

/// Deletes the key-value of a service that does not run, a page at a time; gives how many keys there were.
async fn clear(inner: &Inner, service: &ServiceName) -> Result<u64, ApiError> {
    let page = KvSelect { prefix: "", after: None, limit: CLEARED_AT_ONCE };
    let mut cleared = 0;
    loop {
        let keys = inner.engine.kv_keys(service, &page).map_err(super::failed)?;
        if keys.is_empty() {
            return Ok(cleared);
        }
        cleared += keys.len() as u64;
        let deletes = keys.into_iter().map(|key| KvWrite::Delete { key }).collect();
        inner.engine.kv_write(service, Vec::new(), deletes).await.map_err(super::failed)?;
    }
}

async fn ask(inner: &Inner, sub: busway_types::SubId, replay: Replay) -> Result<(Replay, u32), ApiError> {
    let (done, answer) = oneshot::channel();
    inner.driver.inbox.push(driver::Event::Replay { sub, replay, done });
    match tokio::time::timeout(DRAIN_FOR, answer).await {
        Ok(Ok(moved)) => moved.map_err(|why| ApiError::Conflict { detail: why.to_string() }),
        Ok(Err(_)) => Err(ApiError::Conflict { detail: "its service was removed meanwhile; try again".to_owned() }),
        Err(_) => Err(ApiError::TimedOut {
            detail: format!("what is in flight did not end within {DRAIN_FOR:?}; nothing was moved, try again"),
        }),
    }
}

/// The subscription of this name, else the only one of the service of this name.
fn find(inner: &Inner, name: &str) -> Result<KnownSubscription, ApiError> {
    let mut known = inner.engine.subscriptions();
    if let Some(at) = known.iter().position(|known| known.name == name) {
        return Ok(known.swap_remove(at));
    }
    known.retain(|known| known.service.as_str() == name);
    if known.len() > 1 {
        let names: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
        let detail = format!("`{name}` has several subscriptions; say which one: {}", names.join(", "));
        return Err(ApiError::Conflict { detail });
    }
    known.pop().ok_or_else(|| {
        ApiError::not_found(format!(
            "`{name}` has no subscription here; `busway status` lists services and what is detached"
        ))
    })
}

/// The part that is meant.
fn part(inner: &Inner, request: &ReplayRequest, status: &EngineStatus) -> Result<Replay, ApiError> {
    let place = |from| match from {
        TailFrom::Start => Ok(status.oldest),
        TailFrom::Now => Ok(status.head),
        TailFrom::Offset(offset) => Ok(offset),
        TailFrom::Time(time) => inner.patiently(|| inner.engine.offset_at(PARTITION, time)).map_err(super::failed),
    };
    let (from, to) = (place(request.from)?, place(request.to.unwrap_or(TailFrom::Now))?);
    if from < status.oldest && !inner.engine.capabilities().replay {
        let detail = format!(
            "event {from} is no longer kept: a bus in memory keeps its newest events only (limits.recent-bytes), the \
             oldest is {oldest}; ask for --from {oldest} or later, or run the bus with --data",
            oldest = status.oldest
        );
        return Err(ApiError::Conflict { detail });
    }
    let (from, to) = (from.max(status.oldest), to.min(status.head));
    if from >= to {
        let detail = format!(
            "nothing lies between {from} and {to}; events {} to {} are kept, give a place before the head",
            status.oldest, status.head
        );
        return Err(ApiError::Conflict { detail });
    }
    Ok(Replay { from, to, dead: request.dead })
}

/// What a subscription selects; not known while its service is gone.
fn selection(inner: &Inner, known: &KnownSubscription) -> Option<Selection> {
    if let Some(patterns) = inner.bridges.patterns(&known.service) {
        return Some(Selection { patterns: patterns.into(), not_from: Some(known.service.clone()) });
    }
    let service = inner.services.get(&known.service)?;
    let handler = service.handler_of(known.id)?;
    let not_from = (!service.config.own_events).then(|| known.service.clone());
    Some(Selection { patterns: handler.patterns.into(), not_from })
}

/// Whether an offset is settled now, and so would be open again.
fn is_open_again(state: &SubscriptionState, offset: Offset, dead: bool) -> bool {
    let is_parked = state.parked.binary_search_by_key(&offset, |parked| parked.offset).is_ok();
    let is_dead = state.dead.binary_search_by_key(&offset, |letter| letter.offset).is_ok();
    state.is_over(offset) && !is_parked && (dead || !is_dead)
}

/// Counts what would be delivered again, and says how far it came.
fn count(
    inner: &Inner,
    selection: &Selection,
    state: &SubscriptionState,
    replay: &Replay,
) -> Result<(u64, Offset), ApiError> {
    let began = inner.clock.monotonic_ns();
    let selects = |event: &Event| selection.not_from.is_none() || event.causality.source != selection.not_from;
    let (mut events, mut next) = (0, replay.from);
    while next < replay.to && Duration::from_nanos(inner.clock.monotonic_ns() - began) < COUNT_FOR {
        let patterns = Arc::clone(&selection.patterns);
        let request = ReadRequest { from: next, patterns, max_events: READ_EVENTS, max_bytes: READ_BYTES };
        let read = inner.engine.read(PARTITION, &request).map_err(super::failed)?;
        let again = read.events.iter().filter(|logged| {
            logged.offset < replay.to && selects(&logged.event) && is_open_again(state, logged.offset, replay.dead)
        });
        events += again.count() as u64;
        if read.next <= next {
            break;
        }
        next = read.next;
    }
    Ok((events, next.min(replay.to)))
}
