//! `trace`: the journey of an event.
//!
//! Role: follows causes up to the first and effects down to the last, and puts together what the durable state and the
//! record of settlements say of each event in each subscription. Bounded in events and in time; says where it stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use busway_engine::{Handled, Handling, KnownSubscription};
use busway_gateway::api::{ApiError, Trace, TraceDelivery, TraceEvent, TraceOutcome, TraceQuery};
use busway_types::{Event, EventId, Logged, Offset, Pattern, SubId};

use crate::driver::PARTITION;
use crate::inner::Inner;

/// How long to look for effects, and how long for what became of them.
const LOOK_FOR: Duration = Duration::from_secs(10);
/// The longest way up: as many handlers one after the other as limits allow.
const LONGEST_WAY: usize = 256;

pub(super) async fn trace(inner: &Arc<Inner>, id: EventId, query: TraceQuery) -> Result<Trace, ApiError> {
    // What is shown must be safe.
    inner.engine.flush().await.map_err(super::failed)?;
    let inner = Arc::clone(inner);
    let limit = query.limit.unwrap_or(TraceQuery::LIMIT).clamp(1, TraceQuery::LIMIT);
    let asking = Asking::default();
    let asked = Arc::clone(&asking.0);
    let traced = tokio::task::spawn_blocking(move || follow(&inner, id, limit, &asked)).await;
    traced.map_err(|panic| ApiError::Failed { detail: panic.to_string() })?
}

/// Whether whoever asked has gone: this is dropped with the request, which ends when its connection does.
#[derive(Default)]
struct Asking(Arc<AtomicBool>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Nobody hears this.
fn nobody_asks() -> ApiError {
    ApiError::Failed { detail: "the client went away".to_owned() }
}

fn follow(inner: &Inner, id: EventId, limit: usize, gone: &AtomicBool) -> Result<Trace, ApiError> {
    let safe = inner.engine.safe_head();
    let find = |id| {
        let found = inner.engine.find(id).map_err(super::failed)?;
        Ok::<_, ApiError>(found.filter(|logged| logged.offset < safe))
    };
    let mut first = find(id)?.ok_or_else(|| {
        ApiError::not_found(format!(
            "no event {id} is kept here; it may be of another node, delayed until later, or too old to be kept"
        ))
    })?;
    let mut cause_gone = false;
    for _ in 0..LONGEST_WAY {
        if gone.load(Ordering::Relaxed) {
            return Err(nobody_asks());
        }
        let Some(cause) = first.event.causality.cause else { break };
        let Some(logged) = find(cause)? else {
            cause_gone = true;
            break;
        };
        first = logged;
    }
    let (logged, more) = effects(inner, first, limit, safe, gone)?;
    if gone.load(Ordering::Relaxed) {
        return Err(nobody_asks());
    }
    let offsets: BTreeSet<Offset> = logged.iter().map(|logged| logged.offset).collect();
    let handled = inner.engine.handled(PARTITION, &offsets, LOOK_FOR).map_err(super::failed)?;
    let recorded = handled.is_some();
    let (steps, complete) = handled.map_or((Vec::new(), true), |handled| (handled.steps, handled.complete));
    let book = Book::new(inner, steps);
    let events = logged.iter().map(|logged| event(logged, book.deliveries(logged))).collect();
    Ok(Trace { id, events, cause_gone, more, recorded, complete })
}

/// The first event and everything that came of it, and whether there may be more.
fn effects(
    inner: &Inner,
    first: Logged,
    limit: usize,
    safe: Offset,
    gone: &AtomicBool,
) -> Result<(Vec<Logged>, bool), ApiError> {
    let began = inner.clock.monotonic_ns();
    let (mut ids, mut from) = (vec![first.event.id], first.offset + 1);
    let mut found = vec![first];
    loop {
        let effect = inner.engine.caused(PARTITION, &ids, from).map_err(super::failed)?;
        let Some(effect) = effect.filter(|logged| logged.offset < safe) else { return Ok((found, false)) };
        let taken = Duration::from_nanos(inner.clock.monotonic_ns().saturating_sub(began));
        if gone.load(Ordering::Relaxed) {
            return Err(nobody_asks());
        }
        if found.len() >= limit || taken >= LOOK_FOR {
            return Ok((found, true));
        }
        from = effect.offset + 1;
        ids.push(effect.event.id);
        found.push(effect);
    }
}

fn event(logged: &Logged, deliveries: Vec<TraceDelivery>) -> TraceEvent {
    let Logged { offset, event } = logged;
    TraceEvent {
        offset: *offset,
        id: event.id,
        topic: event.topic.clone(),
        key: event.key.as_ref().map(|key| key.as_str().to_owned()),
        time_ms: event.time,
        source: event.causality.source.clone(),
        cause: event.causality.cause,
        deliveries,
    }
}

/// What is known of subscriptions and of what they did.
struct Book {
    known: Vec<(KnownSubscription, Option<Selection>)>,
    steps: BTreeMap<(Offset, SubId), Vec<Handled>>,
}

/// What a subscription selects; not known while its service is gone.
struct Selection {
    patterns: Vec<Pattern>,
    own_events: bool,
}

impl Book {
    fn new(inner: &Inner, all: Vec<Handled>) -> Self {
        let known = inner.engine.subscriptions().into_iter().map(|known| {
            let service = inner.services.get(&known.service);
            let selection = service.and_then(|service| {
                let handler = service.handler_of(known.id)?;
                Some(Selection { patterns: handler.patterns, own_events: service.config.own_events })
            });
            let bridged = || Some(Selection { patterns: inner.bridges.patterns(&known.service)?, own_events: false });
            let selection = selection.or_else(bridged);
            (known, selection)
        });
        let mut steps: BTreeMap<(Offset, SubId), Vec<Handled>> = BTreeMap::new();
        for step in all {
            steps.entry((step.offset, step.sub)).or_default().push(step);
        }
        Self { known: known.collect(), steps }
    }

    /// What every subscription did with an event.
    fn deliveries(&self, logged: &Logged) -> Vec<TraceDelivery> {
        let here = (logged.offset, SubId(0))..=(logged.offset, SubId(u32::MAX));
        let is_known = |sub: SubId| self.known.iter().any(|(known, _)| known.id == sub);
        let forgotten = self.steps.range(here).filter(|((_, sub), _)| !is_known(*sub)).map(|((_, sub), steps)| {
            let mut delivery = blank(format!("subscription {}, forgotten", sub.0));
            tell(&mut delivery, steps);
            delivery
        });
        let known = self.known.iter().filter_map(|(known, selection)| self.delivery(known, selection.as_ref(), logged));
        known.chain(forgotten).collect()
    }

    fn delivery(
        &self,
        known: &KnownSubscription,
        selection: Option<&Selection>,
        logged: &Logged,
    ) -> Option<TraceDelivery> {
        let offset = logged.offset;
        let mut delivery = TraceDelivery { service: Some(known.service.clone()), ..blank(known.name.clone()) };
        let steps = self.steps.get(&(offset, known.id)).map(Vec::as_slice).unwrap_or_default();
        tell(&mut delivery, steps);
        if let Some(parked) = known.state.parked.iter().find(|parked| parked.offset == offset) {
            told(&mut delivery, &Handling::Parked(parked.clone()), None);
        } else if let Some(letter) = known.state.dead.iter().find(|letter| letter.offset == offset) {
            told(&mut delivery, &Handling::Dead(letter.clone()), None);
        } else if steps.is_empty() && (offset < known.began || !selection?.selects(&logged.event, known)) {
            return None;
        } else if !known.state.is_over(offset) {
            let TraceDelivery { subscription, service, handled, .. } = delivery;
            return Some(TraceDelivery { service, handled, outcome: TraceOutcome::Pending, ..blank(subscription) });
        }
        Some(delivery)
    }
}

impl Selection {
    fn selects(&self, event: &Event, known: &KnownSubscription) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(&event.topic))
            && (self.own_events || event.causality.source.as_ref() != Some(&known.service))
    }
}

