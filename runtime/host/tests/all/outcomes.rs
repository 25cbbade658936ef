//! What becomes of deliveries, and which later ones are void.

use busway_types::{Ordering, Outcome};

use crate::support::Bench;

#[test]
fn an_event_reaches_the_handler_as_it_was_published() {
    let bench = Bench::new();
    assert_eq!(bench.reason(1, "x"), "00000000-0000-0000-0000-0000000003e9");
    assert_eq!(bench.reason(2, "h"), "value");
    let with_key = bench.run(3, Ordering::Key, &[("k", Some("the key"))]);
    assert_eq!(with_key[0].outcome, Outcome::Rejected { reason: "the key".into() });
}

#[test]
fn the_answer_of_the_handler_is_the_outcome() {
    let bench = Bench::new();
    let reason = String::from("that went wrong");
    assert_eq!(
        bench.outcomes(1, &[".", "r", "j", "."]),
        [
            Outcome::Acked,
            Outcome::Retry { reason: reason.clone(), after: None },
            Outcome::Rejected { reason },
            Outcome::Acked
        ]
    );
    let stats = bench.lane.stats();
    assert_eq!((stats.acked, stats.retried, stats.rejected), (2, 1, 1));
    assert!(stats.memory_bytes >= 4 * 65_536);
}

#[test]
fn after_a_failure_only_events_of_its_key_are_void() {
    let bench = Bench::new();
    let results =
        bench.run(1, Ordering::Key, &[("r", Some("a")), (".", Some("b")), (".", Some("a")), ("r", None), (".", None)]);
    let acked: Vec<_> = results.iter().map(|result| result.outcome == Outcome::Acked).collect();
    assert_eq!(acked, [false, true, false, false, true]);
    assert_eq!(results[2].outcome, Outcome::Skipped);
}

#[test]
fn strict_order_voids_the_rest_and_no_order_voids_nothing() {
    let bench = Bench::new();
    let events = [("r", Some("a")), (".", Some("b")), (".", Some("a"))];
    let strict: Vec<_> = bench.run(1, Ordering::Strict, &events).into_iter().map(|result| result.outcome).collect();
    assert_eq!(strict[1..], [Outcome::Skipped, Outcome::Skipped]);
    let none: Vec<_> = bench.run(2, Ordering::None, &events).into_iter().map(|result| result.outcome).collect();
    assert_eq!(none[1..], [Outcome::Acked, Outcome::Acked]);
}

#[test]
fn a_trap_voids_the_rest_and_costs_the_instance() {
    let bench = Bench::new();
    let outcomes = bench.outcomes(1, &[".", "t", "."]);
    assert_eq!(outcomes[0], Outcome::Acked);
    let Outcome::Trapped { reason } = &outcomes[1] else { panic!("{:?}", outcomes[1]) };
    assert!(reason.contains("unreachable"), "{reason}");
    assert_eq!(outcomes[2], Outcome::Skipped);
    assert_eq!(bench.lane.stats().instances, 0);
    // `n` is acknowledged only by an instance that handled nothing before.
    assert_eq!(bench.outcomes(2, &["n", "n"])[0], Outcome::Acked);
}

#[test]
fn what_the_guest_wrote_to_stderr_is_in_the_reason_of_its_trap() {
    let bench = Bench::new();
    let reason = bench.reason(1, "e");
    assert!(reason.contains("unreachable") && reason.contains("panicked: boom"), "{reason}");
    assert_eq!(*bench.bus.lines.lock().unwrap(), ["thread 'main' panicked: boom"]);
}

#[test]
fn output_beyond_the_budget_is_counted_and_dropped() {
    let bench = Bench::new();
    assert_eq!(bench.outcomes(1, &["o"]), [Outcome::Acked]);
    let lines = bench.bus.lines.lock().unwrap();
    let kept: usize = lines.iter().map(String::len).sum();
    assert!(kept < 70 * 1024, "{kept} bytes kept");
    assert!(lines.last().unwrap().starts_with("344064 bytes of output dropped"), "{:?}", lines.last());
}

#[test]
fn handlers_are_asked_for_their_subscriptions() {
    assert_eq!(Bench::new().lane.subscriptions(), Ok(vec!["in.>".to_owned()]));
}
