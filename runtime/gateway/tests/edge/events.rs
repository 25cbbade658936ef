//! Publishing over HTTP: plain events, lines, `CloudEvents` in all three modes.

use busway_gateway::edge::{EdgeConfig, EdgeError, cloudevent};
use busway_types::Event;
use serde_json::{Value, json};

use crate::client::{Answer, Request, request};
use crate::fake::lock;
use crate::served::Served;

fn post(path: &str) -> Request {
    request("POST", path)
}

async fn served() -> Served {
    Served::start(EdgeConfig::default()).await
}

/// The only event that was published.
fn only(served: &Served) -> std::sync::Arc<Event> {
    let events = lock(&served.fake.events);
    assert_eq!(events.len(), 1, "{events:?}");
    std::sync::Arc::clone(&events[0].event)
}

fn header<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    event.headers.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
}

#[track_caller]
fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, word: &str) -> Value {
    assert_eq!((answer.status, answer.problem().as_str()), (status, word), "{}", answer.text());
    answer.json()
}

const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";
const LINES: &str = "application/x-ndjson";

#[tokio::test]
async fn an_event_is_its_body_and_what_the_headers_say() {
    let served = served().await;
    let event = post("/events/shop.orders")
        .header("Content-Type", "text/plain; charset=utf-8")
        .header("Busway-Key", "ada")
        .header("Busway-Delay", "2s")
        .header("Busway-Expires", "1m")
        .header("Busway-Correlation", "journey")
        .header("Busway-Header-Colour", "dark red")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .body("hello");
    let id = accepted(&served.send(event).await);
    let event = only(&served);
    assert_eq!((event.id.to_string(), event.topic.as_str(), &event.data[..]), (id, "shop.orders", &b"hello"[..]));
    assert_eq!(event.content_type.as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(event.key.as_ref().map(busway_types::Key::as_str), Some("ada"));
    assert_eq!((event.not_before.expect("a time").0, event.expires.expect("a time").0), (3_000, 61_000));
    assert_eq!(header(&event, "colour"), Some("dark red"));
    assert_eq!(event.causality.correlation.as_deref(), Some("journey"));
    assert!(event.causality.traceparent.is_some() && !event.causality.chosen_id);
}

#[tokio::test]
async fn what_curl_says_of_any_data_is_nothing() {
    let served = served().await;
    let event = post("/events/a").header("Content-Type", "application/x-www-form-urlencoded").body("{}");
    accepted(&served.send(event).await);
    assert_eq!(only(&served).content_type, None);
}

#[tokio::test]
async fn an_event_is_published_once_under_one_idempotency_key() {
    let served = served().await;
    let mut ids = Vec::new();
    for (topic, key) in [("a", "first"), ("a", "\"first\""), ("a", "second"), ("b", "first")] {
        let event = post(&format!("/events/{topic}")).header("Idempotency-Key", key).body("x");
        ids.push(accepted(&served.send(event).await));
    }
    assert_eq!(lock(&served.fake.events).len(), 3);
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0] != ids[2] && ids[0] != ids[3] && ids[2] != ids[3], "{ids:?}");
    for bad in ["\"\"", &"k".repeat(256)] {
        let answer = served.send(post("/events/a").header("Idempotency-Key", bad).body("x")).await;
        assert_eq!(refused(&answer, 400, "invalid")["parameter"], "idempotency-key");
    }
}

