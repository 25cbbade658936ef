//! Conformance: where a subscription begins, delivering a part of the log again, and what became of events.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{DeadReason, Effects, Event, EventId, Origin, Replay, Settle, StartAt, Timestamp, Verdict};

use super::{Bench, Fixture, NOW, ack, acked, event, events, parked, settle};
use crate::{EngineError, Handling};

pub(super) fn delivers_a_part_again(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let sent = events(6);
    bench.publish(sent.clone());
    let (sub, _) = bench.subscribe("s", StartAt::Start);
    let dead = Verdict::Dead { reason: DeadReason::Rejected, time: NOW, attempts: Vec::new() };
    let dead = Settle { event: Some(Arc::new(sent[4].clone())), ..settle(4, dead) };
    let acked = [0, 1, 2].map(|offset| settle(offset, Verdict::Acked(None)));
    bench.settle(sub, 5, acked.into_iter().chain([parked(3, &sent[3]), dead]).collect());
    let replay = |from, to, dead| {
        let replay = Replay { from, to, dead };
        bench.engine.replay(0, bench.epoch(), sub, &replay).expect("moved")
    };
    let moved = replay(1, 99, false);
    assert_eq!((moved.replay.from, moved.replay.to), (1, 6), "no further than the head");
    assert_eq!((moved.state.cursor, &moved.state.settled[..], moved.state.generation), (1, &[(3, 5)][..], 1));
    assert_eq!((moved.state.parked.len(), moved.state.dead.len()), (1, 1));
    assert_eq!(bench.state(sub), moved.state);
    bench.settle(sub, 3, vec![settle(1, Verdict::Acked(None)), settle(2, Verdict::Acked(None))]);
    assert_eq!(bench.state(sub).cursor, 5, "it catches up with where it was");
    let moved = replay(2, 5, true);
    assert_eq!((moved.state.cursor, &moved.state.settled[..], moved.state.generation), (2, &[(3, 4)][..], 2));
    assert!(moved.state.dead.is_empty(), "dead letters are delivered again when asked for");
    let stale = bench.engine.replay(0, bench.epoch() + 1, sub, &moved.replay);
    assert!(matches!(stale, Err(EngineError::Stale { .. })), "{stale:?}");
    let before = bench.state(sub);
    let durable = bench.engine.capabilities().durable;
    bench.close();
    if durable {
        let bench = Bench::new(fixture.reopen().expect("a durable engine can be opened again"));
        assert_eq!(bench.state(sub), before, "the generation is durable");
        bench.close();
    }
}

pub(super) fn starts_at_a_time(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let at = |ms: u64| Timestamp(NOW.0 + ms);
    let times = [10, 15, 20, 20, 30].into_iter().enumerate();
    let mut timed: Vec<Event> =
        times.map(|(number, ms)| Event { time: at(ms), ..event(number as u128, b"x") }).collect();
    // Published first, but delayed until now.
    (timed[1].time, timed[1].not_before) = (Timestamp(1), Some(at(0)));
    bench.publish(timed);
    let offset_at = |ms| bench.engine.offset_at(0, at(ms)).expect("found");
    assert_eq!([0, 20, 21, 31].map(offset_at), [0, 2, 4, 5]);
    assert_eq!(bench.subscribe("s", StartAt::Time(at(20))).1.cursor, 2);
    assert_eq!(bench.subscribe("later", StartAt::Time(at(99))).1.cursor, 5);
    bench.close();
}

pub(super) fn tells_a_journey(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let sent = events(3);
    bench.publish(sent.clone());
    let (sub, _) = bench.subscribe("s", StartAt::Start);
    let mut caused = event(70, b"an effect");
    caused.causality = Origin { cause: Some(sent[1].id), ..Origin::default() }.into();
    let effects = Effects { publishes: vec![Arc::new(caused)], ..Effects::default() };
    bench.settle(sub, 0, vec![parked(1, &sent[1]), settle(2, Verdict::Expired)]);
    bench.settle(sub, 3, vec![ack(1, effects), acked(0)]);
    let find = |from| bench.engine.caused(0, &[sent[0].id, sent[1].id], from).expect("looked for");
    assert_eq!(find(0).map(|logged| (logged.offset, logged.event.id)), Some((3, EventId::from_u128(70))));
    assert_eq!(find(4), None);
    bench.runtime.block_on(bench.engine.flush()).expect("flushed");
    let within = Duration::from_mins(1);
    let handled = bench.engine.handled(0, &[1, 2].into(), within).expect("looked for");
    assert_eq!(handled.is_some(), bench.engine.capabilities().replay, "who keeps the log keeps what was settled");
    if let Some(handlings) = handled {
        let steps = handlings.steps.iter().map(|step| {
            assert_eq!((step.sub, step.time), (sub, Some(NOW)));
            (step.offset, matches!(step.what, Handling::Parked(_)), step.what == Handling::Expired)
        });
        assert_eq!(steps.collect::<Vec<_>>(), [(2, false, true), (1, true, false), (1, false, false)]);
        assert!(handlings.complete);
    }
    bench.close();
}
