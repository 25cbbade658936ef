//! Cursors, conflicts and reports in parts.

use busway_types::{Ordering, Outcome, Report};

use super::rig::{Rig, SUB, offsets, read_result, result, retry, settled_offsets};
use crate::Input;

fn part(rig: &mut Rig, chunk: u64, results: Vec<busway_types::DeliveryResult>, finished: bool) {
    rig.step(Input::Report(Report { chunk, sub: SUB, results, finished }));
}

#[test]
fn the_cursor_stays_before_what_is_in_flight_and_jumps_when_it_is_done() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["-"; 40]);
    let chunks = rig.chunks();
    rig.ack(&chunks[1]);
    assert_eq!(rig.settlement().cursor, 0);
    rig.ack(&chunks[0]);
    assert_eq!(rig.settlement().cursor, 40);
}

#[test]
fn each_part_of_a_report_is_settled_on_its_own() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["-"; 3]);
    let chunk = rig.chunk();
    part(&mut rig, chunk.id, vec![result(0, Outcome::Acked)], false);
    let first = rig.settlement();
    assert_eq!((settled_offsets(&first), first.cursor), (vec![0], 1));
    part(&mut rig, chunk.id, vec![result(1, Outcome::Acked), result(2, Outcome::Acked)], true);
    let second = rig.settlement();
    assert_eq!((settled_offsets(&second), second.cursor), (vec![1, 2], 3));
}

#[test]
fn the_cursor_does_not_pass_a_delivery_that_may_conflict_until_it_is_sequenced() {
    let mut rig = Rig::one(Ordering::None);
    rig.publish(&["-"; 33]);
    let chunks = rig.chunks();
    let results = offsets(&chunks[0]).into_iter().map(read_result).collect();
    part(&mut rig, chunks[0].id, results, true);
    let uncertain = rig.settlement();
    assert_eq!(uncertain.cursor, 0);
    rig.ack(&chunks[1]);
    assert_eq!(rig.settlement().cursor, 0, "the other settlement is not sequenced yet");
    rig.settled(&uncertain, &[]);
    assert_eq!(rig.stats().cursor, 33);
}

#[test]
fn what_conflicts_runs_again_uncharged_and_in_order() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a", "b"]);
    let chunk = rig.chunk();
    part(&mut rig, chunk.id, vec![read_result(0), result(1, retry()), result(2, Outcome::Acked)], true);
    let settlement = rig.settlement();
    assert_eq!(settlement.cursor, 0);
    rig.publish(&["a"]);
    assert!(rig.chunks().is_empty());
    rig.settled(&settlement, &[0, 1]);
    assert_eq!(rig.stats().parked, 0, "the retry was void too");
    let again = rig.chunk();
    assert_eq!(offsets(&again), [0, 1, 3]);
    assert!(again.deliveries.iter().all(|delivery| delivery.attempt == 1));
    rig.ack(&again);
    assert_eq!(rig.settlement().cursor, 4);
}

#[test]
fn later_parts_of_a_report_wait_for_earlier_ones_that_may_conflict() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "a", "b"]);
    let chunk = rig.chunk();
    part(&mut rig, chunk.id, vec![read_result(0)], false);
    let first = rig.settlement();
    part(&mut rig, chunk.id, vec![result(1, Outcome::Acked), result(2, Outcome::Acked)], true);
    assert!(rig.settlements().is_empty());
    rig.settled(&first, &[0]);
    let second = rig.settlement();
    assert_eq!((settled_offsets(&second), second.cursor), (vec![2], 0), "the rest of the key is void");
    assert_eq!(offsets(&rig.chunk()), [0, 1]);
}

#[test]
fn a_retried_event_that_conflicts_keeps_its_attempts() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry()]);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    rig.tick(100);
    rig.fetch();
    let chunk = rig.chunk();
    part(&mut rig, chunk.id, vec![read_result(0)], true);
    let settlement = rig.settlement();
    rig.settled(&settlement, &[0]);
    assert_eq!(rig.chunk().deliveries[0].attempt, 2);
}

#[test]
fn a_finished_report_that_leaves_deliveries_out_gives_them_back() {
    let mut rig = Rig::one(Ordering::Key);
    rig.publish(&["a", "b"]);
    let chunk = rig.chunk();
    part(&mut rig, chunk.id, vec![result(0, Outcome::Acked)], true);
    assert_eq!(offsets(&rig.chunk()), [1]);
}