#[tokio::test]
async fn what_cannot_be_an_event_is_refused_with_its_place() {
    let served = served().await;
    for (event, told) in [
        (post("/events/a..b").body("x"), "empty"),
        (post("/events/a%20b").body("x"), "' '"),
        (post("/events/a").header("Busway-Delay", "soon").body("x"), "busway-delay"),
        (post("/events/a").header("Busway-Key", "a").header("busway-key", "b").body("x"), "twice"),
        (post("/events/a").header("Busway-Key", &"k".repeat(300)).body("x"), "300 bytes"),
        (post("/events").body("x"), "/events/TOPIC"),
        (post("/events/a").header("Content-Type", LINES).body("{}\n{"), "line 2"),
        (post("/events").header("Content-Type", LINES).body("{\"topic\":\"a\",\"dta\":1}"), "dta"),
        (post("/events").header("Content-Type", BATCHED).body("{}"), "array"),
        (post("/events").header("Content-Type", STRUCTURED).body("[]"), "object"),
    ] {
        let answer = served.send(event).await;
        let document = refused(&answer, 400, "invalid");
        assert!(document["detail"].as_str().expect("text").contains(told), "{told}: {document}");
    }
    let xml = post("/events/a").header("Content-Type", "application/cloudevents+xml").body("<a/>");
    refused(&served.send(xml).await, 415, "media-type");
    refused(&served.send(request("GET", "/events/a")).await, 405, "method");
    assert!(lock(&served.fake.events).is_empty(), "nothing of it was published");
}

#[tokio::test]
async fn what_the_node_refuses_becomes_a_status() {
    let served = served().await;
    let unfit = EdgeError::Invalid {
        detail: "`lines[0].quantity`: expected u32".into(),
        index: Some(0),
        path: Some("lines[0].quantity".into()),
        is_contract: true,
    };
    for (error, status, word, again) in [
        (unfit, 422, "contract", false),
        (EdgeError::TooLarge("1 MiB at most".into()), 413, "too-large", false),
        (EdgeError::Overloaded("full".into()), 503, "overloaded", true),
        (EdgeError::Stopping, 503, "stopping", true),
        (EdgeError::Failed("disk /secret".into()), 500, "failed", false),
    ] {
        *lock(&served.fake.refuse) = Some(error);
        let answer = served.send(post("/events/a").body("{}")).await;
        let document = refused(&answer, status, word);
        assert_eq!(answer.header("retry-after").is_some(), again, "{document}");
        assert_eq!(document["path"] == "lines[0].quantity", status == 422, "{document}");
        assert!(!answer.text().contains("secret"));
    }
}

#[tokio::test]
async fn lines_are_events_in_order_all_or_none() {
    let served = served().await;
    let lines = "{\"n\":1}\n\n [2] \n\"three\"";
    let batch = post("/events/a").header("Content-Type", LINES).header("Idempotency-Key", "k").body(lines);
    for _ in 0..2 {
        let answer = served.send(batch.clone()).await;
        assert_eq!((answer.status, answer.json().as_array().expect("a list").len()), (202, 3));
    }
    let data: Vec<_> = lock(&served.fake.events).iter().map(|logged| logged.event.data.clone()).collect();
    assert_eq!(data, [&b"{\"n\":1}"[..], b"[2]", b"\"three\""], "once, although they were sent twice");
    let full = "{\"topic\":\"b\",\"key\":\"k\",\"data\":{\"a\":1}}\n{\"topic\":\"c\",\"text\":\"x\"}\n";
    let answer = served.send(post("/events").header("Content-Type", LINES).body(full)).await;
    assert_eq!(answer.json().as_array().map(Vec::len), Some(2), "{answer:?}");
    let topics: Vec<_> = lock(&served.fake.events).iter().map(|logged| logged.event.topic.to_string()).collect();
    assert_eq!(topics, ["a", "a", "a", "b", "c"]);
    let many = "1\n".repeat(1_001);
    refused(&served.send(post("/events/a").header("Content-Type", LINES).body(many)).await, 413, "too-large");
    let none = served.send(post("/events/a").header("Content-Type", LINES)).await;
    assert_eq!((none.status, none.json()), (202, json!([])));
}

