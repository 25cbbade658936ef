//! Guests that want more than they may have.

use std::time::{Duration, Instant};

use busway_types::{Ordering, Outcome};

use crate::support::{Bench, TestBus, chunk, settings};

#[expect(clippy::disallowed_methods, reason = "these tests measure real time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn an_endless_loop_times_out_on_time() {
    let bench = Bench::new();
    let began = now();
    let outcomes = bench.outcomes(1, &[".", "l", "."]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let Outcome::TimedOut { reason } = &outcomes[1] else { panic!("{:?}", outcomes[1]) };
    assert!(reason.starts_with("handler ran longer than 500 ms"), "{reason}");
    assert_eq!(outcomes[2], Outcome::Skipped);
}

#[test]
fn sleeping_does_not_outlast_the_timeout() {
    let bench = Bench::new();
    let began = now();
    assert!(bench.reason(1, "z").starts_with("handler ran longer than 500 ms"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(bench.outcomes(2, &["q"]), [Outcome::Acked]);
}

#[test]
fn results_are_not_held_back_by_a_long_event() {
    let bench = Bench::new();
    bench.lane.submit(chunk(1, Ordering::Key, &[(".", None), ("l", None)])).unwrap();
    bench.sink.wait(|reports| !reports.is_empty());
    let first = bench.sink.reports.lock().unwrap()[0].clone();
    assert_eq!((first.results.len(), first.finished), (1, false));
    assert_eq!(bench.sink.finished(1).len(), 2);
}

#[test]
fn spinning_guests_share_a_slot_and_do_not_hold_others_up() {
    let spinners = Bench::with(settings(), TestBus::default(), 4);
    for id in 0..4 {
        spinners.lane.submit(chunk(id, Ordering::Key, &[("l", None)])).unwrap();
    }
    let healthy = Bench::new();
    let began = now();
    for id in 0..20 {
        assert_eq!(healthy.outcomes(id, &["."]), [Outcome::Acked]);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for id in 0..4 {
        let result = spinners.sink.finished(id).remove(0);
        assert!(matches!(result.outcome, Outcome::TimedOut { .. }));
        assert!(result.busy_ns < 1_500_000_000, "waiting was charged: {} ns", result.busy_ns);
    }
}

#[test]
fn memory_beyond_the_limit_is_refused_and_told() {
    let reason = Bench::new().reason(1, "m");
    assert!(reason.starts_with("memory limit of 4 MiB reached"), "{reason}");
}

#[test]
fn endless_recursion_traps() {
    let reason = Bench::new().reason(1, "s");
    assert!(reason.contains("call stack exhausted"), "{reason}");
}

#[test]
fn ten_thousand_aliased_strings_do_not_become_host_memory() {
    let reason = Bench::new().reason(1, "a");
    assert!(reason.starts_with("one call passed more"), "{reason}");
}

#[test]
fn a_flood_of_publishes_is_refused() {
    assert_eq!(Bench::new().reason(1, "F"), "one delivery may publish at most 1000 events");
}

#[test]
fn the_outbox_counts_towards_the_memory_limit() {
    let tight = busway_host::ServiceSettings { memory_bytes: 3 * 1024 * 1024, ..settings() };
    let reason = Bench::with(tight, TestBus::default(), 1).reason(1, "B");
    assert_eq!(reason, "the memory limit of 3 MiB is reached");
}
