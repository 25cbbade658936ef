//! What happens at each bound.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{Batch, Chunk, DeliveryResult, Limits, Ordering, Outcome, Report, SubId, Verdict};

use super::rig::{Rig, SUB, event, offsets, retry, spec};
use crate::{Action, Input, PauseReason, Warning};

#[test]
fn at_the_bound_of_parked_events_no_new_ones_start_but_retries_go_on() {
    for replayable in [true, false] {
        pauses_at_the_bound_of_parked_events(replayable);
    }
}

/// On disk it lags, and publishers go on for the others of the topic; in memory it is full, and they wait.
fn pauses_at_the_bound_of_parked_events(replayable: bool) {
    let full = |now: bool| if replayable { Vec::new() } else { vec![(SUB, now)] };
    let mut rig = Rig::with(Limits { parked: 2, ..Limits::default() }, replayable);
    rig.attach(SUB, spec("s", "t", Ordering::None));
    rig.publish(&["-", "-"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry(), retry()]);
    assert!(rig.out.iter().any(|action| matches!(action, Action::Warn(Warning::ParkedFull { sub: SUB }))));
    rig.publish(&["-"]);
    assert!(rig.chunks().is_empty());
    assert_eq!(rig.stats().paused, Some(PauseReason::ParkedFull));
    assert_eq!(rig.machine.full_changed(), full(true));
    rig.tick(100);
    assert_eq!(rig.fetch(), [0, 1]);
    let chunk = rig.chunk();
    rig.ack(&chunk);
    assert_eq!(offsets(&rig.chunk()), [2]);
    assert_eq!(rig.machine.full_changed(), full(false));
}

#[test]
fn at_the_bound_of_dead_letters_nothing_starts_until_one_is_dropped() {
    let mut rig = Rig::with(Limits { dead_letters: 1, ..Limits::default() }, true);
    rig.attach(SUB, spec("s", "t", Ordering::None));
    rig.publish(&["-"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![Outcome::Rejected { reason: "no".into() }]);
    rig.publish(&["-"]);
    assert!(rig.chunks().is_empty());
    assert_eq!(rig.stats().paused, Some(PauseReason::DeadFull));
    rig.step(Input::Drop { sub: SUB, offsets: vec![0] });
    assert_eq!(offsets(&rig.chunk()), [1]);
}

#[test]
fn a_backlog_over_its_limit_raises_full_and_lowers_it_below_nine_tenths() {
    let mut rig = Rig::with(Limits { backlog_bytes: 20_000, chunk_events: 1, ..Limits::default() }, false);
    rig.attach(SUB, spec("s", "t", Ordering::None));
    let mut published = 0;
    while rig.machine.full_changed().is_empty() {
        rig.publish(&["-"]);
        published += 1;
    }
    let full = rig.stats();
    assert!(full.full && full.backlog_bytes >= 20_000 && published < 200);
    while rig.stats().full {
        let before = rig.stats().backlog_bytes;
        assert!(before >= 18_000, "full is lowered at nine tenths");
        let chunk = rig.chunks().remove(0);
        rig.ack(&chunk);
    }
    assert_eq!(rig.machine.full_changed(), [(SUB, false)]);
}

#[test]
fn nothing_is_delivered_too_far_from_the_oldest_outstanding_event() {
    let mut rig = Rig::with(Limits { chunk_events: 1, ..Limits::default() }, false);
    let mut two = spec("s", "t", Ordering::None);
    two.concurrency = 2;
    rig.machine.set_spread(64);
    rig.attach(SUB, two);
    rig.publish(&["-"; 200]);
    let mut chunks = rig.chunks();
    let oldest = chunks.remove(0);
    let mut newest = 0;
    while let Some(chunk) = chunks.pop() {
        newest = newest.max(chunk.deliveries[0].logged.offset);
        rig.ack(&chunk);
        chunks.extend(rig.chunks());
    }
    assert_eq!(newest, 63);
    rig.ack(&oldest);
    assert_eq!(rig.chunks().len(), 2 + Chunk::AHEAD);
}

#[test]
fn one_full_subscription_leaves_others_alone() {
    let mut rig = Rig::with(Limits { parked: 1, ..Limits::default() }, true);
    rig.attach(SubId(1), spec("bad", "t", Ordering::None));
    rig.attach(SubId(2), spec("good", "t", Ordering::None));
    rig.publish(&["-"]);
    let chunks = rig.chunks();
    rig.report(&chunks[0], vec![retry()]);
    rig.ack(&chunks[1]);
    rig.publish(&["-"]);
    assert_eq!(rig.chunk().sub, SubId(2));
}

/// Each fails with a long error: the texts stay bounded, and another subscription gets all the same events meanwhile.
#[test]
fn a_hundred_thousand_parked_events_leave_others_and_the_memory_alone() {
    const EVENTS: usize = 100_000;
    let mut rig = Rig::with(Limits::default(), false);
    rig.attach(SubId(1), spec("bad", "t", Ordering::None));
    rig.attach(SubId(2), spec("good", "t", Ordering::None));
    let error = "x".repeat(5_000);
    let (mut acked, mut parked, mut text) = (0, 0, 0);
    for _ in 0..EVENTS / 250 {
        let events = (0..250).map(|n| Arc::new(event(n, "t", None))).collect();
        rig.step_unchecked(Input::Appended(Batch { first: acked as u64, events: Arc::new(events) }));
        loop {
            let chunks = rig.chunks();
            for chunk in &chunks {
                let outcome = || match chunk.sub {
                    SubId(1) => Outcome::Retry { reason: error.clone(), after: Some(Duration::from_hours(1)) },
                    _ => Outcome::Acked,
                };
                let results = chunk.deliveries.iter().map(|delivery| DeliveryResult {
                    offset: delivery.logged.offset,
                    outcome: outcome(),
                    effects: None,
                    busy_ns: 1,
                });
                acked += if chunk.sub == SubId(2) { chunk.deliveries.len() } else { 0 };
                let (chunk, sub, results) = (chunk.id, chunk.sub, results.collect());
                rig.step_unchecked(Input::Report(Report { chunk, sub, results, finished: true }));
            }
            for settlement in rig.settlements() {
                for settle in &settlement.settles {
                    if let Verdict::Parked(entry) = &settle.verdict {
                        parked += 1;
                        text += entry.attempts.iter().map(|attempt| attempt.error.len()).sum::<usize>();
                    }
                }
                let (sub, token) = (settlement.sub, settlement.token);
                rig.step_unchecked(Input::Settled { sub, token, conflicts: Vec::new() });
            }
            if chunks.is_empty() {
                break;
            }
        }
    }
    assert_eq!((acked, parked), (EVENTS, EVENTS));
    assert!(text <= 2_000 * 4_096 + EVENTS * 256, "{text} bytes of errors are kept");
    rig.machine.check_invariants();
}

#[test]
fn at_the_bound_of_parked_events_retries_wait_for_room_too() {
    let mut rig = Rig::with(Limits { parked: 1, ..Limits::default() }, true);
    let mut publishing = spec("s", "t", Ordering::None);
    publishing.may_publish = true;
    rig.attach(SUB, publishing);
    rig.publish(&["-"]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry()]);
    rig.step(Input::Room(false));
    rig.tick(100);
    rig.fetch();
    assert!(rig.chunks().is_empty(), "the first transaction is not sequenced yet");
    let settlement = rig.settlement();
    rig.settled(&settlement, &[]);
    assert_eq!(rig.chunk().deliveries.len(), 1);
}
