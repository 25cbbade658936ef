//! Delivering a part of the log again.

use std::time::Duration;

use busway_types::{
    DeadLetter, DeadReason, Limits, Logged, Ordering, Outcome, Parked, Replay, SubscriptionState, Timestamp,
};

use super::rig::{Rig, SUB, offsets, retry, settled_offsets, spec};
use crate::{Action, Input, PauseReason};

fn seek(rig: &mut Rig, from: u64, to: u64) {
    rig.step(Input::Seek { sub: SUB, replay: Replay { from, to, dead: false } });
}

/// What the machine asked the engine for.
fn asked(rig: &mut Rig) -> Option<Replay> {
    let at = rig.out.iter().position(|action| matches!(action, Action::Move { .. }))?;
    let Action::Move { replay, .. } = rig.out.remove(at) else { unreachable!("just found") };
    Some(replay)
}

fn moved(rig: &mut Rig, state: SubscriptionState, events: &[u64]) {
    let events = events.iter().map(|&offset| Logged { offset, event: rig.log[offset as usize].clone() }).collect();
    rig.step(Input::Moved { sub: SUB, state, events });
}

#[test]
fn a_move_waits_for_what_is_in_flight_and_starts_nothing_meanwhile() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["-"; 3]);
    let chunk = rig.chunk();
    seek(&mut rig, 0, 3);
    rig.publish(&["-"; 2]);
    assert_eq!((asked(&mut rig), rig.chunks().len()), (None, 0));
    assert_eq!(rig.stats().paused, Some(PauseReason::Moving));
    rig.ack(&chunk);
    assert_eq!(asked(&mut rig), None, "the settlement is not sequenced");
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert_eq!(asked(&mut rig), Some(Replay { from: 0, to: 3, dead: false }));
    moved(&mut rig, SubscriptionState { generation: 1, ..Default::default() }, &[]);
    assert_eq!(rig.read().map(|read| read.0), Some(0));
    rig.answer_read(0, 5);
    let again = rig.chunk();
    assert_eq!((offsets(&again), again.generation), (vec![0, 1, 2, 3, 4], 1), "new events wait behind the replay");
    rig.ack(&again);
    assert_eq!(rig.settlement().cursor, 5);
}

#[test]
fn what_is_settled_behind_the_part_is_not_read_again() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["-"; 30]);
    let chunk = rig.chunk();
    rig.ack(&chunk);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    seek(&mut rig, 4, 6);
    assert!(asked(&mut rig).is_some());
    rig.publish(&["-"]);
    let state = SubscriptionState { cursor: 4, settled: vec![(6, 30)], generation: 1, ..Default::default() };
    moved(&mut rig, state, &[]);
    assert_eq!(rig.read().map(|read| read.0), Some(4));
    rig.answer_read(4, 6);
    assert_eq!(rig.read().map(|read| read.0), Some(30), "the settled run is stepped over");
    rig.answer_read(30, 31);
    let again: Vec<u64> = rig.chunks().iter().flat_map(offsets).collect();
    assert_eq!(again, [4, 5, 30]);
}

#[test]
fn a_parked_event_keeps_its_place_in_what_is_delivered_again() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a", "a"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![Outcome::Acked, retry(), Outcome::Skipped]);
    let settlement = rig.settlement();
    assert_eq!(settled_offsets(&settlement), [0, 1, 2], "the third is parked behind the second");
    rig.settled(&settlement, &[]);
    seek(&mut rig, 0, 3);
    assert!(asked(&mut rig).is_some());
    let parked = |offset, due| Parked { offset, due, attempts: Vec::new() };
    let parked = vec![parked(1, Some(Timestamp(1))), parked(2, None)];
    moved(&mut rig, SubscriptionState { settled: vec![(1, 3)], parked, generation: 1, ..Default::default() }, &[]);
    assert_eq!(rig.stats().parked, 2);
    assert!(rig.chunks().is_empty() && !rig.out.iter().any(|action| matches!(action, Action::Fetch { .. })));
    rig.read();
    rig.answer_read(0, 3);
    assert_eq!(rig.fetch(), [1, 2], "whose keys these are");
    assert_eq!(offsets(&rig.chunk()), [0], "the parked ones come after it");
}

