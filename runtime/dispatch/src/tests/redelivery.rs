//! Retries, dead letters and calling them back.

use busway_types::{DeadReason, Limits, Offset, Ordering, Outcome, Parked, SubscriptionState, Timestamp, Verdict};

use super::rig::{Rig, SUB, offsets, retry, settled_offsets, spec};
use crate::{Action, Input, Warning};

fn fail(rig: &mut Rig, outcome: Outcome) -> Verdict {
    let chunk = rig.chunk();
    rig.report(&chunk, vec![outcome]);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    settlement.settles[0].verdict.clone()
}

#[test]
fn a_failing_event_is_retried_with_growing_waits_and_then_given_up_with_all_attempts() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["-"]);
    let Verdict::Parked(parked) = fail(&mut rig, retry()) else { panic!("not parked") };
    assert_eq!((parked.due, parked.attempts.len()), (Some(Timestamp(1_100)), 1));
    assert!(!rig.machine.is_idle());
    rig.tick(100);
    rig.fetch();
    let Verdict::Parked(parked) = fail(&mut rig, Outcome::Trapped { reason: "oops".into() }) else {
        panic!("not parked")
    };
    assert_eq!((parked.due, parked.attempts.len()), (Some(Timestamp(1_300)), 2));
    rig.tick(200);
    rig.fetch();
    let Verdict::Dead { reason, attempts, .. } = fail(&mut rig, Outcome::TimedOut { reason: "slow".into() }) else {
        panic!("not dead")
    };
    let errors: Vec<&str> = attempts.iter().map(|attempt| attempt.error.as_str()).collect();
    assert_eq!((reason, errors), (DeadReason::TimedOut, vec!["busy", "oops", "slow"]));
    assert!(rig.machine.is_idle());
}

#[test]
fn a_skipped_event_without_a_failed_predecessor_comes_back_uncharged() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["-", "b"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![Outcome::Trapped { reason: "oops".into() }, Outcome::Skipped]);
    assert_eq!(settled_offsets(&rig.settlement()), [0]);
    let again = rig.chunk();
    assert_eq!((offsets(&again), again.deliveries[0].attempt), (vec![1], 1));
}

#[test]
fn parked_and_dead_events_travel_with_their_verdict() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "b", "c"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry(), Outcome::Rejected { reason: "no".into() }, Outcome::Acked]);
    let settlement = rig.settlement();
    let carried: Vec<bool> = settlement.settles.iter().map(|settle| settle.event.is_some()).collect();
    assert_eq!(carried, [true, true, false]);
}

#[test]
fn a_parked_event_whose_body_is_gone_is_settled_with_a_warning() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry(), Outcome::Skipped]);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    rig.tick(100);
    rig.out.clear();
    let event = rig.log[1].clone();
    let events = vec![busway_types::Logged { offset: 1, event }];
    rig.step(Input::Fetched { sub: SUB, events, asked: vec![0, 1] });
    assert!(rig.out.iter().any(|a| matches!(a, Action::Warn(Warning::BodyGone { sub: SUB, offset: 0 }))));
    assert_eq!(rig.settlement().settles[0].verdict, Verdict::Acked(None));
    assert_eq!(offsets(&rig.chunk()), [1]);
}

fn with_dead(dead: &[Offset], ordering: Ordering) -> Rig {
    let mut rig = Rig::with(Limits::default(), true);
    rig.publish(&["a", "a"]);
    let letter = |&offset: &Offset| busway_types::DeadLetter {
        offset,
        reason: DeadReason::Rejected,
        time: Timestamp(1),
        attempts: Vec::new(),
    };
    let state = SubscriptionState { cursor: 2, dead: dead.iter().map(letter).collect(), ..Default::default() };
    rig.step(Input::Attach { sub: SUB, spec: spec("s", "t", ordering), state, head: 2 });
    rig
}

#[test]
fn revived_dead_letters_are_fetched_and_delivered_again_with_fresh_attempts() {
    for ordering in [Ordering::Key, Ordering::None, Ordering::Strict] {
        let mut rig = with_dead(&[0], ordering);
        rig.step(Input::Revive { sub: SUB, offsets: vec![0, 1] });
        let settlement = rig.settlement();
        assert_eq!(settled_offsets(&settlement), [0], "offset 1 is no dead letter");
        assert_eq!(settlement.settles[0].verdict, Verdict::Revived);
        rig.settled(&settlement, &[]);
        while rig.stats().in_flight == 0 {
            rig.fetch();
        }
        let chunk = rig.chunk();
        assert_eq!((offsets(&chunk), chunk.deliveries[0].attempt), (vec![0], 1));
        rig.ack(&chunk);
        let settlement = rig.settlement();
        rig.settled(&settlement, &[]);
        assert!(rig.machine.is_idle());
    }
}

#[test]
fn dropped_dead_letters_are_settled_once() {
    let mut rig = with_dead(&[0, 1], Ordering::Key);
    rig.step(Input::Drop { sub: SUB, offsets: vec![0, 0, 7] });
    let settlement = rig.settlement();
    assert_eq!((settled_offsets(&settlement), rig.stats().dead), (vec![0], 1));
    assert_eq!(settlement.settles[0].verdict, Verdict::Dropped);
}

#[test]
fn settled_offsets_are_skipped_when_reading_again_after_a_restart() {
    let mut rig = Rig::with(Limits::default(), true);
    rig.publish(&["-"; 5]);
    let parked = vec![Parked { offset: 3, due: Some(Timestamp(9_000)), attempts: Vec::new() }];
    let state = SubscriptionState { cursor: 1, settled: vec![(2, 4)], parked, ..Default::default() };
    rig.step(Input::Attach { sub: SUB, spec: spec("s", "t", Ordering::None), state, head: 5 });
    rig.read();
    rig.answer_read(1, 5);
    assert_eq!(offsets(&rig.chunk()), [1, 4]);
}
