//! Running one chunk.
//!
//! Role: gives the deliveries of a chunk to a guest one after the other, each a transaction of its own, and decides
//! which later ones are void: after a failure those of its key (all when strict, none when unordered), after a trap, a
//! time-out or a full outbox the whole rest. One that expired while it waited here is not given to the guest any more: it goes
//! back as one that was not run, and the dispatcher settles it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use busway_types::{Chunk, Clock, Delivery, DeliveryResult, Event, Key, Ordering, Outcome, Report};
use wasmtime::Store;
use wasmtime::component::TypedFunc;

use super::borrowed::Texts;
use super::sink::Handles;
use super::{LaneStats, Shared};
use crate::bindings::{EventRef, HandleParams, HandleResult};
use crate::invoke::{call_raw, fault, raw};
use crate::linked::Instance;
use crate::settings::Instancing;
use crate::state::{ChunkContext, GuestState};
use crate::typed::{Handled, Warm};

/// How the deliveries of a chunk are given to the guest.
enum Calls<'c> {
    /// As bytes; the arguments, one for each delivery.
    Raw(Vec<EventRef<'c>>),
    /// As typed values, to the handled contract at this place.
    Typed(usize),
}

/// What is called in one instance.
enum Callee<'i, 'c> {
    Raw(&'i [EventRef<'c>], Option<wasmtime::Result<TypedFunc<HandleParams<'c>, HandleResult>>>),
    Typed(Option<(&'i Handled, &'i mut Vec<Warm>)>),
}

impl Callee<'_, '_> {
    /// Gives the delivery at this place to the guest.
    fn call(
        &mut self,
        exports: wasmtime::component::Instance,
        store: &mut Store<GuestState>,
        waits: bool,
        place: usize,
        event: &Event,
    ) -> wasmtime::Result<Outcome> {
        let wrong = |what: String| Err(wasmtime::Error::msg(what));
        match self {
            Self::Raw(calls, Some(Ok(handle))) => call_raw(handle, store, waits, calls[place]),
            Self::Raw(_, Some(Err(error))) => wrong(format!("`handle` has another type: {error:#}")),
            Self::Typed(Some((handled, warm))) => handled.call(exports, store, warm, waits, event),
            Self::Raw(_, None) | Self::Typed(None) => wrong("the component exports no handler for that".into()),
        }
    }
}

/// Which deliveries of a chunk are void.
struct Void<'c> {
    ordering: Ordering,
    keys: Vec<&'c Key>,
    rest: bool,
    /// Tells whether one has expired; none when none of them can.
    clock: Option<&'c dyn Clock>,
}

impl<'c> Void<'c> {
    fn contains(&mut self, event: &'c Event) -> bool {
        // Nearly always nothing is void, and then the event is not looked at.
        if self.rest || (!self.keys.is_empty() && event.key.as_ref().is_some_and(|key| self.keys.contains(&key))) {
            return true;
        }
        let expired = self.clock.is_some_and(|clock| event.expires.is_some() && event.is_expired(clock.now()));
        if expired {
            // What follows it waits until that is settled.
            self.failed(event);
        }
        expired
    }

    fn failed(&mut self, event: &'c Event) {
        match (self.ordering, &event.key) {
            (Ordering::Strict, _) => self.rest = true,
            (Ordering::Key, Some(key)) => self.keys.push(key),
            (Ordering::Key, None) | (Ordering::None, _) => {}
        }
    }
}

/// Runs a chunk to its end, or gives it back when there is no instance for it.
pub(super) fn run(lane: &Shared, idle: Option<Box<Instance>>, chunk: &Arc<Chunk>, reported: &Arc<AtomicUsize>) {
    let host = &lane.linked.host.0;
    let _running = host.ticker.run();
    let clock = &lane.linked.service.clock;
    let Chunk { id, sub, ordering, generation: _, deliveries } = &**chunk;
    let (id, sub, ordering) = (*id, *sub, *ordering);
    let binding = lane.binding(sub);
    let texts = Texts::new(if binding.is_raw() { deliveries } else { &[] });
    let calls = match binding.handles {
        Handles::Raw => Calls::Raw(texts.calls(deliveries)),
        Handles::Contract(place) => Calls::Typed(place),
    };

    let mut tally = Tally { lane, stats: LaneStats::default(), made: 0, gone: 0 };
    let expiring = deliveries.iter().any(|delivery| delivery.logged.event.expires.is_some());
    let expiry = expiring.then_some(&**clock as &dyn Clock);
    let mut void = Void { ordering, keys: Vec::new(), rest: false, clock: expiry };
    let now = clock.monotonic_ns();
    let mut context = ChunkContext::new(chunk.clone(), binding.subscription, lane.sink.clone(), now, reported.clone());
    let per_event = lane.linked.service.settings.instances == Instancing::PerEvent;
    let mut instance = idle;
    let mut next = 0;
    while next < deliveries.len() {
        if void.contains(&deliveries[next].logged.event) {
            context.results.push(skipped(&deliveries[next]));
            tally.stats.skipped += 1;
            next += 1;
            continue;
        }
        let mut current = match instance.take() {
            Some(instance) => instance,
            None => match lane.linked.instantiate(&lane.stop, None) {
                Ok(made) => {
                    tally.made += 1;
                    Box::new(made)
                }
                Err(why) => {
                    lane.sink.instance_failed(&lane.linked.service.settings.name, &why.reason());
                    if next == 0 {
                        lane.sink.lost(sub, id);
                        return;
                    }
                    void.rest = true;
                    continue;
                }
            },
        };
        let until = if per_event { next + 1 } else { deliveries.len() };
        current.store.data_mut().chunk = Some(context);
        let alive = run_on(&mut current, lane, &deliveries[..until], &calls, next, &mut void, &mut tally);
        let state = current.store.data_mut();
        tally.stats.memory_bytes = tally.stats.memory_bytes.max(state.limiter.peak);
        let Some(left) = state.chunk.take() else { return lane.sink.report(panicked(chunk, reported.load(Relaxed))) };
        context = left;
        next = until;
        if alive && !per_event {
            instance = Some(current);
        } else {
            tally.gone += 1;
        }
    }
    drop(tally);
    // The instance goes back before the report, so that whoever acts on that finds it.
    if let Some(instance) = instance {
        lane.keep(instance);
    }
    context.report(true);
}

