//! What every engine has to do, as tests that each engine runs.
//!
//! Role: the contract of [`crate::Engine`] in executable form. An engine's test calls [`run`] with a [`Fixture`]; what the
//! engine says it cannot do ([`crate::Capabilities`]) is left out. Each check opens an engine of its own. The checks are
//! in `log` (events and their order), `subscriptions` (positions, parked events, dead letters), `moves` (beginnings and
//! replay), `effects` (transactions and key-value), `dedup` and `expiry`.

mod dedup;
mod effects;
mod expiry;
mod log;
mod moves;
mod subscriptions;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use busway_types::{
    Attempt, Batch, Draft, Effects, Event, EventId, Key, KvRead, KvWrite, Limits, Logged, Offset, Ordering, Parked,
    RetryPolicy, ServiceName, Settle, Settlement, StartAt, SubId, SubscriptionSpec, Timestamp, Verdict,
};
use bytes::Bytes;

use crate::{Engine, EngineError, Epoch, KvSelect, Partition, Settled, Sink};

/// Gives engines to test.
pub trait Fixture {
    /// An engine with nothing in it and these limits, whose clock stands at [`NOW`].
    fn limited(&self, limits: Limits) -> Arc<dyn Engine>;
    /// The same, with the default limits.
    fn fresh(&self) -> Arc<dyn Engine> {
        self.limited(Limits::default())
    }
    /// The engine that was closed last, opened again; none when it keeps nothing.
    fn reopen(&self) -> Option<Arc<dyn Engine>>;
}

/// The time at which engines under test live.
pub const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Remembers what an engine reports.
#[derive(Default)]
struct Seen {
    epoch: Mutex<Epoch>,
    events: Mutex<Vec<Logged>>,
    settled: Mutex<Vec<Settled>>,
    delayed: Mutex<Vec<Timestamp>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for Seen {
    fn assigned(&self, _: Partition, epoch: Epoch, _: Offset) {
        *lock(&self.epoch) = epoch;
    }
    fn appended(&self, _: Partition, batch: Batch) {
        let logged = batch.events.iter().enumerate();
        let logged = logged.map(|(i, event)| Logged { offset: batch.first + i as u64, event: Arc::clone(event) });
        lock(&self.events).extend(logged);
    }
    fn delayed(&self, _: Partition, due: Timestamp) {
        lock(&self.delayed).push(due);
    }
    fn settled(&self, _: Partition, settled: Settled) {
        lock(&self.settled).push(settled);
    }
    fn revoked(&self, _: Partition) {}
    fn failed(&self, error: EngineError) {
        panic!("the engine failed: {error}");
    }
}

struct Bench {
    engine: Arc<dyn Engine>,
    seen: Arc<Seen>,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(engine: Arc<dyn Engine>) -> Self {
        let seen = Arc::new(Seen::default());
        engine.start(Arc::clone(&seen) as Arc<dyn Sink>).expect("the engine starts");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { engine, seen, runtime }
    }

    fn epoch(&self) -> Epoch {
        *lock(&self.seen.epoch)
    }

    fn publish(&self, events: Vec<Event>) -> Vec<busway_types::Receipt> {
        self.try_publish(events).expect("published")
    }

    fn try_publish(&self, events: Vec<Event>) -> Result<Vec<busway_types::Receipt>, EngineError> {
        let events = events.into_iter().map(Arc::new).collect();
        self.runtime.block_on(self.engine.publish(events))
    }

    fn subscribe(&self, name: &str, start: StartAt) -> (SubId, busway_types::SubscriptionState) {
        self.engine.subscribe(0, self.epoch(), &spec(name, start)).expect("subscribed")
    }

    fn settle(&self, sub: SubId, cursor: Offset, settles: Vec<Settle>) -> Vec<Offset> {
        let token = lock(&self.seen.settled).len() as u64 + 1;
        self.engine.settle(0, self.epoch(), Settlement { token, sub, cursor, settles }).expect("settled");
        let answered = lock(&self.seen.settled);
        let answer = answered.iter().find(|s| s.token == token).expect("every settlement is answered");
        answer.conflicts.clone()
    }

    fn state(&self, sub: SubId) -> busway_types::SubscriptionState {
        let known = self.engine.subscriptions().into_iter().find(|known| known.id == sub);
        known.expect("a known subscription").state
    }

    fn value(&self, service: &ServiceName, key: &str) -> Option<Bytes> {
        self.engine.kv_get(service, key).expect("read").0
    }

