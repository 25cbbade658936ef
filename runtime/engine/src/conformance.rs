//! What every engine has to do, as tests that each engine runs.
//!
//! Role: the contract of [`crate::Engine`] in executable form. An engine's test calls [`run`] with a [`Fixture`]; what the
//! engine says it cannot do ([`crate::Capabilities`]) is left out. Each check opens an engine of its own.

use std::sync::{Arc, Mutex, PoisonError};

use busway_types::{
    Attempt, Batch, DeadReason, Draft, Effects, Event, EventId, Key, KvRead, KvWrite, Limits, Logged, Offset, Ordering,
    Parked, RetryPolicy, Settle, Settlement, StartAt, SubId, SubscriptionSpec, Timestamp, Verdict,
};
use bytes::Bytes;

use crate::{Engine, EngineError, Epoch, Partition, ReadRequest, Settled, Sink};

/// Gives engines to test.
pub trait Fixture {
    /// An engine with nothing in it, whose clock stands at [`NOW`].
    fn fresh(&self) -> Arc<dyn Engine>;
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
        let events = events.into_iter().map(Arc::new).collect();
        self.runtime.block_on(self.engine.publish(events)).expect("published")
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

    fn offsets(&self) -> Vec<Offset> {
        lock(&self.seen.events).iter().map(|logged| logged.offset).collect()
    }

    fn close(self) {
        self.engine.close().expect("the engine closes");
    }
}

