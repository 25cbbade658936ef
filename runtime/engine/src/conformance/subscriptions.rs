//! Conformance: positions, parked events and dead letters, and how long they are kept.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{
    Attempt, DeadReason, Effects, Event, Limits, Ordering, RetryPolicy, Settle, Settlement, StartAt, SubscriptionSpec,
    Timestamp, Verdict,
};

use super::{Bench, Fixture, NOW, ack, acked, event, events, parked, set, settle, spec};
use crate::{EngineError, ReadRequest, Room};

pub(super) fn refuses_a_stale_epoch(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let settlement = Settlement { token: 1, sub, cursor: 0, settles: Vec::new() };
    let refused = bench.engine.settle(0, bench.epoch() + 1, settlement);
    assert!(matches!(refused, Err(EngineError::Stale { .. })), "{refused:?}");
    bench.close();
}

pub(super) fn keeps_positions_by_name(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    bench.publish(events(4));
    let (now, at_now) = bench.subscribe("now", StartAt::Now);
    let (start, at_start) = bench.subscribe("start", StartAt::Start);
    assert_ne!(now, start);
    assert_eq!((at_now.cursor, at_start.cursor), (4, 0));
    bench.settle(start, 1, vec![settle(0, Verdict::Acked(None)), settle(2, Verdict::Acked(None))]);
    let (again, state) = bench.subscribe("start", StartAt::Now);
    assert_eq!(again, start);
    assert_eq!((state.cursor, state.settled), (1, vec![(2, 3)]));
    bench.close();
}

pub(super) fn keeps_the_settings_of_the_newest_deployment(fixture: &dyn Fixture) {
    let of = |topics: &str, attempts: u32| {
        let patterns = vec![topics.parse().expect("a pattern")];
        let retry = RetryPolicy { attempts, ..RetryPolicy::default() };
        SubscriptionSpec { patterns, retry, ordering: Ordering::Strict, concurrency: 3, ..spec("s", StartAt::Now) }
    };
    let mut bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let settle = |bench: &Bench, spec: SubscriptionSpec, generation: u32| {
        bench.engine.settings(0, bench.epoch(), sub, spec, generation).expect("settled")
    };
    // Nobody counts, so everybody may.
    assert_eq!(settle(&bench, of("t.a", 1), 0), of("t.a", 1));
    assert_eq!(settle(&bench, of("t.b", 2), 0), of("t.b", 2));
    assert_eq!(settle(&bench, of("t.c", 3), 2), of("t.c", 3));
    for durable in [false, true] {
        if durable {
            if !bench.engine.capabilities().durable {
                break;
            }
            bench.close();
            bench = Bench::new(fixture.reopen().expect("a durable engine can be opened again"));
        }
        let older = SubscriptionSpec { concurrency: 7, ..of("t.d", 4) };
        let kept = SubscriptionSpec { concurrency: 7, ..of("t.c", 3) };
        assert_eq!(settle(&bench, older.clone(), 0), kept, "each node has a concurrency of its own");
        assert_eq!(settle(&bench, older, 1), kept);
    }
    assert_eq!(settle(&bench, of("t.e", 5), 2), of("t.e", 5), "the same generation may change its mind");
    assert_eq!(settle(&bench, of("t.f", 6), 3), of("t.f", 6));
    assert_eq!(settle(&bench, of("t.g", 7), 2), of("t.f", 6));
    bench.close();
}

