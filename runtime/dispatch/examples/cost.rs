//! What the machine costs per event: arriving, being delivered, being settled.
//!
//! Run with `cargo run --release -p busway-dispatch --example cost`. Prints nanoseconds per event, the fakes included.

use std::sync::Arc;

use busway_dispatch::{Action, Input, Machine, MachineOptions};
use busway_types::{
    Batch, Clock, DeliveryResult, Draft, Event, EventId, Key, Limits, Ordering, Outcome, Report, RetryPolicy, StartAt,
    SubId, SubscriptionSpec, SubscriptionState, SystemClock, Timestamp,
};

const EVENTS: u64 = 2_000_000;
const BATCH: u64 = 256;

fn event(n: u64, keys: u64) -> Option<Arc<Event>> {
    let mut draft = Draft::new("bench.topic".parse().ok()?, bytes::Bytes::from_static(&[7; 100]));
    if keys > 0 {
        draft.key = Some(Key::stored(&format!("key-{}", n % keys)));
    }
    draft.admit(EventId::from_u128(u128::from(n)), Timestamp(0), &Limits::default()).ok().map(Arc::new)
}

fn spec(name: &str, pattern: &str) -> Option<SubscriptionSpec> {
    Some(SubscriptionSpec {
        name: name.to_owned(),
        service: name.parse().ok()?,
        patterns: vec![pattern.parse().ok()?],
        ordering: Ordering::Key,
        retry: RetryPolicy::default(),
        concurrency: 1,
        start: StartAt::Now,
        own_events: false,
        may_publish: false,
    })
}

fn report(chunk: busway_types::Chunk) -> Input {
    let ack = |delivery: busway_types::Delivery| DeliveryResult {
        offset: delivery.logged.offset,
        outcome: Outcome::Acked,
        effects: None,
        busy_ns: 1_000,
    };
    let results = chunk.deliveries.into_iter().map(ack).collect();
    Input::Report(Report { chunk: chunk.id, sub: chunk.sub, results, finished: true })
}

/// Runs everything that the machine asks for, as an engine and a lane that answer at once.
fn settle_all(machine: &mut Machine, out: &mut Vec<Action>, handled: &mut u64) {
    let mut next = Vec::new();
    while !out.is_empty() {
        for action in out.drain(..) {
            let input = match action {
                Action::Deliver(chunk) => {
                    *handled += chunk.deliveries.len() as u64;
                    report(chunk)
                }
                Action::Settle(settlement) => {
                    let (sub, token) = (settlement.sub, settlement.token);
                    Input::Settled { sub, token, conflicts: Vec::new() }
                }
                _ => continue,
            };
            machine.step(Timestamp(1), input, &mut next);
        }
        std::mem::swap(out, &mut next);
    }
}

fn run(clock: &SystemClock, keys: u64, others: u32) -> Option<(u64, u64)> {
    let mut machine = Machine::new(MachineOptions { limits: Limits::default(), seed: 1, replayable: true });
    let mut out = Vec::new();
    for i in 0..=others {
        let pattern = if i == 0 { "bench.topic".to_owned() } else { format!("other.{i}") };
        let (spec, state) = (spec(&format!("s{i}"), &pattern)?, SubscriptionState::default());
        machine.step(Timestamp(1), Input::Attach { sub: SubId(i), spec, state, head: 0 }, &mut out);
    }
    let events: Option<Vec<Arc<Event>>> = (0..BATCH * 16).map(|n| event(n, keys)).collect();
    let batches: Vec<Arc<Vec<Arc<Event>>>> =
        events?.chunks(BATCH as usize).map(|events| Arc::new(events.to_vec())).collect();
    let (mut handled, mut first) = (0, 0);
    let start = clock.monotonic_ns();
    for events in batches.iter().cycle().take((EVENTS / BATCH) as usize) {
        machine.step(Timestamp(1), Input::Appended(Batch { first, events: Arc::clone(events) }), &mut out);
        first += BATCH;
        settle_all(&mut machine, &mut out, &mut handled);
    }
    Some((clock.monotonic_ns() - start, handled))
}

#[expect(clippy::print_stdout, reason = "a measurement for people")]
fn main() {
    let clock = SystemClock::new();
    for (name, keys, others) in [
        ("no key", 0, 0),
        ("no key, 1,000 other subscriptions", 0, 1_000),
        ("16 keys", 16, 0),
        ("4,096 keys", 4_096, 0),
    ] {
        if let Some((ns, handled)) = run(&clock, keys, others) {
            println!("{name:36} {:>5} ns per event, {handled} events", ns / handled.max(1));
        }
    }
}