fn blank(subscription: String) -> TraceDelivery {
    TraceDelivery {
        subscription,
        service: None,
        outcome: TraceOutcome::Settled,
        time_ms: None,
        attempts: None,
        errors: Vec::new(),
        reason: None,
        due_ms: None,
        handled: 0,
    }
}

/// Takes in what happened, one step after the other.
fn tell(delivery: &mut TraceDelivery, steps: &[Handled]) {
    for step in steps {
        told(delivery, &step.what, step.time);
    }
}

fn told(delivery: &mut TraceDelivery, what: &Handling, time: Option<busway_types::Timestamp>) {
    // After an end everything begins anew: a dead letter went back, or a replay came.
    if delivery.outcome != TraceOutcome::Parked && !matches!(what, Handling::Dropped) {
        delivery.errors.clear();
        delivery.reason = None;
    }
    delivery.due_ms = None;
    delivery.time_ms = time;
    match what {
        Handling::Acked => {
            delivery.outcome = TraceOutcome::Acked;
            delivery.attempts = Some(delivery.errors.len() + 1);
            delivery.handled += 1;
        }
        Handling::Expired => {
            delivery.outcome = TraceOutcome::Expired;
            delivery.attempts = Some(delivery.errors.len());
        }
        Handling::Parked(parked) => {
            delivery.outcome = TraceOutcome::Parked;
            delivery.errors.clone_from(&parked.attempts);
            delivery.attempts = Some(parked.attempts.len());
            delivery.due_ms = parked.due;
            delivery.time_ms = parked.attempts.last().map(|attempt| attempt.time).or(time);
        }
        Handling::Dead(letter) => {
            delivery.outcome = TraceOutcome::Dead;
            delivery.errors.clone_from(&letter.attempts);
            delivery.attempts = Some(letter.attempts.len());
            delivery.reason = Some(letter.reason);
            delivery.time_ms = Some(letter.time);
        }
        Handling::Revived => {
            delivery.outcome = TraceOutcome::Parked;
            delivery.attempts = Some(0);
        }
        Handling::Dropped => delivery.outcome = TraceOutcome::Dropped,
    }
}
