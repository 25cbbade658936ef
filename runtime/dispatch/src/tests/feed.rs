//! Following the tail, lagging, and catching up.

use std::sync::Arc;

use busway_types::{Batch, Limits, Ordering, SubscriptionState};

use super::rig::{Rig, SUB, event, offsets, spec};
use crate::{Action, Input, Warning};

fn small(replayable: bool) -> Rig {
    let limits = Limits { window_events: 8, chunk_events: 4, ..Limits::default() };
    let mut rig = Rig::with(limits, replayable);
    rig.attach(SUB, spec("s", "t", Ordering::None));
    rig
}

#[test]
fn a_full_window_makes_it_lag_and_half_a_window_makes_it_read_on() {
    let mut rig = small(true);
    rig.publish(&["-"; 10]);
    assert_eq!((rig.stats().backlog_events, rig.stats().lagging), (8, true));
    assert_eq!(rig.read(), None);
    let chunks = rig.chunks();
    rig.ack(&chunks[0]);
    assert_eq!(rig.read(), Some((8, 4)));
    rig.ack(&chunks[1]);
    assert_eq!(rig.read(), None, "one read at a time");
    rig.answer_read(8, 10);
    assert!(!rig.stats().lagging);
    rig.publish(&["-"]);
    let seen: Vec<u64> = rig.chunks().iter().flat_map(offsets).collect();
    assert_eq!(seen, [8, 9, 10]);
}

#[test]
fn a_subscription_that_starts_behind_reads_until_it_has_caught_up() {
    let mut rig = Rig::with(Limits::default(), true);
    rig.publish(&["-"; 3]);
    let state = SubscriptionState::default();
    let mut wide = spec("s", "t", Ordering::None);
    wide.concurrency = 2;
    rig.step(Input::Attach { sub: SUB, spec: wide, state, head: 3 });
    assert_eq!(rig.read().map(|read| read.0), Some(0));
    rig.publish(&["-"]);
    assert_eq!(rig.read(), None);
    rig.answer_read(0, 3);
    assert_eq!(rig.read().map(|read| read.0), Some(3));
    rig.answer_read(3, 4);
    rig.publish(&["-"]);
    let seen: Vec<u64> = rig.chunks().iter().flat_map(offsets).collect();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[test]
fn a_read_that_went_past_the_tail_is_not_repeated_by_the_tail() {
    let mut rig = Rig::with(Limits::default(), true);
    rig.publish(&["-"]);
    let state = SubscriptionState::default();
    rig.step(Input::Attach { sub: SUB, spec: spec("s", "t", Ordering::None), state, head: 3 });
    rig.read();
    rig.log.extend((1..3).map(|n| Arc::new(event(n, "t", None))));
    rig.answer_read(0, 3);
    let events = Arc::new(rig.log[1..].to_vec());
    rig.step(Input::Appended(Batch { first: 1, events }));
    let seen: Vec<u64> = rig.chunks().iter().flat_map(offsets).collect();
    assert_eq!(seen, [0, 1, 2]);
}

#[test]
fn a_read_that_gives_nothing_is_repeated_after_a_while_not_at_once() {
    let mut rig = Rig::with(Limits::default(), true);
    rig.publish(&["-"]);
    let state = SubscriptionState::default();
    rig.step(Input::Attach { sub: SUB, spec: spec("s", "t", Ordering::None), state, head: 1 });
    rig.read();
    rig.answer_read(0, 0);
    assert_eq!(rig.read(), None);
    assert!(rig.machine.next_due().is_some());
    rig.tick(10);
    assert_eq!(rig.read().map(|read| read.0), Some(0));
}

#[test]
fn without_replay_everything_that_waits_is_held_and_never_read() {
    let mut rig = small(false);
    rig.publish(&["-"; 100]);
    assert_eq!((rig.stats().backlog_events, rig.stats().lagging), (100, false));
    assert!(!rig.out.iter().any(|action| matches!(action, Action::Read { .. })));
}

#[test]
fn a_gap_in_the_tail_is_read() {
    let mut rig = small(true);
    rig.publish(&["-"]);
    rig.chunks();
    rig.log.extend((1..3).map(|n| Arc::new(event(n, "t", None))));
    let events = Arc::new(vec![rig.log[2].clone()]);
    rig.step(Input::Appended(Batch { first: 2, events }));
    assert!(rig.out.iter().any(|a| matches!(a, Action::Warn(Warning::Gap { expected: 1, found: 2 }))));
    assert_eq!(rig.read().map(|read| read.0), Some(1));
    rig.answer_read(1, 3);
    assert_eq!(offsets(&rig.chunk()), [1, 2]);
}
