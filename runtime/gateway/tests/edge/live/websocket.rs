//! The protocol of the WebSocket.

use std::time::Duration;

use busway_gateway::edge::{EdgeConfig, LiveConfig, Target};
use serde_json::json;

use super::{A_WHILE, config, publish, route};
use crate::served::Served;
use crate::websocket::{Frame, Socket, upgrade};

#[tokio::test]
async fn a_client_subscribes_publishes_and_goes_on_behind_what_it_saw() {
    let served = Served::start(EdgeConfig::default()).await;
    let mut socket = Socket::open(&served, "/events").await;
    socket.say(r#"{"subscribe":["a.>"],"ref":1}"#).await;
    assert_eq!(socket.json().await, json!({ "ok": 1, "id": "c0" }));
    socket.say(r#"{"publish":{"topic":"a.b","key":"k","data":{"n":1}},"ref":"x"}"#).await;
    let (one, two) = (socket.json().await, socket.json().await);
    let (ok, event) = if one["ok"] == "x" { (one, two) } else { (two, one) };
    assert_eq!((&ok["ok"], &event["event"]["id"]), (&"x".into(), &ok["event"]));
    assert_eq!((&event["event"]["type"], &event["event"]["data"]), (&"a.b".into(), &json!({ "n": 1 })));
    publish(&served, "a.c", [json!({ "n": 2 })]).await;
    publish(&served, "other", [json!({ "n": 3 })]).await;
    assert_eq!(socket.json().await["event"]["data"]["n"], 2);
    drop(socket);
    let mut again = Socket::open(&served, "/events").await;
    let id = event["id"].as_str().expect("an id");
    again.say(&json!({ "subscribe": ["a.>"], "from": id, "name": "mine" }).to_string()).await;
    assert_eq!(again.json().await["ok"], json!(null), "without a `ref`");
    let next = again.json().await;
    assert_eq!((&next["event"]["data"]["n"], &next["name"]), (&2.into(), &"mine".into()));
    again.say(r#"{"unsubscribe":"mine","ref":2}"#).await;
    assert_eq!(again.json().await["ok"], 2);
    publish(&served, "a.c", [json!({ "n": 4 })]).await;
    assert!(again.is_silent(A_WHILE).await);
}

#[tokio::test]
async fn a_window_holds_back_what_is_not_acknowledged() {
    let served = Served::start(EdgeConfig::default()).await;
    publish(&served, "a", (0..10).map(|n| json!(n))).await;
    let mut socket = Socket::open(&served, "/events").await;
    socket.say(r#"{"subscribe":["a"],"from":"start","window":3}"#).await;
    assert_eq!(socket.json().await["id"], "c0");
    let mut last = String::new();
    for wanted in 0..3 {
        let message = socket.json().await;
        assert_eq!(message["event"]["data"], wanted);
        message["id"].as_str().expect("an id").clone_into(&mut last);
    }
    assert!(socket.is_silent(A_WHILE).await, "three are open");
    socket.say(&json!({ "ack": last }).to_string()).await;
    for wanted in 3..6 {
        assert_eq!(socket.json().await["event"]["data"], wanted);
    }
    assert!(socket.is_silent(A_WHILE).await);
}

#[tokio::test]
async fn two_subscriptions_take_turns() {
    let served = Served::start(EdgeConfig::default()).await;
    publish(&served, "busy", (0..1_000).map(|n| json!(n))).await;
    publish(&served, "rare", [json!("here")]).await;
    let mut socket = Socket::open(&served, "/events").await;
    socket.say(r#"{"subscribe":["busy"],"from":"start","name":"b"}"#).await;
    socket.say(r#"{"subscribe":["rare"],"from":"start","name":"r"}"#).await;
    let mut busy = 0;
    loop {
        let message = socket.json().await;
        match message["name"].as_str() {
            Some("b") => busy += 1,
            Some("r") => break,
            _ => {}
        }
    }
    assert!(busy < 1_000, "the rare one had to wait for all of the busy one");
}

#[tokio::test]
async fn mistakes_are_told_and_the_connection_goes_on() {
    let live = LiveConfig { subscriptions: 1, ..LiveConfig::default() };
    let served = Served::start(config(live)).await;
    let mut socket = Socket::open(&served, "/events").await;
    for (said, status) in [
        ("nonsense", 400),
        (r#"{"subscribe":["a..b"],"ref":5}"#, 400),
        (r#"{"subscribe":[]}"#, 400),
        (r#"{"subscribe":["a"],"unsubscribe":"b"}"#, 400),
        (r#"{"subscribe":["a"],"from":"never"}"#, 400),
        (r#"{"subscribe":["a"],"window":0}"#, 400),
        (r#"{"unsubscribe":"b"}"#, 400),
        (r#"{"ack":"c1"}"#, 400),
        (r#"{"publish":{"topic":"a b"}}"#, 400),
        (r#"{"publish":{"topic":"a","data":1,"text":"1"}}"#, 400),
    ] {
        socket.say(said).await;
        let answer = socket.json().await;
        assert_eq!(answer["error"]["status"], status, "{said}: {answer}");
    }
    socket.say(r#"{"subscribe":["a"],"ref":1}"#).await;
    assert_eq!(socket.json().await["ok"], 1);
    for again in [r#"{"subscribe":["a"]}"#, r#"{"subscribe":["a"],"name":"second"}"#] {
        socket.say(again).await;
        assert_eq!(socket.json().await["error"]["status"], 400, "{again}");
    }
}

#[tokio::test]
async fn a_route_shows_its_topics_and_takes_nothing() {
    let mut config = EdgeConfig::default();
    config.routes.push(route("/live", Target::Events(vec!["shop.>".parse().expect("a pattern")])));
    let served = Served::start(config).await;
    let mut socket = Socket::open(&served, "/live").await;
    socket.say(r#"{"publish":{"topic":"shop.a","data":1}}"#).await;
    assert_eq!(socket.json().await["error"]["status"], 403);
    socket.say(r#"{"subscribe":["other"]}"#).await;
    assert_eq!(socket.json().await["error"]["status"], 403);
    socket.say(r#"{"subscribe":[],"ref":1}"#).await;
    assert_eq!(socket.json().await["ok"], 1);
    publish(&served, "other", [json!(0)]).await;
    publish(&served, "shop.a", [json!(1)]).await;
    assert_eq!(socket.json().await["event"]["data"], 1);
}

#[tokio::test]
async fn pages_of_other_origins_may_not_connect() {
    let served = Served::start(EdgeConfig::default()).await;
    let foreign = served.send(upgrade("/events").header("origin", "https://evil.test")).await;
    assert_eq!((foreign.status, foreign.problem().as_str()), (403, "forbidden"));
    let mut own = served.connect().await;
    own.write(upgrade("/events").header("origin", "http://localhost").bytes()).await;
    assert!(own.head().await.expect("an answer").contains("101"));
}

#[tokio::test]
async fn each_bound_ends_the_connection_with_its_code() {
    let bounds = LiveConfig { message_bytes: 1_000, messages_per_second: 5, ..LiveConfig::default() };
    let served = Served::start(config(bounds)).await;
    let mut large = Socket::open(&served, "/events").await;
    large.say(&"x".repeat(1_001)).await;
    assert_eq!(large.next().await, Frame::Close(1009));
    let mut huge = Socket::open(&served, "/events").await;
    huge.say(&"x".repeat(10_000)).await;
    assert!(matches!(huge.next().await, Frame::End | Frame::Close(_)));
    let mut many = Socket::open(&served, "/events").await;
    for _ in 0..20 {
        many.say(r#"{"ack":"c1"}"#).await;
    }
    let mut last = many.next().await;
    while matches!(last, Frame::Text(_)) {
        last = many.next().await;
    }
    assert_eq!(last, Frame::Close(1008));
    let short = LiveConfig { stream_time: Duration::from_millis(50), ..LiveConfig::default() };
    let served = Served::start(config(short)).await;
    assert_eq!(Socket::open(&served, "/events").await.next().await, Frame::Close(4000));
    let silent = LiveConfig { heartbeat: Duration::from_millis(30), ..LiveConfig::default() };
    let served = Served::start(config(silent)).await;
    let mut socket = Socket::open(&served, "/events").await;
    assert!(socket.is_silent(A_WHILE).await, "whoever answers pings stays");
    socket.lives = false;
    let mut last = socket.next().await;
    while last == Frame::Ping {
        last = socket.next().await;
    }
    assert_eq!(last, Frame::Close(4002));
    let served = Served::start(EdgeConfig::default()).await;
    let mut socket = Socket::open(&served, "/events").await;
    served.stop();
    assert_eq!(socket.next().await, Frame::Close(1012));
    served.ended().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped_and_resumes() {
    let live = LiveConfig { stall: Duration::from_millis(300), ..LiveConfig::default() };
    let served = Served::start(config(live)).await;
    let mut socket = Socket::open(&served, "/events").await;
    socket.say(r#"{"subscribe":["a"]}"#).await;
    assert_eq!(socket.json().await["id"], "c0");
    let padding = "x".repeat(8_000);
    for _ in 0..20 {
        publish(&served, "a", (0..100).map(|n| json!({ "n": n, "padding": padding }))).await;
    }
    // It takes nothing for longer than it may; its place is free then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut seen = Vec::new();
    let mut last = "c0".to_owned();
    while let Frame::Text(text) = socket.next().await {
        let message: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        seen.push(message["event"]["data"]["n"].as_u64().expect("a number"));
        message["id"].as_str().expect("an id").clone_into(&mut last);
    }
    assert!(seen.len() < 2_000, "the connection ended before everything was sent");
    let mut again = Socket::open(&served, "/events").await;
    again.say(&json!({ "subscribe": ["a"], "from": last }).to_string()).await;
    again.json().await;
    while seen.len() < 2_000 {
        seen.push(again.json().await["event"]["data"]["n"].as_u64().expect("a number"));
    }
    let wanted: Vec<u64> = (0..20).flat_map(|_| 0..100).collect();
    assert_eq!(seen, wanted, "neither a gap nor a repetition");
}