#[test]
fn a_parked_event_keeps_its_place_also_when_the_node_starts_again_during_a_replay() {
    for ordering in [Ordering::Key, Ordering::Strict] {
        let mut rig = Rig::with(Limits::default(), true);
        rig.publish(&["a"; 3]);
        let parked = vec![Parked { offset: 2, due: Some(Timestamp(1)), attempts: Vec::new() }];
        let state = SubscriptionState { settled: vec![(2, 3)], parked, generation: 1, ..Default::default() };
        rig.step(Input::Attach { sub: SUB, spec: spec("s", "t", ordering), state, head: 3 });
        assert!(!rig.out.iter().any(|action| matches!(action, Action::Fetch { .. })), "{ordering:?}");
        assert_eq!((rig.stats().parked, rig.read().map(|read| read.0)), (1, Some(0)));
        rig.answer_read(0, 2);
        if ordering == Ordering::Key {
            assert_eq!(rig.fetch(), [2], "whose key this is");
        }
        assert_eq!(offsets(&rig.chunk()), [0, 1], "{ordering:?}: the parked one comes after them");
    }
}

#[test]
fn what_is_due_at_once_waits_for_the_answer_to_a_move() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["-"; 2]);
    let chunk = rig.chunk();
    seek(&mut rig, 0, 2);
    let at_once = Outcome::Retry { reason: "again".to_owned(), after: Some(Duration::ZERO) };
    rig.report(&chunk, vec![at_once, Outcome::Acked]);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert!(asked(&mut rig).is_some());
    rig.tick(50);
    rig.step(Input::Stays { sub: SUB });
    assert_eq!(rig.fetch(), [0], "its timer runs again");
}

#[test]
fn without_replay_the_part_comes_with_the_answer_and_what_waits_is_kept() {
    let mut rig = Rig::with(Limits { chunk_events: 2, ..Limits::default() }, false);
    rig.attach(SUB, spec("s", "t", Ordering::Strict));
    rig.publish(&["-"; 4]);
    let chunk = rig.chunk();
    seek(&mut rig, 1, 2);
    rig.ack(&chunk);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert!(asked(&mut rig).is_some());
    moved(&mut rig, SubscriptionState { cursor: 1, generation: 1, ..Default::default() }, &[1]);
    assert_eq!(rig.read(), None);
    assert_eq!(rig.stats().backlog_events, 3);
    assert_eq!(offsets(&rig.chunk()), [1, 2]);
}

#[test]
fn without_replay_what_stays_a_dead_letter_at_the_beginning_of_the_part_is_not_delivered_again() {
    let mut rig = Rig::with(Limits::default(), false);
    rig.attach(SUB, spec("s", "t", Ordering::None));
    rig.publish(&["-"; 3]);
    let chunk = rig.chunk();
    let rejected = Outcome::Rejected { reason: "no".to_owned() };
    rig.report(&chunk, vec![rejected, Outcome::Acked, Outcome::Acked]);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    seek(&mut rig, 0, 3);
    assert!(asked(&mut rig).is_some());
    let dead = vec![DeadLetter { offset: 0, reason: DeadReason::Rejected, time: Timestamp(1), attempts: Vec::new() }];
    moved(&mut rig, SubscriptionState { cursor: 1, dead, generation: 1, ..Default::default() }, &[0, 1, 2]);
    assert_eq!(offsets(&rig.chunk()), [1, 2]);
}

#[test]
fn a_move_that_is_refused_or_overtaken_by_a_detach_changes_nothing() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["-"; 2]);
    let chunk = rig.chunk();
    rig.ack(&chunk);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    seek(&mut rig, 0, 2);
    assert!(asked(&mut rig).is_some());
    rig.step(Input::Stays { sub: SUB });
    rig.publish(&["-"]);
    let chunk = rig.chunk();
    assert_eq!((offsets(&chunk), chunk.generation), (vec![2], 0));
    seek(&mut rig, 0, 2);
    rig.step(Input::Detach { sub: SUB });
    rig.ack(&chunk);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert_eq!(asked(&mut rig), None);
    assert!(rig.machine.stats(SUB).is_none(), "it is gone");
}