#[tokio::test]
async fn a_cloudevent_in_binary_mode_is_headers_and_data() {
    let served = served().await;
    let event = |id: &str| {
        post("/events")
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/shops/1")
            .header("ce-type", "shop.orders.placed")
            .header("ce-subject", "Euro%20%E2%82%AC")
            .header("ce-time", "2026-01-31T09:05:00Z")
            .header("ce-partitionkey", "ada")
            .header("ce-correlationid", "journey")
            .header("ce-expirytime", "2100-01-01T00:00:00Z")
            .header("Content-Type", "application/json")
            .body(r#"{"a": 1}"#)
    };
    let first = accepted(&served.send(event("1")).await);
    assert_eq!(accepted(&served.send(event("1")).await), first, "source and id are one event");
    let event_1 = only(&served);
    assert_eq!((event_1.topic.as_str(), &event_1.data[..]), ("shop.orders.placed", &br#"{"a": 1}"#[..]));
    assert_eq!(event_1.content_type.as_deref(), Some("application/json"));
    assert_eq!(event_1.key.as_ref().map(busway_types::Key::as_str), Some("ada"));
    assert_eq!(event_1.causality.correlation.as_deref(), Some("journey"));
    assert_eq!(event_1.expires.map(|time| time.to_string()).as_deref(), Some("2100-01-01T00:00:00.000Z"));
    let headers: Vec<(&str, &str)> = event_1.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(
        headers,
        [
            ("ce-id", "1"),
            ("ce-source", "/shops/1"),
            ("ce-specversion", "1.0"),
            ("ce-subject", "Euro €"),
            ("ce-time", "2026-01-31T09:05:00Z"),
            ("ce-type", "shop.orders.placed"),
        ]
    );
    assert_ne!(accepted(&served.send(event("2")).await), first);
}

#[tokio::test]
async fn a_cloudevent_in_structured_mode_is_one_object() {
    let served = served().await;
    let send = async |path: &str, event: Value| {
        let request = post(path).header("Content-Type", "application/cloudevents+json; charset=UTF-8");
        accepted(&served.send(request.body(event.to_string())).await);
        std::sync::Arc::clone(&lock(&served.fake.events).last().expect("an event").event)
    };
    let base = |id: &str, more: Value| {
        let mut event = json!({ "specversion": "1.0", "id": id, "source": "urn:a", "type": "not a topic" });
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        event
    };
    let event = send(
        "/events/a",
        base("1", json!({ "data": { "big": 18_446_744_073_709_551_615_u64 }, "flag": true, "n": -3 })),
    )
    .await;
    assert_eq!((event.topic.as_str(), &event.data[..]), ("a", &br#"{"big":18446744073709551615}"#[..]));
    assert_eq!(event.content_type.as_deref(), Some("application/json"), "what data is when nothing is said");
    assert_eq!((header(&event, "ce-flag"), header(&event, "ce-n")), (Some("true"), Some("-3")));
    let event =
        send("/events", base("2", json!({ "topic": "b", "datacontenttype": "text/plain", "data": "a\"b" }))).await;
    assert_eq!((event.topic.as_str(), &event.data[..]), ("b", &b"a\"b"[..]));
    let event = send("/events/c", base("3", json!({ "datacontenttype": "image/png", "data_base64": "AP8=" }))).await;
    assert_eq!(&event.data[..], [0, 255]);
    let event = send("/events/d", base("4", json!({ "subject": null }))).await;
    assert_eq!((event.data.len(), header(&event, "ce-subject")), (0, None));
}

/// What came in as a `CloudEvent` goes out as it came, and goes in again as the same event.
#[tokio::test]
async fn a_cloudevent_goes_out_as_it_came() {
    let served = served().await;
    let base =
        json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "a.b", "time": "2026-01-31T09:05:00Z" });
    for (id, more) in [
        ("json", json!({ "datacontenttype": "application/json", "data": { "b": 1, "a": [1.5, null] } })),
        ("text", json!({ "datacontenttype": "text/plain", "data": "a\"b\n" })),
        ("bytes", json!({ "datacontenttype": "image/png", "data_base64": "AP8=" })),
        ("nothing", json!({ "subject": "ü", "partitionkey": "k", "correlationid": "c", "own": "x" })),
        ("elsewhere", json!({ "type": "not a topic", "topic": "x.y", "expirytime": "2100-01-01T00:00:00.000Z" })),
    ] {
        let mut event = base.clone();
        event["id"] = id.into();
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        for _ in 0..2 {
            let sent = post("/events").header("Content-Type", STRUCTURED).header("x-request-id", "r");
            accepted(&served.send(sent.body(event.to_string())).await);
            let stored = std::sync::Arc::clone(&lock(&served.fake.events).last().expect("an event").event);
            let out: Value = serde_json::from_str(&cloudevent(&stored)).expect("JSON");
            // What it does not say itself: the request that it came with.
            let mut wanted = event.clone();
            wanted.as_object_mut().expect("an object").entry("correlationid").or_insert("r".into());
            assert_eq!(out, wanted);
        }
    }
    assert_eq!(lock(&served.fake.events).len(), 5);
}

#[tokio::test]
async fn any_event_is_a_cloudevent() {
    let served = served().await;
    for (content_type, data, member, value) in [
        ("application/json", &br#"{"a":1}"#[..], "data", json!({ "a": 1 })),
        ("application/json", b"no json", "data_base64", json!("bm8ganNvbg==")),
        ("text/plain", b"{}", "data", json!("{}")),
        ("image/png", b"\x00\xff", "data_base64", json!("AP8=")),
    ] {
        let event = post("/events/a.b").header("Content-Type", content_type).header("Busway-Key", "k");
        let event = event.header("Busway-Header-colour", "red").header("Busway-Header-no-extension", "x");
        let event = event.header("x-request-id", "r").body(data);
        let id = accepted(&served.send(event).await);
        let stored = std::sync::Arc::clone(&lock(&served.fake.events).last().expect("an event").event);
        let out: Value = serde_json::from_str(&cloudevent(&stored)).expect("JSON");
        let mut wanted = json!({
            "specversion": "1.0", "id": id, "source": "/", "type": "a.b", "time": "1970-01-01T00:00:01.000Z",
            "partitionkey": "k", "colour": "red", "correlationid": "r", "datacontenttype": content_type,
        });
        wanted[member] = value;
        assert_eq!(out, wanted);
    }
}

#[tokio::test]
async fn cloudevents_that_break_their_rules_are_refused_by_name() {
    let served = served().await;
    let good = json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "a.b" });
    for (name, value, parameter) in [
        ("specversion", json!("0.3"), "specversion"),
        ("specversion", Value::Null, "specversion"),
        ("id", json!(""), "id"),
        ("source", json!("a b"), "source"),
        ("type", json!("no topic"), "type"),
        ("topic", json!("no topic"), "topic"),
        ("time", json!("yesterday"), "time"),
        ("expirytime", json!("2026-01-31"), "expirytime"),
        ("Extension", json!("x"), "Extension"),
        ("ext", json!({}), "ext"),
        ("ext", json!(1.5), "ext"),
        ("ext", json!("a\nb"), "ext"),
        ("partitionkey", json!("k".repeat(300)), "partitionkey"),
        ("data_base64", json!("%"), "data_base64"),
    ] {
        let mut event = good.clone();
        event[name] = value;
        for (batch, body) in [(STRUCTURED, event.clone()), (BATCHED, json!([good, event]))] {
            let answer = served.send(post("/events").header("Content-Type", batch).body(body.to_string())).await;
            let document = refused(&answer, 400, "invalid");
            assert_eq!(document["parameter"], parameter, "{document}");
            assert_eq!(document["index"] == 1, batch == BATCHED, "{document}");
        }
    }
    assert!(lock(&served.fake.events).is_empty(), "a batch is taken whole or not at all");
}

#[tokio::test]
async fn a_batch_of_cloudevents_is_published_together() {
    let served = served().await;
    let event =
        |id: &str, topic: &str| json!({ "specversion": "1.0", "id": id, "source": "/a", "type": topic, "data": id });
    let batch = json!([event("1", "a"), event("2", "b"), event("1", "a")]);
    let answer = served.send(post("/events").header("Content-Type", BATCHED).body(batch.to_string())).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let ids = answer.json();
    assert_eq!(ids.as_array().map(Vec::len), Some(3));
    assert_eq!(ids[0], ids[2], "one event twice in a batch has one id");
    let none = served.send(post("/events").header("Content-Type", BATCHED).body("[]")).await;
    assert_eq!((none.status, none.json()), (202, json!([])));
}
