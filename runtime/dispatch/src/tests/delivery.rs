//! Who gets what, in chunks of which size.

use std::sync::Arc;

use busway_types::{Chunk, Ordering, Outcome, Report, SubId};

use super::rig::{Rig, SUB, event, offsets, result, spec};
use crate::{Action, Input, PauseReason};
use busway_types::Limits;

#[test]
fn every_matching_subscription_gets_an_event_and_no_other() {
    let mut rig = Rig::with(Limits::default(), true);
    rig.attach(SubId(1), spec("one", "a.*", Ordering::Key));
    rig.attach(SubId(2), spec("two", "a.b c", Ordering::Key));
    rig.attach(SubId(3), spec("three", "b", Ordering::Key));
    rig.append(vec![Arc::new(event(0, "a.b", None))]);
    let subs: Vec<u32> = rig.chunks().iter().map(|chunk| chunk.sub.0).collect();
    assert_eq!(subs, [1, 2]);
}

#[test]
fn a_service_receives_what_it_published_itself_only_if_it_wants_to() {
    let mut rig = Rig::with(Limits::default(), true);
    rig.attach(SubId(1), spec("own", "t", Ordering::Key));
    let mut own = spec("own", "t", Ordering::Key);
    own.own_events = true;
    rig.attach(SubId(2), own);
    let mut published = event(0, "t", None);
    published.causality.source = Some("own".parse().expect("a name"));
    rig.append(vec![Arc::new(published)]);
    assert_eq!(rig.chunk().sub, SubId(2));
    assert!(rig.machine.stats(SubId(1)).is_some_and(|stats| stats.cursor == 1));
}

#[test]
fn an_event_with_too_many_hops_becomes_a_dead_letter_without_delivery() {
    let mut rig = Rig::one(Ordering::Key);
    let mut looping = event(0, "t", None);
    looping.causality.hops = 65;
    rig.append(vec![Arc::new(looping)]);
    assert!(rig.chunks().is_empty());
    let settlement = rig.settlement();
    assert!(matches!(
        settlement.settles[0].verdict,
        busway_types::Verdict::Dead { reason: busway_types::DeadReason::Loop, .. }
    ));
    assert_eq!(settlement.cursor, 1);
}

#[test]
fn idle_lanes_share_what_is_ready() {
    let mut rig = Rig::with(Limits::default(), true);
    let mut wide = spec("s", "t", Ordering::None);
    wide.concurrency = 4;
    rig.attach(SUB, wide);
    rig.publish(&["-"; 12]);
    let sizes: Vec<usize> = rig.chunks().iter().map(|chunk| chunk.deliveries.len()).collect();
    assert_eq!(sizes, [3, 3, 3, 3]);
}

#[test]
fn only_a_few_chunks_beyond_the_concurrency_are_in_flight() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["-"; 200]);
    let chunks = rig.chunks();
    assert_eq!(chunks.len(), 1 + Chunk::AHEAD);
    rig.ack(&chunks[0]);
    assert_eq!(rig.chunks().len(), 1);
}

#[test]
fn chunks_grow_for_fast_handlers_and_shrink_for_slow_ones() {
    for (busy_ns, expected) in [(10_000, 200), (1_000_000, 2), (50_000_000, 1)] {
        let mut rig = Rig::one(Ordering::None);
        rig.publish(&["-"; 1_000]);
        let first = rig.chunks().remove(0);
        let results = offsets(&first)
            .into_iter()
            .map(|offset| busway_types::DeliveryResult { busy_ns, ..result(offset, Outcome::Acked) })
            .collect();
        rig.step(Input::Report(Report { chunk: first.id, sub: SUB, results, finished: true }));
        assert_eq!(rig.chunk().deliveries.len(), expected, "{busy_ns} ns per event");
    }
}

#[test]
fn a_lost_chunk_comes_back_at_no_charge() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a", "-"]);
    let lost = rig.chunk();
    rig.step(Input::ChunkLost { sub: SUB, chunk: lost.id });
    let mut again = rig.chunk();
    again.deliveries.sort_by_key(|delivery| delivery.logged.offset);
    assert_eq!(offsets(&again), [0, 1, 2]);
    assert!(again.deliveries.iter().all(|delivery| delivery.attempt == 1));
    assert!(rig.settlements().is_empty());
    rig.ack(&lost);
    assert!(rig.settlements().is_empty(), "what a lane says of a lost chunk is void");
}

#[test]
fn only_the_unreported_rest_of_a_lost_chunk_comes_back() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "b", "c"]);
    let lost = rig.chunk();
    let results = vec![result(0, Outcome::Acked)];
    rig.step(Input::Report(Report { chunk: lost.id, sub: SUB, results, finished: false }));
    rig.step(Input::ChunkLost { sub: SUB, chunk: lost.id });
    let mut again = offsets(&rig.chunk());
    again.sort_unstable();
    assert_eq!(again, [1, 2]);
}

