//! The journey of an event, over services, retries, dead letters, replays and restarts.

use busway_gateway::api::{ReplayRequest, TailFrom, Trace, TraceDelivery, TraceOutcome, TraceQuery};
use busway_tests::programs;
use busway_types::{DeadReason, EventId};

use crate::harness::{App, Bus, event, keyed};

/// `in` goes through `forward` to `public.failing`, which is handled by `failing` and counted by `count`.
fn journey() -> App {
    let forward = "subscribe = [\"in\"]\npublish = [\"public.>\"]\nconfig = { to = \"public.failing\" }\n";
    let failing = "publish = [\"public.>\"]\nretry = { attempts = 2, backoff = \"10ms\" }\n";
    App::new().service("forward", programs::FORWARD, forward).service("failing", programs::FAILING, failing).service(
        "count",
        programs::COUNT,
        "subscribe = [\"public.failing\"]\n",
    )
}

async fn trace(bus: &Bus, id: EventId) -> Trace {
    bus.node.admin().trace(id, TraceQuery::default()).await.expect("traced")
}

fn delivery<'a>(trace: &'a Trace, topic: &str, service: &str) -> &'a TraceDelivery {
    let event = trace.events.iter().find(|event| event.topic.as_str() == topic);
    let event = event.unwrap_or_else(|| panic!("no event of {topic}: {trace:#?}"));
    let found = event.deliveries.iter().find(|delivery| delivery.subscription == service);
    found.unwrap_or_else(|| panic!("{service} is not told: {event:#?}"))
}

fn topics(trace: &Trace) -> Vec<&str> {
    trace.events.iter().map(|event| event.topic.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_is_told_from_its_first_cause_to_its_last_effect_also_after_a_restart() {
    let app = journey();
    let bus = app.run_on_disk().await;
    let unrelated = bus.send("in", "unrelated").await.id;
    let retried = bus.publish(vec![keyed("in", "k", "retry:1")]).await.remove(0).id;
    let rejected = bus.send("in", "reject").await.id;
    bus.idle().await;
    let before = [trace(&bus, retried).await, trace(&bus, rejected).await];
    bus.stop().await;
    let bus = app.run_on_disk().await;
    let after = [trace(&bus, retried).await, trace(&bus, rejected).await];
    assert_eq!(before, after);
    let [retried, rejected] = after;

    assert_eq!(topics(&retried), ["in", "public.failing", "public.failing.out"]);
    assert!(retried.recorded && retried.complete && !retried.more && !retried.cause_gone);
    let forward = delivery(&retried, "in", "forward");
    assert_eq!((forward.outcome, forward.attempts, forward.handled), (TraceOutcome::Acked, Some(1), 1));
    let failing = delivery(&retried, "public.failing", "failing");
    assert_eq!((failing.outcome, failing.attempts, failing.errors.len()), (TraceOutcome::Acked, Some(2), 1));
    assert!(failing.errors[0].error.contains("attempt 1 of 1"), "{failing:?}");
    let at = (forward.time_ms.expect("recorded"), failing.time_ms.expect("recorded"));
    assert!(retried.events[0].time_ms <= at.0 && at.0 < at.1, "{at:?}");
    assert_eq!(delivery(&retried, "public.failing", "count").outcome, TraceOutcome::Acked);
    assert!(retried.events.iter().all(|event| event.deliveries.len() <= 2), "others did not select it");

    assert_eq!(topics(&rejected), ["in", "public.failing"]);
    let failing = delivery(&rejected, "public.failing", "failing");
    assert_eq!((failing.outcome, failing.reason), (TraceOutcome::Dead, Some(DeadReason::Rejected)));
    assert!(failing.errors[0].error.contains("told to reject"), "{failing:?}");

    // From the middle of a journey the way up is found as well.
    let middle = trace(&bus, retried.events[1].id).await;
    assert_eq!((middle.events.len(), middle.events[0].id), (3, retried.events[0].id));
    assert!(middle.events.iter().all(|event| event.id != unrelated));
    let one = bus.node.admin().trace(middle.id, TraceQuery { limit: Some(2) }).await.expect("traced");
    assert_eq!((one.events.len(), one.more), (2, true));
    let nobody = bus.node.admin().trace(EventId::from_u128(1), TraceQuery::default()).await;
    assert_eq!(nobody.expect_err("no such event").status(), 404);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_and_a_dropped_dead_letter_are_told() {
    let app = journey();
    let bus = app.run_on_disk().await;
    let id = bus.send("in", "reject").await.id;
    bus.idle().await;
    let replay = ReplayRequest { service: "forward".into(), from: TailFrom::Start, ..ReplayRequest::default() };
    bus.node.admin().replay(replay).await.expect("moved");
    bus.idle().await;
    let told = trace(&bus, id).await;
    assert_eq!(topics(&told), ["in", "public.failing", "public.failing"], "its effect is there twice");
    assert_eq!(delivery(&told, "in", "forward").handled, 2);
    let second = told.events[2].id;
    let drop = busway_gateway::api::DeadFilter { id: Some(second), ..Default::default() };
    assert_eq!(bus.node.admin().dead_drop(drop).await.expect("dropped").changed, 1);
    let told = trace(&bus, id).await;
    let outcomes = told.events[1..].iter().map(|event| {
        let failing = event.deliveries.iter().find(|delivery| delivery.subscription == "failing");
        failing.map(|failing| (failing.outcome, failing.errors.len()))
    });
    let wanted = [Some((TraceOutcome::Dead, 1)), Some((TraceOutcome::Dropped, 1))];
    assert_eq!(outcomes.collect::<Vec<_>>(), wanted);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_the_journey_is_told_without_what_is_over() {
    let app = journey();
    let bus = app.run().await;
    let id = bus.publish(vec![event("in", "reject")]).await.remove(0).id;
    bus.idle().await;
    let told = trace(&bus, id).await;
    assert_eq!(topics(&told), ["in", "public.failing"]);
    assert!(!told.recorded && told.complete);
    let forward = delivery(&told, "in", "forward");
    assert_eq!((forward.outcome, forward.attempts, forward.time_ms), (TraceOutcome::Settled, None, None));
    assert_eq!(delivery(&told, "public.failing", "failing").outcome, TraceOutcome::Dead);
    bus.stop().await;
}