    fn keys(&self, service: &ServiceName, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let keys = self.engine.kv_keys(service, &KvSelect { prefix, after, limit }).expect("listed");
        keys.into_iter().map(String::from).collect()
    }

    fn offsets(&self) -> Vec<Offset> {
        lock(&self.seen.events).iter().map(|logged| logged.offset).collect()
    }

    fn close(self) {
        self.engine.close().expect("the engine closes");
    }
}

/// A subscription of `t.>` for a service of the same name.
pub fn spec(name: &str, start: StartAt) -> SubscriptionSpec {
    SubscriptionSpec {
        name: name.to_owned(),
        service: name.parse().expect("a name"),
        patterns: vec!["t.>".parse().expect("a pattern")],
        ordering: Ordering::Key,
        retry: RetryPolicy::default(),
        concurrency: 1,
        start,
        own_events: false,
        may_publish: true,
    }
}

/// An event with everything in it.
pub fn event(number: u128, data: &[u8]) -> Event {
    let mut draft = Draft::new("t.a".parse().expect("a topic"), Bytes::copy_from_slice(data));
    draft.key = Some(Key::stored(&format!("key-{}", number % 3)));
    draft.headers = vec![("name".into(), "välue".into()), ("name".into(), String::new().into())];
    draft.content_type = Some("text/plain".into());
    draft.causality.cause = Some(EventId::from_u128(number + 1_000));
    draft.causality.source = Some("source".parse().expect("a name"));
    draft.causality.correlation = Some("about".into());
    draft.causality.traceparent = Some("00-trace".into());
    draft.causality.hops = 3;
    draft.admit(EventId::from_u128(number), NOW, &Limits::default()).expect("a valid event")
}

fn events(count: u128) -> Vec<Event> {
    (0..count).map(|number| event(number, format!("event {number}").as_bytes())).collect()
}

fn settle(offset: Offset, verdict: Verdict) -> Settle {
    Settle { offset, group: None, event: None, verdict }
}

/// An acknowledgement with effects.
pub fn ack(offset: Offset, effects: Effects) -> Settle {
    settle(offset, Verdict::Acked(Some(Box::new(effects))))
}

/// A write of one key.
pub fn set(key: &str, value: &'static str) -> KvWrite {
    KvWrite::Set { key: key.into(), value: Bytes::from_static(value.as_bytes()) }
}

fn read(key: &str, version: Option<u64>) -> KvRead {
    KvRead { key: key.into(), version, own: version.is_none() }
}

/// An acknowledgement.
pub fn acked(offset: Offset) -> Settle {
    settle(offset, Verdict::Acked(None))
}

fn parked(offset: Offset, body: &Event) -> Settle {
    let parked = Parked {
        offset,
        due: Some(NOW.after(Duration::from_secs(9))),
        attempts: vec![Attempt { time: NOW, error: "no luck".to_owned() }],
    };
    Settle { event: Some(Arc::new(body.clone())), ..settle(offset, Verdict::Parked(parked)) }
}

/// Runs every check that the engine's capabilities allow.
pub fn run(fixture: &dyn Fixture) {
    log::appends_densely_and_gives_back_the_very_events(fixture);
    log::holds_back_delayed_events(fixture);
    log::bounds_what_is_delayed(fixture);
    log::finds_events_by_id(fixture);
    subscriptions::refuses_a_stale_epoch(fixture);
    subscriptions::keeps_positions_by_name(fixture);
    subscriptions::keeps_the_settings_of_the_newest_deployment(fixture);
    subscriptions::keeps_parked_events_and_dead_letters(fixture);
    subscriptions::detaches_and_forgets(fixture);
    subscriptions::survives_being_closed(fixture);
    subscriptions::advances_positions(fixture);
    subscriptions::releases_what_was_detached_for_a_day(fixture);
    subscriptions::answers_settlements_of_what_was_forgotten(fixture);
    subscriptions::keeps_what_is_in_use(fixture);
    subscriptions::tells_how_much_room_there_is(fixture);
    moves::delivers_a_part_again(fixture);
    moves::starts_at_a_time(fixture);
    moves::tells_a_journey(fixture);
    effects::commits_acknowledgement_publications_and_writes_together(fixture);
    effects::leaves_out_what_read_something_old(fixture);
    effects::leaves_out_what_read_a_sum_over_something_old(fixture);
    effects::writes_outside_of_deliveries(fixture);
    effects::leaves_out_what_listed_other_keys(fixture);
    effects::writes_from_outside_only_over_the_expected(fixture);
    dedup::run(fixture);
    expiry::run(fixture);
}
