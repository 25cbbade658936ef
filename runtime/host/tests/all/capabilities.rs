//! What guests do beyond computing.

use busway_host::{Grants, ServiceSettings};
use busway_types::{EventId, KvRead, KvWrite, Ordering, Outcome};
use bytes::Bytes;

use crate::support::{Bench, TestBus, settings};

#[test]
fn published_events_leave_with_the_acknowledgement_and_know_their_cause() {
    let bench = Bench::new();
    let results = bench.run(1, Ordering::Key, &[("p1", None), ("f", None), ("p2", None)]);
    assert_eq!(results[1].effects, None, "a failed delivery leaks nothing");
    let event = &results[0].effects.as_ref().expect("effects").publishes[0];
    let input = EventId::from_u128(1_001);
    assert_eq!(event.topic.as_str(), "out.topic");
    assert_eq!(event.data, Bytes::from_static(b"p1"));
    assert_eq!(event.id, EventId::derived(input, "svc", 0, 0));
    assert_eq!(event.causality.cause, Some(input));
    assert_eq!(event.causality.correlation.as_deref(), Some(input.to_string().as_str()));
    assert_eq!(event.causality.source.as_ref().map(AsRef::as_ref), Some("svc"));
    assert_eq!(event.causality.hops, 1);
    assert_eq!(bench.lane.stats().published, 2);
}

#[test]
fn refusals_of_the_bus_reach_the_guest() {
    let bus = TestBus { denied: Some("no grant for `out.topic`".into()), ..TestBus::default() };
    assert_eq!(Bench::with(settings(), bus, 1).reason(1, "p"), "no grant for `out.topic`");
    assert!(Bench::new().reason(1, "b").contains("empty token"));
}

#[test]
fn a_later_delivery_reads_what_an_earlier_one_of_the_chunk_wrote() {
    let bench = Bench::new();
    let results = bench.run(1, Ordering::Key, &[("i", None), ("i", None), ("g", None)]);
    let increment = vec![KvWrite::Increment { key: "counter".into(), by: 1 }];
    for result in &results[..2] {
        let effects = result.effects.as_ref().expect("effects");
        assert_eq!((&effects.writes, effects.reads.is_empty()), (&increment, true));
    }
    assert_eq!(results[2].outcome, Outcome::Rejected { reason: "2".into() });
}

#[test]
fn writes_of_a_failed_delivery_are_void() {
    let bench = Bench::new();
    bench.bus.kv.lock().unwrap().insert("counter".into(), (Bytes::from_static(b"41"), 9));
    let results = bench.run(1, Ordering::None, &[("i", None), ("I", None)]);
    assert!(matches!(results[1].outcome, Outcome::Trapped { .. }));
    // Nothing was committed here, so the counter is still 41.
    assert_eq!(bench.reason(2, "g"), "41");
}

#[test]
fn overwriting_records_no_read_and_text_cannot_be_incremented() {
    let bench = Bench::new();
    let results = bench.run(1, Ordering::None, &[("w!", None), ("i", None)]);
    let effects = results[0].effects.as_ref().expect("effects");
    assert_eq!(effects.reads, [] as [KvRead; 0]);
    assert_eq!(effects.writes, [KvWrite::Set { key: "counter".into(), value: Bytes::from_static(b"w!") }]);
    assert_eq!(
        results[1].outcome,
        Outcome::Rejected { reason: "the value of `counter` is not a decimal integer".into() }
    );
}

#[test]
fn key_value_needs_a_grant() {
    let without = ServiceSettings { grants: Grants::default(), ..settings() };
    let reason = Bench::with(without, TestBus::default(), 1).reason(1, "i");
    assert!(reason.contains("no grant for key-value"), "{reason}");
}

#[test]
fn a_service_with_network_runs_and_still_ends_on_time() {
    let grants = Grants { network: vec!["localhost:1".into()], key_value: true, ..Grants::default() };
    let bench = Bench::with(ServiceSettings { grants, ..settings() }, TestBus::default(), 1);
    assert_eq!(bench.outcomes(1, &[".", "q", "."]), [Outcome::Acked, Outcome::Acked, Outcome::Acked]);
    assert!(bench.reason(2, "z").starts_with("handler ran longer than 500 ms"));
    assert!(bench.reason(3, "l").starts_with("handler ran longer than 500 ms"));
    assert!(bench.reason(4, "t").contains("unreachable"));
    assert_eq!(bench.lane.subscriptions(), Ok(vec!["in.>".to_owned()]));
}