pub(super) fn keeps_parked_events_and_dead_letters(fixture: &dyn Fixture) {
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

pub(super) fn detaches_and_forgets(fixture: &dyn Fixture) {
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

pub(super) fn survives_being_closed(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    if !bench.engine.capabilities().durable {
        return;
    }
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    let sent = events(5);
    bench.publish(sent.clone());
    let late = Event { not_before: Some(NOW.after(Duration::from_mins(1))), ..event(9, b"late") };
    bench.publish(vec![late]);
    let effects = Effects { writes: vec![set("k", "v")], ..Effects::default() };
    bench.settle(sub, 1, vec![ack(0, effects), settle(2, Verdict::Acked(None)), parked(3, &sent[3])]);
    let before = bench.state(sub);
    bench.close();
    let bench = Bench::new(fixture.reopen().expect("a durable engine can be opened again"));
    assert_eq!(bench.state(sub), before);
    let service = "s".parse().expect("a name");
    assert_eq!(bench.value(&service, "k").as_deref(), Some(b"v".as_slice()));
    let request = ReadRequest { from: 0, patterns: Arc::from([]), max_events: 100, max_bytes: usize::MAX };
    let read = bench.engine.read(0, &request).expect("read");
    assert_eq!(read.events.iter().map(|l| (*l.event).clone()).collect::<Vec<_>>(), sent);
    let receipts = bench.publish(vec![event(6, b"next")]);
    assert_eq!(receipts[0].offset, Some(5), "offsets go on");
    bench.engine.tick(NOW.after(Duration::from_secs(61))).expect("ticked");
    assert_eq!(bench.offsets(), vec![5, 6], "the delayed event survived");
    bench.close();
}

/// Nothing was to be done below: the position moves without a settlement, and never back.
pub(super) fn advances_positions(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    bench.publish(events(6));
    bench.settle(sub, 1, vec![acked(0), acked(4)]);
    bench.engine.advance(0, bench.epoch(), sub, 3);
    assert_eq!((bench.state(sub).cursor, bench.state(sub).settled), (3, vec![(4, 5)]));
    bench.engine.advance(0, bench.epoch(), sub, 2);
    bench.engine.advance(0, bench.epoch() + 1, sub, 6);
    assert_eq!(bench.state(sub).cursor, 3, "neither back nor by a former owner");
    bench.engine.advance(0, bench.epoch(), sub, 6);
    assert_eq!((bench.state(sub).cursor, bench.state(sub).settled), (6, Vec::new()));
    let durable = bench.engine.capabilities().durable;
    bench.runtime.block_on(bench.engine.flush()).expect("flushed");
    bench.close();
    if durable {
        let bench = Bench::new(fixture.reopen().expect("a durable engine can be opened again"));
        assert_eq!(bench.state(sub).cursor, 6);
        bench.close();
    }
}

pub(super) fn releases_what_was_detached_for_a_day(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (gone, _) = bench.subscribe("gone", StartAt::Now);
    let (back, _) = bench.subscribe("back", StartAt::Now);
    let sent = events(1);
    bench.publish(sent.clone());
    bench.settle(gone, 1, vec![parked(0, &sent[0])]);
    for sub in [gone, back] {
        bench.engine.detach(0, bench.epoch(), sub, NOW).expect("detached");
    }
    let day = NOW.after(Duration::from_hours(24));
    let known = || bench.engine.subscriptions().into_iter().map(|known| known.id).collect::<Vec<_>>();
    bench.engine.tick(Timestamp(day.0 - 1)).expect("ticked");
    assert_eq!(known(), [gone, back], "not a millisecond early");
    bench.subscribe("back", StartAt::Now);
    bench.engine.tick(day.after(Duration::from_secs(2))).expect("ticked");
    assert_eq!(known(), [back], "whoever came back is kept");
    let (new, state) = bench.subscribe("gone", StartAt::Now);
    assert!(new != gone && state.parked.is_empty(), "nothing of it is left");
    bench.close();
}

/// Whoever still works for a subscription that was forgotten gets answers, and changes nothing.
pub(super) fn answers_settlements_of_what_was_forgotten(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (gone, _) = bench.subscribe("gone", StartAt::Now);
    let (other, _) = bench.subscribe("other", StartAt::Now);
    let sent = events(2);
    bench.publish(sent.clone());
    bench.engine.detach(0, bench.epoch(), gone, NOW).expect("detached");
    bench.engine.tick(NOW.after(Duration::from_hours(25))).expect("ticked");
    let effects =
        Effects { writes: vec![set("k", "v")], publishes: vec![Arc::new(event(7, b"x"))], ..Effects::default() };
    assert!(bench.settle(gone, 1, vec![ack(0, effects), parked(1, &sent[1])]).is_empty(), "it is answered as settled");
    bench.engine.advance(0, bench.epoch(), gone, 2);
    assert_eq!(bench.offsets(), [0, 1], "nothing is published");
    assert_eq!(bench.value(&"gone".parse().expect("a name"), "k"), None, "nothing is written");
    assert!(bench.engine.subscriptions().iter().all(|known| known.id == other), "and it does not come back");
    bench.settle(other, 2, vec![acked(0), acked(1)]);
    assert_eq!(bench.state(other).cursor, 2, "others go on");
    bench.close();
}

/// A subscription of which something is settled is in use, even if it was said to be detached a day ago.
pub(super) fn keeps_what_is_in_use(fixture: &dyn Fixture) {
    let bench = Bench::new(fixture.fresh());
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    bench.publish(events(1));
    bench.engine.detach(0, bench.epoch(), sub, Timestamp(NOW.0 - 86_400_000)).expect("detached");
    bench.settle(sub, 1, vec![acked(0)]);
    bench.engine.tick(NOW.after(Duration::from_secs(9))).expect("ticked");
    assert_eq!(bench.state(sub).cursor, 1);
    bench.engine.tick(NOW.after(Duration::from_hours(24))).expect("ticked");
    assert!(bench.engine.subscriptions().is_empty(), "not for ever");
    bench.close();
}

/// At the first mark publishers are to wait, at the second handlers that publish; acknowledgements are taken beyond both.
pub(super) fn tells_how_much_room_there_is(fixture: &dyn Fixture) {
    const MIB: usize = 1024 * 1024;
    let limits = Limits { memory_bytes: MIB, disk_bytes: MIB as u64, ..Limits::default() };
    let bench = Bench::new(fixture.limited(limits));
    let (sub, _) = bench.subscribe("s", StartAt::Now);
    assert_eq!(bench.engine.room(), Room::Enough);
    let mut rooms = vec![Room::Enough];
    for number in 0..16_u64 {
        let sent = event(number.into(), &vec![b'x'; 64 * 1024]);
        bench.publish(vec![sent.clone()]);
        // Parked, so that every engine has to keep it.
        bench.settle(sub, number + 1, vec![parked(number, &sent)]);
        if rooms.last() != Some(&bench.engine.room()) {
            rooms.push(bench.engine.room());
        }
    }
    assert_eq!(rooms, [Room::Enough, Room::NoPublishers, Room::NoTransactions]);
    assert!(bench.settle(sub, 16, (0..16).map(acked).collect()).is_empty());
    assert!(bench.state(sub).parked.is_empty(), "acknowledgements fit");
    bench.close();
}
