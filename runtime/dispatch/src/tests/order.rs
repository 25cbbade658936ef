//! What waits for what.

use busway_types::{
    Chunk, DeliveryResult, Limits, Ordering, Outcome, Parked, Report, SubscriptionState, Timestamp, Verdict,
};

use super::rig::{Rig, SUB, offsets, result, retry, settled_offsets, spec};
use crate::Input;

#[test]
fn a_key_is_never_in_two_chunks_and_others_go_on() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a"]);
    let first = rig.chunk();
    rig.publish(&["a", "b"]);
    assert_eq!(offsets(&rig.chunk()), [3]);
    rig.ack(&first);
    assert!(rig.chunks().is_empty(), "not before the settlement is sequenced");
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert_eq!(offsets(&rig.chunk()), [2]);
}

#[test]
fn events_without_a_key_do_not_wait_for_the_sequence() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["-"; 3]);
    let first = rig.chunk();
    for _ in 0..Chunk::AHEAD {
        rig.publish(&["-"]);
        assert_eq!(rig.chunks().len(), 1);
    }
    rig.publish(&["-"]);
    assert!(rig.chunks().is_empty());
    rig.ack(&first);
    assert_eq!(offsets(&rig.chunk()), [3 + Chunk::AHEAD as u64]);
}

#[test]
fn a_hot_key_with_a_long_backlog_moves_in_chunks() {
    let mut rig = Rig::with(Limits::default(), false);
    rig.attach(SUB, spec("s", "t", Ordering::Key));
    rig.publish(&vec!["hot"; 10_000]);
    let mut seen = Vec::new();
    while seen.len() < 10_000 {
        let chunk = rig.chunk();
        assert!(chunk.deliveries.len() <= 256);
        seen.extend(offsets(&chunk));
        let mut results = Vec::new();
        for delivery in &chunk.deliveries {
            results.push(DeliveryResult { busy_ns: 100, ..result(delivery.logged.offset, Outcome::Acked) });
        }
        rig.machine.step(
            Timestamp(1),
            Input::Report(Report { chunk: chunk.id, sub: SUB, results, finished: true }),
            &mut rig.out,
        );
        let settlement = rig.settlement();
        let (sub, token) = (settlement.sub, settlement.token);
        rig.machine.step(Timestamp(1), Input::Settled { sub, token, conflicts: Vec::new() }, &mut rig.out);
    }
    assert!(seen.is_sorted());
    assert!(rig.machine.is_idle());
}

#[test]
fn later_events_of_a_parked_key_park_behind_it_durably_and_the_cursor_moves_on() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a", "b"]);
    let chunk = rig.chunk();
    rig.publish(&["a"]);
    rig.report(&chunk, vec![retry(), Outcome::Skipped, Outcome::Acked]);
    let settlement = rig.settlement();
    assert_eq!(settled_offsets(&settlement), [0, 2, 1, 3]);
    assert_eq!(settlement.cursor, 4);
    let behind = |offset| Verdict::Parked(Parked { offset, due: None, attempts: Vec::new() });
    assert_eq!(settlement.settles[2].verdict, behind(1));
    assert_eq!(settlement.settles[3].verdict, behind(3));
    rig.settled(&settlement, &[]);
    rig.publish(&["a", "c"]);
    let later = rig.settlement();
    assert_eq!((settled_offsets(&later), later.cursor), (vec![4], 5));
    assert_eq!(offsets(&rig.chunk()), [5], "other keys go on");
    assert_eq!(rig.stats().backlog_events, 1, "no parked body is held");
}

#[test]
fn when_a_parked_head_is_acked_the_next_of_its_key_follow_in_order() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a", "a"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry(), Outcome::Skipped, Outcome::Skipped]);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert_eq!(rig.machine.next_due(), Some(Timestamp(1_100)));
    rig.tick(99);
    assert!(rig.out.is_empty());
    rig.tick(1);
    assert_eq!(rig.fetch(), [0, 1, 2]);
    let again = rig.chunk();
    assert_eq!(offsets(&again), [0, 1, 2]);
    assert_eq!(again.deliveries.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [2, 1, 1]);
    rig.ack(&again);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert!(rig.machine.is_idle());
}