fn spec(name: &str, start: StartAt) -> SubscriptionSpec {
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

fn event(number: u128, data: &[u8]) -> Event {
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

fn ack(offset: Offset, effects: Effects) -> Settle {
    settle(offset, Verdict::Acked(Some(Box::new(effects))))
}

fn set(key: &str, value: &'static str) -> KvWrite {
    KvWrite::Set { key: key.into(), value: Bytes::from_static(value.as_bytes()) }
}

fn read(key: &str, version: Option<u64>) -> KvRead {
    KvRead { key: key.into(), version, own: version.is_none() }
}

/// Runs every check that the engine's capabilities allow.
pub fn run(fixture: &dyn Fixture) {
    appends_densely_and_gives_back_the_very_events(fixture);
    refuses_a_stale_epoch(fixture);
    keeps_positions_by_name(fixture);
    commits_acknowledgement_publications_and_writes_together(fixture);
    leaves_out_what_read_something_old(fixture);
    leaves_out_what_read_a_sum_over_something_old(fixture);
    keeps_parked_events_and_dead_letters(fixture);
    holds_back_delayed_events(fixture);
    detaches_and_forgets(fixture);
    survives_being_closed(fixture);
}

fn appends_densely_and_gives_back_the_very_events(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let mut sent = events(5);
    sent.push(event(5, b""));
    sent.push(event(6, &vec![7; 1024 * 1024 - 200]));
    let receipts = bench.publish(sent.clone());
    assert_eq!(receipts.iter().map(|r| r.offset).collect::<Vec<_>>(), (0..7).map(Some).collect::<Vec<_>>());
    assert_eq!(bench.offsets(), (0..7).collect::<Vec<_>>());
    let request = ReadRequest { from: 2, patterns: Arc::from([]), max_events: 100, max_bytes: usize::MAX };
    let read = bench.engine.read(0, &request).expect("read");
    let found: Vec<Event> = read.events.iter().map(|logged| (*logged.event).clone()).collect();
    assert_eq!(found, sent[2..], "what is read must be what was published");
    assert_eq!(read.next, 7);
    let fetched = bench.engine.fetch(0, &[1, 6]).expect("fetched");
    assert_eq!(fetched.iter().map(|l| (*l.event).clone()).collect::<Vec<_>>(), [sent[1].clone(), sent[6].clone()]);
    let by_id = bench.engine.find(EventId::from_u128(4)).expect("looked for");
    assert_eq!(by_id.map(|logged| logged.offset), Some(4));
    assert_eq!(bench.engine.safe_head(), 7, "what was answered is safe");
    bench.close();
}

fn refuses_a_stale_epoch(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let settlement = Settlement { token: 1, sub, cursor: 0, settles: Vec::new() };
    let refused = bench.engine.settle(0, bench.epoch() + 1, settlement);
    assert!(matches!(refused, Err(EngineError::Stale { .. })), "{refused:?}");
    bench.close();
}

fn keeps_positions_by_name(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    bench.publish(events(4));
    let (now, at_now) = bench.subscribe("now", StartAt::Now);
    let (start, at_start) = bench.subscribe("start", StartAt::Start);
    assert_ne!(now, start);
    assert_eq!((at_now.cursor, at_start.cursor), (4, 0));
    bench.settle(start, 1, vec![settle(0, Verdict::Acked(None)), settle(2, Verdict::Acked(None))]);
    let (again, state) = bench.subscribe("start", StartAt::Now);
    assert_eq!(again, start);
    assert_eq!((state.cursor, state.settled), (1, vec![2]));
    bench.close();
}

fn commits_acknowledgement_publications_and_writes_together(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let service = "s".parse().expect("a name");
    bench.publish(events(1));
    let effects = Effects {
        reads: Vec::new(),
        writes: vec![
            set("a", "1"),
            KvWrite::Increment { key: "n".into(), by: 5 },
            KvWrite::Increment { key: "n".into(), by: -2 },
        ],
        publishes: vec![Arc::new(event(77, b"follows"))],
    };
    assert!(bench.settle(sub, 1, vec![ack(0, effects)]).is_empty());
    assert_eq!(bench.offsets(), vec![0, 1], "the publication is appended");
    assert_eq!(lock(&bench.seen.events)[1].event.id, EventId::from_u128(77));
    assert_eq!(bench.engine.kv_get(&service, "a").0.as_deref(), Some(b"1".as_slice()));
    assert_eq!(bench.engine.kv_get(&service, "n").0.as_deref(), Some(b"3".as_slice()));
    assert_eq!(bench.engine.kv_get(&"other".parse().expect("a name"), "a"), (None, 0), "namespaces are separate");
    assert_eq!(bench.state(sub).cursor, 1);
    bench.close();
}

fn leaves_out_what_read_something_old(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let service = "s".parse().expect("a name");
    bench.publish(events(6));
    bench.settle(sub, 1, vec![ack(0, Effects { writes: vec![set("k", "1")], ..Effects::default() })]);
    let (_, version) = bench.engine.kv_get(&service, "k");
    let increment = |v| Effects { reads: vec![read("k", v)], writes: vec![set("k", "2")], ..Effects::default() };
    let grouped = |settle: Settle| Settle { group: Some(9), ..settle };
    let conflicts = bench.settle(
        sub,
        6,
        vec![
            ack(1, increment(Some(version))),
            // Reads what the one before wrote: fine. Reads the old version: a conflict, and the rest of its group is void.
            ack(2, increment(None)),
            grouped(ack(3, increment(Some(version)))),
            grouped(settle(4, Verdict::Acked(None))),
            ack(5, Effects { writes: vec![KvWrite::Increment { key: "n".into(), by: 1 }], ..Effects::default() }),
        ],
    );
    assert_eq!(conflicts, vec![3, 4]);
    let state = bench.state(sub);
    assert_eq!((state.cursor, state.settled), (3, vec![5]), "the cursor waits for what has to run again");
    assert_eq!(bench.engine.kv_get(&service, "n").0.as_deref(), Some(b"1".as_slice()));
    bench.close();
}

/// Reading a sum that an earlier delivery of the chunk incremented rests on the committed value below it.
fn leaves_out_what_read_a_sum_over_something_old(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let service = "s".parse().expect("a name");
    bench.publish(events(3));
    let add = |by| Effects { writes: vec![KvWrite::Increment { key: "n".into(), by }], ..Effects::default() };
    bench.settle(sub, 0, vec![ack(2, add(10))]);
    // Both deliveries ran before that: the second one read the first one's sum over an absent value.
    let sum = KvRead { key: "n".into(), version: Some(0), own: true };
    let doubled = Effects { reads: vec![sum], writes: vec![set("n", "2")], ..Effects::default() };
    let conflicts = bench.settle(sub, 3, vec![ack(0, add(1)), ack(1, doubled)]);
    assert_eq!(conflicts, vec![1], "an increment commutes, what read its sum does not");
    assert_eq!(bench.engine.kv_get(&service, "n").0.as_deref(), Some(b"11".as_slice()));
    bench.close();
}

fn parked(offset: Offset, body: &Event) -> Settle {
    let parked = Parked {
        offset,
        due: Some(NOW.after(std::time::Duration::from_secs(9))),
        attempts: vec![Attempt { time: NOW, error: "no luck".to_owned() }],
    };
    Settle { event: Some(Arc::new(body.clone())), ..settle(offset, Verdict::Parked(parked)) }
}

fn keeps_parked_events_and_dead_letters(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let sent = events(3);
    bench.publish(sent.clone());
    let dead = Verdict::Dead {
        reason: DeadReason::Rejected,
        time: NOW,
        attempts: vec![Attempt { time: NOW, error: "not wanted".to_owned() }],
    };
    let dead = Settle { event: Some(Arc::new(sent[1].clone())), ..settle(1, dead) };
    bench.settle(sub, 3, vec![parked(0, &sent[0]), dead, settle(2, Verdict::Acked(None))]);
    let state = bench.state(sub);
    assert_eq!(state.cursor, 3, "what is parked or dead does not hold the cursor");
    assert_eq!((state.parked.len(), state.dead.len()), (1, 1));
    assert_eq!(state.parked[0].attempts[0].error, "no luck");
    assert_eq!(state.dead[0].reason, DeadReason::Rejected);
    bench.settle(sub, 3, vec![settle(1, Verdict::Revived)]);
    let state = bench.state(sub);
    assert_eq!(state.parked.iter().map(|p| p.offset).collect::<Vec<_>>(), vec![0, 1]);
    assert!(state.parked[1].attempts.is_empty() && state.dead.is_empty());
    let bodies = bench.engine.fetch(0, &[0, 1]).expect("fetched");
    assert_eq!(bodies.len(), 2);
    bench.settle(sub, 3, vec![settle(0, Verdict::Acked(None)), settle(1, Verdict::Acked(None))]);
    assert!(bench.state(sub).parked.is_empty());
    bench.close();
}

fn holds_back_delayed_events(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    if !bench.engine.capabilities().delay {
        return;
    }
    let at = NOW.after(std::time::Duration::from_mins(1));
    let late = Event { not_before: Some(at), ..event(1, b"late") };
    let receipts = bench.publish(vec![late, event(2, b"soon")]);
    assert_eq!(receipts.iter().map(|r| r.offset).collect::<Vec<_>>(), vec![None, Some(0)]);
    assert_eq!(*lock(&bench.seen.delayed), vec![at]);
    let early = bench.engine.tick(Timestamp(at.0 - 1)).expect("ticked");
    assert_eq!((early, bench.offsets()), (Some(at), vec![0]), "not a millisecond early");
    assert_eq!(bench.engine.tick(at).expect("ticked"), None);
    assert_eq!(bench.offsets(), vec![0, 1]);
    assert_eq!(lock(&bench.seen.events)[1].event.data, "late");
    bench.close();
}

fn detaches_and_forgets(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    bench.publish(events(2));
    let (sub, _) = bench.subscribe("s", StartAt::Start);
    assert!(!bench.engine.forget("s").expect("asked"), "an attached subscription is not forgotten");
    bench.settle(sub, 1, vec![settle(0, Verdict::Acked(None))]);
    bench.engine.detach(0, bench.epoch(), sub, NOW).expect("detached");
    let (again, state) = bench.subscribe("s", StartAt::Now);
    assert_eq!((again, state.cursor), (sub, 1), "the position of a detached subscription is kept");
    bench.engine.detach(0, bench.epoch(), sub, NOW).expect("detached");
    assert!(bench.engine.forget("s").expect("asked"));
    let (new, state) = bench.subscribe("s", StartAt::Now);
    assert_ne!(new, sub, "numbers are not used again");
    assert_eq!(state.cursor, 2);
    bench.close();
}

fn survives_being_closed(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    if !bench.engine.capabilities().durable {
        return;
    }
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let sent = events(5);
    bench.publish(sent.clone());
    let late = Event { not_before: Some(NOW.after(std::time::Duration::from_mins(1))), ..event(9, b"late") };
    bench.publish(vec![late]);
    let effects = Effects { writes: vec![set("k", "v")], ..Effects::default() };
    bench.settle(sub, 1, vec![ack(0, effects), settle(2, Verdict::Acked(None)), parked(3, &sent[3])]);
    let before = bench.state(sub);
    bench.close();
    let bench = Bench::new(fixture.reopen().expect("a durable engine can be opened again"));
    assert_eq!(bench.state(sub), before);
    let service = "s".parse().expect("a name");
    assert_eq!(bench.engine.kv_get(&service, "k").0.as_deref(), Some(b"v".as_slice()));
    let request = ReadRequest { from: 0, patterns: Arc::from([]), max_events: 100, max_bytes: usize::MAX };
    let read = bench.engine.read(0, &request).expect("read");
    assert_eq!(read.events.iter().map(|l| (*l.event).clone()).collect::<Vec<_>>(), sent);
    let receipts = bench.publish(vec![event(6, b"next")]);
    assert_eq!(receipts[0].offset, Some(5), "offsets go on");
    bench.engine.tick(NOW.after(std::time::Duration::from_secs(61))).expect("ticked");
    assert_eq!(bench.offsets(), vec![5, 6], "the delayed event survived");
    bench.close();
}
