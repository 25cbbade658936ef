//! Conformance: events, their order, their delay, and finding them again.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{Event, EventId, Limits, StartAt, Timestamp};

use super::{Bench, Fixture, NOW, acked, event, events, lock, parked};
use crate::{EngineError, ReadRequest};

pub(super) fn appends_densely_and_gives_back_the_very_events(fixture: &dyn Fixture) {
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

pub(super) fn holds_back_delayed_events(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    if !bench.engine.capabilities().delay {
        return;
    }
    let at = NOW.after(Duration::from_mins(1));
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

pub(super) fn bounds_what_is_delayed(fixture: &dyn Fixture) {
    let limits = Limits { delayed_events: 2, ..Limits::default() };
    let bench = Bench::new(fixture.limited(limits));
    let can = bench.engine.capabilities();
    // What is on disk is bounded by the disk.
    if !can.delay || can.durable {
        return;
    }
    let at = NOW.after(Duration::from_mins(1));
    let late = |number| Event { not_before: Some(at), ..event(number, b"late") };
    bench.publish(vec![late(1), late(2)]);
    let refused = bench.try_publish(vec![event(3, b"soon"), late(4)]);
    assert!(matches!(refused, Err(EngineError::Overloaded(_))), "{refused:?}");
    assert!(bench.offsets().is_empty(), "all or none");
    bench.engine.tick(at).expect("ticked");
    bench.publish(vec![late(5), event(6, b"soon")]);
    assert_eq!(bench.engine.status().delayed, 1);
    bench.close();
    let bench = Bench::new(fixture.limited(Limits { delayed_bytes: 1_024, ..Limits::default() }));
    let refused = bench.try_publish(vec![Event { not_before: Some(at), ..event(1, &[0; 2_000]) }]);
    assert!(matches!(refused, Err(EngineError::Overloaded(_))), "{refused:?}");
    bench.close();
}

/// The newest events are found like those that left memory long ago, and what is not there is not found.
pub(super) fn finds_events_by_id(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.limited(Limits { recent_bytes: 4_096, ..Limits::default() }));
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let sent: Vec<Event> = (0..20).map(|number| event(number, &[b'x'; 1_024])).collect();
    for event in &sent {
        bench.publish(vec![event.clone()]);
    }
    bench.settle(sub, 20, (0..20).map(|i| if i == 0 { parked(0, &sent[0]) } else { acked(i) }).collect());
    let find = |number| bench.engine.find(EventId::from_u128(number)).expect("looked for");
    for number in [0, 19] {
        let found = find(number).expect("a parked event and the newest one are kept by every engine");
        assert_eq!((u128::from(found.offset), &*found.event), (number, &sent[number as usize]));
    }
    if bench.engine.capabilities().replay {
        assert_eq!(find(7).map(|found| found.offset), Some(7));
    }
    assert_eq!(find(99), None);
    bench.close();
}