#[test]
fn when_a_parked_head_fails_again_those_behind_it_go_on_waiting() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry(), Outcome::Skipped]);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    rig.tick(100);
    rig.fetch();
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry(), Outcome::Skipped]);
    let settlement = rig.settlement();
    assert_eq!(settled_offsets(&settlement), [0], "the other one is parked already");
    rig.settled(&settlement, &[]);
    assert!(rig.out.is_empty());
    assert_eq!(rig.machine.next_due(), Some(Timestamp(1_300)));
}

#[test]
fn a_dead_head_lets_the_next_of_its_key_go() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![Outcome::Rejected { reason: "no".into() }, Outcome::Skipped]);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert_eq!(offsets(&rig.chunk()), [1]);
    assert_eq!(rig.stats().dead, 1);
}

#[test]
fn strict_runs_one_chunk_at_a_time_and_a_failure_blocks_the_rest_unparked() {
    let mut rig = Rig::with(Limits::default(), true);
    let mut strict = spec("s", "t", Ordering::Strict);
    strict.concurrency = 4;
    rig.attach(SUB, strict);
    rig.publish(&["a", "b", "c"]);
    let chunk = rig.chunk();
    assert_eq!(offsets(&chunk), [0, 1, 2]);
    rig.publish(&["d"]);
    assert!(rig.chunks().is_empty());
    rig.report(&chunk, vec![Outcome::Acked, retry(), Outcome::Skipped]);
    let settlement = rig.settlement();
    assert_eq!(settled_offsets(&settlement), [0, 1]);
    assert_eq!(settlement.cursor, 2, "the one that waits is not settled");
    rig.settled(&settlement, &[]);
    assert!(rig.chunks().is_empty());
    rig.tick(100);
    assert_eq!(rig.fetch(), [1]);
    let chunk = rig.chunk();
    assert_eq!(offsets(&chunk), [1]);
    rig.ack(&chunk);
    assert!(rig.chunks().is_empty());
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert_eq!(offsets(&rig.chunk()), [2, 3]);
}

#[test]
fn without_ordering_a_failed_event_holds_up_nobody() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["a", "a", "a"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry(), Outcome::Acked, Outcome::Acked]);
    let settlement = rig.settlement();
    assert!(settlement.settles.iter().all(|settle| settle.group.is_none()));
    assert_eq!(settlement.cursor, 3);
    rig.publish(&["a"]);
    assert_eq!(offsets(&rig.chunk()), [3]);
}

#[test]
fn after_a_restart_the_keys_of_parked_events_are_learned_before_anything_is_delivered() {
    let mut rig = Rig::with(Limits::default(), true);
    rig.publish(&["a", "b", "a", "b"]);
    let parked = |offset, due| Parked { offset, due, attempts: Vec::new() };
    rig.step(Input::Attach {
        sub: SUB,
        spec: spec("s", "t", Ordering::Key),
        state: SubscriptionState {
            cursor: 1,
            settled: vec![(2, 3)],
            parked: vec![parked(0, Some(Timestamp(5_000))), parked(2, None)],
            ..SubscriptionState::default()
        },
        head: 4,
    });
    assert_eq!(rig.read().map(|read| read.0), Some(1));
    rig.answer_read(1, 4);
    assert!(rig.chunks().is_empty(), "offset 1 could be of the parked key");
    assert_eq!(rig.fetch(), [0, 2]);
    assert_eq!(offsets(&rig.chunk()), [1, 3]);
    rig.publish(&["a"]);
    assert_eq!(settled_offsets(&rig.settlement()), [4], "parked behind");
    rig.tick(4_000);
    assert_eq!(rig.fetch(), [0, 2, 4]);
}