#[test]
fn a_paused_subscription_starts_nothing_and_goes_on_afterwards() {
    let mut rig = Rig::one(Ordering::Key);
    rig.step(Input::Paused { sub: SUB, paused: true });
    rig.publish(&["a"]);
    assert!(rig.chunks().is_empty());
    assert_eq!(rig.stats().paused, Some(PauseReason::Service));
    rig.step(Input::Paused { sub: SUB, paused: false });
    assert_eq!(offsets(&rig.chunk()), [0]);
}

#[test]
fn without_room_transactions_run_one_at_a_time_and_others_are_not_held_up() {
    let mut rig = Rig::with(Limits::default(), true);
    let publishing = |name: &str| {
        let mut spec = spec(name, "t", Ordering::None);
        spec.may_publish = true;
        spec
    };
    rig.attach(SubId(1), publishing("one"));
    rig.attach(SubId(2), publishing("two"));
    rig.attach(SubId(3), spec("three", "t", Ordering::None));
    rig.step(Input::Room(false));
    rig.publish(&["-", "-"]);
    let chunks = rig.chunks();
    let started: Vec<(u32, usize)> = chunks.iter().map(|chunk| (chunk.sub.0, chunk.deliveries.len())).collect();
    assert_eq!(started, [(3, 2), (1, 1)]);
    rig.ack(&chunks[1]);
    assert!(rig.chunks().is_empty(), "its commit still needs the room");
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    let next = rig.chunk();
    assert_eq!((next.sub.0, next.deliveries.len()), (2, 1), "they take turns");
    rig.step(Input::Room(true));
    let mut subs: Vec<u32> = rig.chunks().iter().map(|chunk| chunk.sub.0).collect();
    subs.sort_unstable();
    assert_eq!(subs, [1, 2]);
}

#[test]
fn a_detached_subscription_finishes_what_is_in_flight_and_is_forgotten() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a"]);
    let chunk = rig.chunk();
    rig.step(Input::Detach { sub: SUB });
    rig.publish(&["a"]);
    rig.ack(&chunk);
    let settlement = rig.settlement();
    assert!(rig.chunks().is_empty());
    assert_eq!(settlement.cursor, 1);
    rig.settled(&settlement, &[]);
    assert!(rig.machine.stats(SUB).is_none());
    assert!(rig.machine.is_idle());
}

#[test]
fn attaching_again_while_deliveries_are_in_flight_repeats_nothing_and_misses_nothing() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a"]);
    let chunk = rig.chunk();
    rig.step(Input::Detach { sub: SUB });
    rig.publish(&["a"]);
    rig.step(Input::Attach {
        sub: SUB,
        spec: spec("s", "t", Ordering::Key),
        state: busway_types::SubscriptionState::default(),
        head: 3,
    });
    assert_eq!(rig.read().map(|read| read.0), Some(2));
    rig.answer_read(2, 3);
    assert!(rig.chunks().is_empty());
    rig.ack(&chunk);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert_eq!(offsets(&rig.chunk()), [2]);
}

#[test]
fn an_idle_subscription_costs_nothing_and_its_cursor_follows_rarely() {
    let mut rig = Rig::with(Limits::default(), true);
    for i in 0..100 {
        rig.attach(SubId(i), spec(&format!("s{i}"), &format!("idle.{i}"), Ordering::Key));
    }
    for _ in 0..20 {
        let first = rig.log.len() as u64;
        rig.append((0..1_000).map(|n| Arc::new(event(first + n, "other", None))).collect());
    }
    let advances = rig.out.iter().filter(|action| matches!(action, Action::Advance { .. })).count();
    assert_eq!(rig.out.len(), advances, "nothing else happens");
    assert!((100..=400).contains(&advances), "{advances} advances");
    assert!(rig.machine.stats(SubId(7)).is_some_and(|stats| stats.cursor == 20_000));
}

#[test]
fn a_change_of_ordering_waits_until_nothing_is_in_flight() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["a"; 200]);
    let mut chunks = rig.chunks();
    let last = chunks.pop().expect("several chunks");
    rig.step(Input::Reconfigure { sub: SUB, spec: spec("s", "t", Ordering::Key) });
    for chunk in &chunks {
        rig.ack(chunk);
    }
    assert!(rig.chunks().is_empty());
    assert_eq!(rig.stats().paused, Some(PauseReason::Reordering));
    rig.ack(&last);
    for settlement in rig.settlements() {
        rig.settled(&settlement, &[]);
    }
    let next = rig.chunk();
    assert_eq!(next.ordering, Ordering::Key);
    assert_eq!(offsets(&next)[0], 32 * (1 + Chunk::AHEAD as u64));
}
