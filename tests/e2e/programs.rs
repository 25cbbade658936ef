//! What well-behaved programs do: each program has a test of its name.

use crate::harness::{App, Bus, event, keyed, text};
use busway_gateway::api::{DeadFilter, HeaderField, PublishRequest};
use busway_tests::programs;
use std::time::Duration;

const TWO_THREADS: &str = "concurrency = 4\n";

/// A node with one program of a folder, without any manifest.
async fn alone(component: &str, name: &str) -> (App, Bus) {
    let app = App::new().with(component, name);
    let bus = app.run().await;
    (app, bus)
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn echo() {
    let app = App::new().service("echo", programs::ECHO, "subscribe = [\"bench.>\"]\n");
    let bus = app.run().await;
    for _ in 0..20 {
        bus.publish((0..500).map(|i| event(&format!("bench.{i}"), "x")).collect()).await;
    }
    bus.idle().await;
    let echo = bus.service("echo").await;
    assert_eq!((echo.handled, echo.acked, echo.dead_lettered), (10_000, 10_000, 0));
    assert!(echo.p50_us.is_some_and(|us| us > 0.0) && echo.memory_bytes > 0);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn forward() {
    let app = App::new()
        .service("a", programs::FORWARD, "subscribe = [\"in\"]\npublish = [\"mid\"]\nconfig = { to = \"mid\" }\n")
        .service("b", programs::FORWARD, "subscribe = [\"mid\"]\npublish = [\"out\"]\nconfig = { to = \"out\" }\n");
    let bus = app.run().await;
    let headers = vec![HeaderField { name: "n".into(), value: "välue".into() }];
    let request =
        PublishRequest { headers: headers.clone(), correlation: Some("c-1".into()), ..keyed("in", "k", "hello") };
    let first = bus.publish(vec![request]).await.remove(0);
    bus.idle().await;
    let (mid, out) = (bus.tail("mid").await, bus.tail("out").await);
    assert_eq!((mid.len(), out.len()), (1, 1));
    assert_eq!(text(&out[0]), "hello");
    assert_eq!((out[0].key.as_deref(), &out[0].headers), (Some("k"), &headers));
    assert_eq!((mid[0].cause, out[0].cause), (Some(first.id), Some(mid[0].id)), "causality is stored");
    assert_eq!((mid[0].source.as_deref(), out[0].source.as_deref()), (Some("a"), Some("b")));
    assert_eq!((mid[0].hops, out[0].hops), (1, 2));
    assert_eq!(out[0].correlation.as_deref(), Some("c-1"));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn count() {
    let (_app, bus) = alone(programs::COUNT, "count").await;
    for batch in 0..10 {
        let events = (0..300).map(|i| keyed("public.count", &format!("k{}", i % 7), &format!("{batch}"))).collect();
        bus.publish(events).await;
    }
    bus.idle().await;
    assert_eq!(bus.kv("count", "total").await.as_deref(), Some("3000"));
    assert_eq!(bus.kv("count", "key.k0").await.as_deref(), Some("430"));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn kv_rmw() {
    let settings = format!("{TWO_THREADS}subscribe = [\"public.kv-rmw\"]\nconfig = {{ hold-ms = \"1\" }}\n");
    let app = App::new().service("rmw", programs::KV_RMW, &settings);
    let bus = app.run().await;
    for _ in 0..8 {
        bus.publish((0..50).map(|_| event("public.kv-rmw", "x")).collect()).await;
    }
    bus.idle().await;
    assert_eq!(bus.kv("rmw", "counter").await.as_deref(), Some("400"), "each conflict was seen and run again");
    let rmw = bus.service("rmw").await;
    assert_eq!((rmw.acked, rmw.dead_lettered, rmw.retried), (400, 0, 0), "a conflict costs no attempt");
    assert!(rmw.handled >= 400);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn kv_list() {
    let settings = format!("{TWO_THREADS}subscribe = [\"public.kv-list\"]\nconfig = {{ hold-ms = \"1\" }}\n");
    let app = App::new().service("list", programs::KV_LIST, &settings);
    let bus = app.run().await;
    for _ in 0..4 {
        bus.publish((0..50).map(|_| event("public.kv-list", "x")).collect()).await;
    }
    bus.idle().await;
    let list = bus.service("list").await;
    assert_eq!((list.acked, list.dead_lettered, list.retried), (200, 0, 0), "a conflict costs no attempt");
    for number in 0..200 {
        let key = format!("item.{number:04}");
        assert_eq!(bus.kv("list", &key).await.as_deref(), Some("x"), "{key}: each conflict was seen and run again");
    }
    assert_eq!(bus.kv("list", "item.0200").await, None);
    assert_eq!(bus.kv("list", "last").await.as_deref(), Some("199"));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn kv_task() {
    let (_app, bus) = alone(programs::KV_TASK, "task").await;
    bus.until("the task has ended", |status| status.services[0].state.as_str() == "finished").await;
    let task = bus.service("task").await;
    assert_eq!(task.reason, None);
    assert_eq!(bus.kv("task", "leader").await.as_deref(), Some("third"));
    assert_eq!(bus.kv("task", "listed").await.as_deref(), Some("600"));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn order() {
    let app = App::new().service("order", programs::ORDER, &format!("{TWO_THREADS}publish = [\"public.>\"]\n"));
    let bus = app.run().await;
    for from in (0..600).step_by(100) {
        bus.publish(
            (from..from + 100).map(|i| keyed("public.order", &format!("k{}", i % 5), &i.to_string())).collect(),
        )
        .await;
    }
    bus.idle().await;
    for key in 0..5 {
        let wanted: Vec<String> = (0..600).filter(|i| i % 5 == key).map(|i| i.to_string()).collect();
        assert_eq!(bus.kv("order", &format!("seen.k{key}")).await, Some(wanted.join(",")), "key {key}");
        let out = bus.tail("public.order.out").await;
        let name = format!("k{key}");
        let published: Vec<String> = out.iter().filter(|e| e.key.as_deref() == Some(&name)).map(text).collect();
        assert_eq!(published, wanted, "publications of key {key}");
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn envelope() {
    let app = App::new().service(
        "envelope",
        programs::ENVELOPE,
        "publish = [\"public.>\"]\ntimeout = \"3s\"\nconfig = { note = \"noted\" }\n",
    );
    let bus = app.run().await;
    let request = PublishRequest {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        content_type: Some("text/plain".into()),
        headers: vec![HeaderField { name: "h".into(), value: "1".into() }],
        ..keyed("public.envelope", "key", "x")
    };
    let reply = bus.publish(vec![request]).await.remove(0);
    bus.idle().await;
    let seen: serde_json::Value = serde_json::from_str(&bus.texts("public.envelope.out").await[0]).expect("JSON");
    assert_eq!(seen["id"], reply.id.to_string());
    assert_eq!((&seen["service"], &seen["note"]), (&"envelope".into(), &"noted".into()));
    assert_eq!((&seen["topic"], &seen["key"]), (&"public.envelope".into(), &"key".into()));
    assert_eq!((&seen["attempt"], &seen["hops"]), (&1.into(), &0.into()));
    assert_eq!(seen["correlation"], reply.id.to_string(), "the first event is what the journey is about");
    assert_eq!(seen["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(seen["headers"], serde_json::json!([["h", "1"]]));
    assert!(seen["source"].is_null() && seen["cause"].is_null());
    let remaining = seen["remaining_ms"].as_u64().expect("a number");
    assert!((1..=3_000).contains(&remaining), "{remaining}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn raw_witbindgen() {
    let (_app, bus) = alone(programs::RAW_WITBINDGEN, "raw").await;
    bus.send("public.raw", "quiet").await;
    bus.idle().await;
    assert_eq!(bus.texts("public.raw.out").await, ["QUIET"]);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn failing() {
    let app = App::new().service(
        "failing",
        programs::FAILING,
        "publish = [\"public.>\"]\nretry = { attempts = 3, backoff = \"10ms\" }\n",
    );
    let bus = app.run().await;
    let requests = ["retry:2", "retry:9", "reject", "error:no luck", "fine"];
    bus.publish(requests.iter().map(|data| event("public.failing", data)).collect()).await;
    bus.idle().await;
    let out = bus.tail("public.failing.out").await;
    let done: Vec<(String, String)> = out.iter().map(|e| (text(e), e.headers[0].value.clone())).collect();
    assert!(done.contains(&("fine".into(), "1".into())), "{done:?}");
    assert!(done.contains(&("retry:2".into(), "3".into())), "{done:?}");
    assert_eq!(done.len(), 2, "what failed published nothing: {done:?}");
    let mut dead: Vec<(String, usize, String)> = bus
        .dead()
        .await
        .into_iter()
        .map(|letter| (serde_json::to_string(&letter.reason).expect("a word"), letter.attempts, letter.error))
        .collect();
    dead.sort();
    assert_eq!(dead.len(), 3, "{dead:?}");
    assert!(dead.iter().any(|(reason, attempts, error)| reason == "\"rejected\""
        && *attempts == 1
        && error.contains("told to reject")));
    assert!(
        dead.iter()
            .any(|(reason, attempts, error)| reason == "\"exhausted\"" && *attempts == 3 && error.contains("no luck"))
    );
    bus.stop().await;
}

/// Later events of a key wait behind one that is tried again; other keys do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_retried_event_holds_back_its_key_only() {
    let app = App::new().service(
        "failing",
        programs::FAILING,
        "publish = [\"public.>\"]\nretry = { attempts = 5, backoff = \"100ms\", jitter = 0 }\n",
    );
    let bus = app.run().await;
    bus.publish(vec![
        keyed("public.failing", "a", "retry:2"),
        keyed("public.failing", "a", "a2"),
        keyed("public.failing", "b", "b1"),
        keyed("public.failing", "a", "a3"),
    ])
    .await;
    bus.idle().await;
    let out = bus.texts("public.failing.out").await;
    let place = |data: &str| out.iter().position(|d| d == data).expect("handled");
    assert_eq!(out.len(), 4);
    assert!(place("retry:2") < place("a2") && place("a2") < place("a3"), "{out:?}");
    assert!(place("b1") < place("retry:2"), "another key did not wait: {out:?}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn ticker() {
    let app = App::new().with(programs::TICKER, "ticker").with(programs::FORWARD, "unrelated").service(
        "seen",
        programs::FORWARD,
        "subscribe = [\"public.ticks\"]\npublish = [\"public.>\"]\n",
    );
    let bus = app.run().await;
    bus.idle().await;
    let ticks: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(bus.texts("public.ticks").await, ticks);
    assert_eq!(bus.texts("public.forwarded").await, ticks, "the subscription existed before the task ran");
    let ticker = bus.service("ticker").await;
    assert_eq!((ticker.state.as_str(), ticker.published), ("finished", 10));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn task_fails() {
    let (_app, bus) = alone(programs::TASK_FAILS, "task").await;
    bus.idle().await;
    let task = bus.service("task").await;
    assert_eq!(task.state.as_str(), "finished");
    let reason = task.reason.expect("a failed task says why");
    assert!(reason.contains("told to fail"), "{reason}");
    bus.stop().await;

    let app = App::new().service("task", programs::TASK_FAILS, "run = \"always\"\npublish = [\"public.>\"]\n");
    let bus = app.run().await;
    bus.until("the task is started again", |status| status.services[0].published >= 2).await;
    bus.stop().await;
}

/// Delayed events come when they are due; what is published in a chunk of many is all there.
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_event_comes_not_before_its_time() {
    let (_app, bus) = alone(programs::RAW_WITBINDGEN, "raw").await;
    let late = PublishRequest { delay_ms: Some(400), ..event("public.raw", "late") };
    let receipts = bus.publish(vec![late, event("public.raw", "soon")]).await;
    assert_eq!((receipts[0].offset, receipts[1].offset), (None, Some(0)));
    bus.until("the first is handled", |status| status.services[0].acked == 1).await;
    assert_eq!(bus.status().await.bus.delayed, 1);
    bus.idle().await;
    let out = bus.tail("public.raw.out").await;
    assert_eq!(out.iter().map(text).collect::<Vec<_>>(), ["SOON", "LATE"]);
    let gap = out[1].time_ms.since(out[0].time_ms);
    assert!(gap >= Duration::from_millis(300), "{gap:?}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn tally() {
    let (_app, bus) = alone(programs::TALLY, "tally").await;
    bus.publish((0..6).map(|i| keyed("public.tally", &format!("k{}", i % 2), &format!("{i}"))).collect()).await;
    bus.idle().await;
    let mut out = bus.texts("public.tally.out").await;
    out.sort();
    assert_eq!(out, ["0|1|none", "1|1|none", "2|2|0", "3|2|1", "4|3|2", "5|3|3"]);
    assert_eq!(bus.kv("tally", "ledger.k1").await.as_deref(), Some("3|5"));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn flaky() {
    let settings =
        "subscribe = [\"public.flaky\"]\ntimeout = \"300ms\"\nretry = { attempts = 100, backoff = \"1ms\" }\n";
    let app = App::new().service("flaky", programs::FLAKY, settings);
    let bus = app.run().await;
    bus.publish((0..300).map(|i| keyed("public.flaky", &format!("k{}", i % 3), &format!("{i}"))).collect()).await;
    bus.idle().await;
    let flaky = bus.service("flaky").await;
    assert!(flaky.retried > 0 && flaky.trapped > 0, "{flaky:?}");
    assert_eq!((flaky.acked, flaky.dead_lettered), (297, 3), "what ends in 99 is rejected");
    assert_eq!(bus.kv("flaky", "taken").await.as_deref(), Some("297"), "failed attempts wrote nothing");
    let out = bus.texts("public.flaky.out").await;
    for key in 0..3 {
        let of_key: Vec<u32> = out.iter().filter_map(|text| text.parse().ok()).filter(|n| n % 3 == key).collect();
        assert_eq!(of_key.len(), 99, "failed attempts published nothing");
        assert!(of_key.is_sorted(), "a failed event holds back the later ones of its key: {of_key:?}");
    }
    bus.stop().await;
}

#[test]
pub(crate) fn documented() {
    let show = |format: &str| {
        let output = std::process::Command::new(busway_tests::busway())
            .args(["contract", "show", programs::DOCUMENTED, "--format", format])
            .output()
            .expect("busway can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    // Linking drops doc comments; what `embed_contract!` put there survives it, with full optimisation and stripped.
    for said in ["What is said at a door.", "Who comes.", "As on the invitation.", "Somebody is at the door."] {
        assert!(show("wit").contains(&format!("/// {said}")), "{}", show("wit"));
    }
    assert!(show("asyncapi").contains("test.greetings.v1.door.came"));
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn mended() {
    let (_app, bus) = alone(programs::MENDED, "mended").await;
    bus.send("public.mended", "first").await;
    bus.idle().await;
    assert_eq!(bus.dead().await.len(), 1);
    bus.send("public.mended", "mend").await;
    bus.idle().await;
    let all = DeadFilter::default();
    assert_eq!(bus.node.admin().dead_retry(all).await.expect("retried").changed, 1);
    bus.idle().await;
    assert_eq!((bus.dead().await.len(), bus.texts("public.mended.out").await), (0, vec!["first".to_owned()]));
    bus.stop().await;
}
