//! Conformance: what deliveries and tasks change, all of it or nothing.

use std::sync::Arc;

use busway_types::{Effects, EventId, KvRead, KvWrite, Settle, StartAt, Verdict};

use super::{Bench, Fixture, ack, event, events, lock, read, set, settle};

pub(super) fn commits_acknowledgement_publications_and_writes_together(fixture: &dyn Fixture) {
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

pub(super) fn leaves_out_what_read_something_old(fixture: &dyn Fixture) {
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
pub(super) fn leaves_out_what_read_a_sum_over_something_old(fixture: &dyn Fixture) {
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

pub(super) fn writes_outside_of_deliveries(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    if !bench.engine.capabilities().key_value {
        return;
    }
    let service = "task".parse().expect("a name");
    let write = |writes| bench.runtime.block_on(bench.engine.kv_write(&service, writes)).expect("written");
    write(vec![set("a", "1"), set("b", "2"), KvWrite::Increment { key: "n".into(), by: 4 }]);
    let (_, before) = bench.engine.kv_get(&service, "a");
    write(vec![set("a", "3"), KvWrite::Delete { key: "b".into() }, KvWrite::Increment { key: "n".into(), by: -1 }]);
    let (value, version) = bench.engine.kv_get(&service, "a");
    assert_eq!(value.as_deref(), Some(b"3".as_slice()));
    assert!(version > before, "a write is a new version: {before}, {version}");
    let all = bench.engine.kv_dump(&service);
    let entries: Vec<_> = all.iter().map(|(key, value)| (key.as_str(), &value[..])).collect();
    assert_eq!(entries, [("a", b"3".as_slice()), ("n", b"3")]);
    assert_eq!(bench.engine.kv_bytes(&service), 4);
    let durable = bench.engine.capabilities().durable;
    bench.close();
    if durable {
        let bench = Bench::new(fixture.reopen().expect("a durable engine can be opened again"));
        assert_eq!(bench.engine.kv_dump(&service), all);
        bench.close();
    }
}
