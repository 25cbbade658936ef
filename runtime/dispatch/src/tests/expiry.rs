//! Events that expire are counted and settled, never delivered.

use std::sync::Arc;

use busway_types::{Event, Ordering, Timestamp, Verdict};

use super::rig::{Rig, event, offsets, retry, settled_offsets};
use crate::Input;

/// Events of topic `t` with a key (`-` for none) and a time at which they expire (0 for never). The rig lives at 1,000.
fn publish(rig: &mut Rig, events: &[(&str, u64)]) {
    let first = rig.log.len() as u64;
    let events = events.iter().zip(first..).map(|((key, at), n)| {
        let expires = (*at > 0).then_some(Timestamp(*at));
        Arc::new(Event { expires, ..event(n, "t", Some(*key).filter(|key| *key != "-")) })
    });
    rig.append(events.collect());
}

fn expired(rig: &mut Rig) -> Vec<u64> {
    let settlements = rig.settlements();
    for settlement in &settlements {
        rig.settled(settlement, &[]);
    }
    let all = settlements.iter().flat_map(|settlement| &settlement.settles);
    all.filter(|settle| settle.verdict == Verdict::Expired).map(|settle| settle.offset).collect()
}

#[test]
fn what_has_expired_when_it_comes_is_settled_and_the_cursor_passes_it() {
    let mut rig = Rig::one(Ordering::Key);
    publish(&mut rig, &[("a", 1_000), ("-", 999), ("a", 1_001)]);
    assert_eq!(offsets(&rig.chunk()), [2], "at its time an event has expired");
    let settlement = rig.settlement();
    assert_eq!((settled_offsets(&settlement), settlement.cursor), (vec![0, 1], 2));
    assert_eq!(rig.stats().expired, 2);
}

#[test]
fn what_expires_while_it_waits_is_left_out_when_a_chunk_is_cut() {
    for ordering in [Ordering::Key, Ordering::None, Ordering::Strict] {
        let mut rig = Rig::one(ordering);
        publish(&mut rig, &[("a", 0)]);
        let mut flying = rig.chunks();
        publish(&mut rig, &[("a", 1_050), ("a", 1_050), ("a", 0), ("a", 1_050), ("a", 9_000)]);
        // Without order they are on a lane already, unless the lane has enough.
        flying.extend(rig.chunks());
        let ahead: Vec<u64> = flying.iter().flat_map(offsets).collect();
        rig.tick(50);
        for chunk in &flying {
            rig.ack(chunk);
        }
        let mut gone = expired(&mut rig);
        gone.extend(expired(&mut rig));
        let rest: Vec<u64> = rig.chunks().iter().flat_map(offsets).collect();
        if ordering == Ordering::None {
            assert_eq!(ahead, [0, 1, 2, 3, 4, 5]);
        } else {
            assert_eq!((gone, rest, rig.stats().expired), (vec![1, 2, 4], vec![3, 5], 3), "{ordering:?}");
        }
    }
}

#[test]
fn a_key_whose_whole_backlog_expired_does_not_stand_in_the_way() {
    let mut rig = Rig::one(Ordering::Key);
    publish(&mut rig, &[("a", 0)]);
    let first = rig.chunk();
    publish(&mut rig, &vec![("a", 1_010); 1_000]);
    publish(&mut rig, &[("b", 0), ("a", 0)]);
    rig.step(Input::Paused { sub: super::rig::SUB, paused: true });
    rig.tick(10);
    rig.ack(&first);
    rig.step(Input::Paused { sub: super::rig::SUB, paused: false });
    let mut delivered = Vec::new();
    let mut gone = expired(&mut rig);
    for _ in 0..10 {
        for chunk in rig.chunks() {
            delivered.extend(offsets(&chunk));
            rig.ack(&chunk);
        }
        gone.extend(expired(&mut rig));
    }
    delivered.sort_unstable();
    assert_eq!((delivered.last(), gone.len()), (Some(&1_002), 1_000));
    assert!(rig.machine.is_idle());
    assert_eq!(rig.stats().cursor, 1_003);
}

#[test]
fn a_retry_that_expired_is_no_dead_letter_and_frees_its_key() {
    for ordering in [Ordering::Key, Ordering::None, Ordering::Strict] {
        let mut rig = Rig::one(ordering);
        publish(&mut rig, &[("a", 1_050), ("a", 0)]);
        let chunk = rig.chunk();
        rig.report(&chunk, vec![retry(), busway_types::Outcome::Skipped]);
        assert_eq!(expired(&mut rig), Vec::<u64>::new());
        if ordering == Ordering::None {
            let second = rig.chunk();
            rig.ack(&second);
            expired(&mut rig);
        }
        rig.tick(100);
        rig.fetch();
        assert_eq!(expired(&mut rig), [0]);
        let stats = rig.stats();
        assert_eq!((stats.expired, stats.dead), (1, 0));
        if ordering != Ordering::None {
            if stats.in_flight == 0 {
                rig.fetch();
            }
            let next = rig.chunk();
            assert_eq!(offsets(&next), [1]);
            rig.ack(&next);
            expired(&mut rig);
        }
        assert!(rig.machine.is_idle(), "{ordering:?}");
    }
}

#[test]
fn a_fetched_retry_that_expires_before_it_starts_is_left_out() {
    let mut rig = Rig::one(Ordering::Key);
    publish(&mut rig, &[("a", 1_150), ("-", 1_150)]);
    let chunk = rig.chunk();
    rig.report(&chunk, vec![retry(), retry()]);
    expired(&mut rig);
    rig.tick(100);
    rig.step(Input::Paused { sub: super::rig::SUB, paused: true });
    rig.fetch();
    rig.tick(100);
    rig.step(Input::Paused { sub: super::rig::SUB, paused: false });
    assert!(rig.chunks().is_empty());
    let mut gone = expired(&mut rig);
    gone.sort_unstable();
    assert_eq!(gone, [0, 1]);
    assert!(rig.machine.is_idle());
}
