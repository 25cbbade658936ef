//! Conformance: what deliveries and tasks change, all of it or nothing.

use std::sync::Arc;

use busway_types::{Effects, EventId, KvRead, KvScan, KvWrite, Settle, StartAt, Verdict};

use crate::{EngineError, KvSelect};

use super::{Bench, Fixture, ack, event, events, lock, read, set, settle};

pub(super) fn commits_acknowledgement_publications_and_writes_together(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let service = "s".parse().expect("a name");
    bench.publish(events(1));
    let effects = Effects {
        reads: Vec::new(),
        scans: Vec::new(),
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
    assert_eq!(bench.value(&service, "a").as_deref(), Some(b"1".as_slice()));
    assert_eq!(bench.value(&service, "n").as_deref(), Some(b"3".as_slice()));
    assert_eq!(bench.value(&"other".parse().expect("a name"), "a"), None, "namespaces are separate");
    assert_eq!(bench.state(sub).cursor, 1);
    bench.close();
}

pub(super) fn leaves_out_what_read_something_old(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let service = "s".parse().expect("a name");
    bench.publish(events(6));
    bench.settle(sub, 1, vec![ack(0, Effects { writes: vec![set("k", "1")], ..Effects::default() })]);
    let (_, version) = bench.engine.kv_get(&service, "k").expect("read");
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
    assert_eq!((state.cursor, state.settled), (3, vec![(5, 6)]), "the cursor waits for what has to run again");
    assert_eq!(bench.value(&service, "n").as_deref(), Some(b"1".as_slice()));
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
    assert_eq!(bench.value(&service, "n").as_deref(), Some(b"11".as_slice()));
    bench.close();
}

pub(super) fn writes_outside_of_deliveries(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    if !bench.engine.capabilities().key_value {
        return;
    }
    let service = "task".parse().expect("a name");
    let write = |writes| bench.runtime.block_on(bench.engine.kv_write(&service, Vec::new(), writes)).expect("written");
    write(vec![set("a", "1"), set("b", "2"), KvWrite::Increment { key: "n".into(), by: 4 }]);
    let (_, before) = bench.engine.kv_get(&service, "a").expect("read");
    write(vec![set("a", "3"), KvWrite::Delete { key: "b".into() }, KvWrite::Increment { key: "n".into(), by: -1 }]);
    let (value, version) = bench.engine.kv_get(&service, "a").expect("read");
    assert_eq!(value.as_deref(), Some(b"3".as_slice()));
    assert!(version > before, "a write is a new version: {before}, {version}");
    let everything = KvSelect { prefix: "", after: None, limit: 9 };
    let (all, more) = bench.engine.kv_entries(&service, &everything).expect("listed");
    let entries: Vec<_> = all.iter().map(|(key, value)| (&**key, &value[..])).collect();
    assert_eq!((entries, more), (vec![("a", b"3".as_slice()), ("n", b"3")], false));
    assert_eq!(bench.engine.kv_bytes(&service), 4);
    let durable = bench.engine.capabilities().durable;
    bench.close();
    if durable {
        let bench = Bench::new(fixture.reopen().expect("a durable engine can be opened again"));
        assert_eq!(bench.engine.kv_entries(&service, &everything).expect("listed"), (all, false));
        bench.close();
    }
}

fn listed(prefix: &str, until: Option<&str>, keys: &[&str], own: &[&str]) -> KvScan {
    KvScan {
        prefix: prefix.into(),
        after: None,
        until: until.map(Box::from),
        count: keys.len(),
        digest: KvScan::digest_of(keys.iter().copied()),
        own: own.iter().map(|key| Box::from(*key)).collect(),
    }
}

pub(super) fn leaves_out_what_listed_other_keys(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let service = "s".parse().expect("a name");
    bench.publish(events(9));
    let write =
        |keys: &[&str]| Effects { writes: keys.iter().map(|key| set(key, "1")).collect(), ..Effects::default() };
    bench.settle(sub, 1, vec![ack(0, write(&["a", "b.1", "b.2", "b.3", "c"]))]);
    assert_eq!(bench.keys(&service, "b.", None, 9), ["b.1", "b.2", "b.3"]);
    assert_eq!(bench.keys(&service, "b.", Some("b.1"), 1), ["b.2"]);
    assert_eq!(bench.keys(&service, "", Some("b.2"), 9), ["b.3", "c"]);
    assert_eq!(bench.keys(&service, "d", None, 9), [""; 0]);
    let entries = bench.engine.kv_entries(&service, &KvSelect { prefix: "b.", after: None, limit: 2 }).expect("listed");
    assert_eq!((entries.0.len(), entries.1), (2, true));
    let rests_on = |scan: KvScan| Effects { scans: vec![scan], ..Effects::default() };
    let conflicts = bench.settle(
        sub,
        9,
        vec![
            ack(1, rests_on(listed("b.", None, &["b.1", "b.2", "b.3"], &[]))),
            ack(2, rests_on(listed("b.", None, &["b.1", "b.2"], &[]))),
            ack(3, rests_on(listed("b.", Some("b.2"), &["b.1", "b.2"], &[]))),
            ack(4, rests_on(listed("b.", Some("b.2"), &["b.1"], &[]))),
            ack(5, write(&["b.4", "d"])),
            // What an earlier delivery of the settlement added must have been seen, and nothing else.
            ack(6, rests_on(listed("b.", None, &["b.1", "b.2", "b.3"], &[]))),
            ack(7, rests_on(listed("b.", None, &["b.1", "b.2", "b.3"], &["b.4"]))),
            ack(8, rests_on(listed("b.", None, &["b.1", "b.2", "b.3"], &["b.4", "b.5"]))),
        ],
    );
    assert_eq!(conflicts, vec![2, 4, 6, 8]);
    assert_eq!(bench.keys(&service, "b.", None, 9), ["b.1", "b.2", "b.3", "b.4"]);
    bench.close();
}

pub(super) fn writes_from_outside_only_over_the_expected(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let service = "s".parse().expect("a name");
    let expected = |version| vec![KvRead { key: "k".into(), version: Some(version), own: false }];
    let write = |reads, value| bench.runtime.block_on(bench.engine.kv_write(&service, reads, vec![set("k", value)]));
    write(expected(0), "1").expect("the key is absent");
    let refused = write(expected(0), "2");
    assert!(matches!(refused, Err(EngineError::Conflict(_))), "{refused:?}");
    let (_, version) = bench.engine.kv_get(&service, "k").expect("read");
    write(expected(version), "3").expect("the version is the expected one");
    write(Vec::new(), "4").expect("nothing is expected");
    assert!(write(expected(version), "5").is_err());
    assert_eq!(bench.value(&service, "k").as_deref(), Some(b"4".as_slice()));
    bench.close();
}