/// Gives deliveries, from the one at `from` on, to one instance. False when it must not be used again; then the rest is void.
fn run_on<'c>(
    instance: &mut Instance,
    lane: &Shared,
    deliveries: &'c [Delivery],
    calls: &Calls<'c>,
    from: usize,
    void: &mut Void<'c>,
    tally: &mut Tally<'_>,
) -> bool {
    let linked = &lane.linked;
    let most = linked.service.limits.outbox_bytes;
    let exports = instance.exports;
    let store = &mut instance.store;
    let mut callee = match calls {
        Calls::Raw(calls) => Callee::Raw(calls, instance.handle.map(|handle| raw(handle, &mut *store))),
        Calls::Typed(contract) => Callee::Typed(linked.handled.get(*contract).zip(instance.warm.get_mut(*contract))),
    };
    let mut alive = true;
    let mut began = store.data().meter.now();
    store.set_epoch_deadline(1);
    for (place, delivery) in deliveries.iter().enumerate().skip(from) {
        let event = &*delivery.logged.event;
        if void.contains(event) {
            push(store.data_mut(), skipped(delivery));
            tally.stats.skipped += 1;
            continue;
        }
        store.data_mut().begin_delivery(place, delivery.attempt, began);
        let answer = callee.call(exports, store, linked.waits, place, event);
        let state = store.data_mut();
        let now = state.meter.now();
        let busy_ns = state.meter.end(now);
        let outcome = match answer {
            Ok(outcome) => {
                state.output.end();
                outcome
            }
            Err(error) => {
                alive = false;
                void.rest = true;
                fault(&error, state).into_outcome()
            }
        };
        let effects = if outcome == Outcome::Acked {
            state.acknowledge()
        } else {
            void.failed(event);
            state.void_delivery();
            None
        };
        tally.count(&outcome, effects.as_ref().map_or(0, |effects| effects.publishes.len()), busy_ns);
        if let Some(chunk) = &mut state.chunk {
            void.rest |= chunk.outbox_bytes > most;
            chunk.results.push(DeliveryResult { offset: delivery.logged.offset, outcome, effects, busy_ns });
            if linked.waits || linked.asks {
                // A call that waits, outside or for an answer, cannot report for the chunk: nothing is held back from it.
                chunk.report(false);
            } else {
                chunk.report_if_long(now);
            }
        }
        began = now;
    }
    alive
}

fn push(state: &mut GuestState, result: DeliveryResult) {
    if let Some(chunk) = &mut state.chunk {
        chunk.results.push(result);
    }
}

/// What is told of a chunk whose worker panicked after it had reported some deliveries: the next one takes the blame, so
/// that an event which panics the host is not given to it for ever.
pub(super) fn panicked(chunk: &Chunk, reported: usize) -> Report {
    let mut results: Vec<_> = chunk.deliveries.iter().skip(reported).map(skipped).collect();
    if let Some(first) = results.first_mut() {
        let reason = "the host panicked while it ran the handler; this is a bug of busway".into();
        first.outcome = Outcome::Trapped { reason };
    }
    Report { chunk: chunk.id, sub: chunk.sub, results, finished: true }
}

fn skipped(delivery: &Delivery) -> DeliveryResult {
    DeliveryResult { offset: delivery.logged.offset, outcome: Outcome::Skipped, effects: None, busy_ns: 0 }
}

/// The figures of one chunk, added to the lane's when it ends.
struct Tally<'l> {
    lane: &'l Shared,
    stats: LaneStats,
    made: usize,
    gone: usize,
}

impl Tally<'_> {
    fn count(&mut self, outcome: &Outcome, published: usize, busy_ns: u64) {
        let stats = &mut self.stats;
        stats.busy_ns = stats.busy_ns.saturating_add(busy_ns);
        stats.published += published as u64;
        match outcome {
            Outcome::Acked => stats.acked += 1,
            Outcome::Retry { .. } => stats.retried += 1,
            Outcome::Rejected { .. } => stats.rejected += 1,
            Outcome::Trapped { .. } => stats.trapped += 1,
            Outcome::TimedOut { .. } => stats.timed_out += 1,
            Outcome::Skipped => stats.skipped += 1,
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        let mut state = self.lane.lock();
        let sum = &mut state.stats;
        let stats = &self.stats;
        sum.instances = (sum.instances + self.made).saturating_sub(self.gone);
        sum.instances_made += self.made as u64;
        sum.memory_bytes = sum.memory_bytes.max(stats.memory_bytes);
        sum.acked += stats.acked;
        sum.retried += stats.retried;
        sum.rejected += stats.rejected;
        sum.trapped += stats.trapped;
        sum.timed_out += stats.timed_out;
        sum.skipped += stats.skipped;
        sum.published += stats.published;
        sum.busy_ns = sum.busy_ns.saturating_add(stats.busy_ns);
    }
}
