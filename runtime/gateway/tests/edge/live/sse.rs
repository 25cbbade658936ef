//! Server-Sent Events.

use std::sync::atomic::Ordering;
use std::time::Duration;

use busway_gateway::edge::rate::Networks;
use busway_gateway::edge::{EdgeConfig, LiveConfig, Target};
use serde_json::{Value, json};

use super::{config, publish, route, soon};
use crate::client::{Connection, Request, get, request};
use crate::fake::lock;
use crate::served::Served;

/// One message of a stream.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Line {
    id: Option<String>,
    pub(super) event: Option<String>,
    data: Option<String>,
}

impl Line {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().expect("data")).expect("JSON")
    }
}

/// A client of a stream.
pub(super) struct Stream {
    connection: Connection,
    text: String,
    /// The last id, as a browser keeps it.
    id: String,
}

impl Stream {
    async fn open(served: &Served, path: &str, last: Option<&str>) -> Self {
        Self::open_with(served, last.map_or_else(|| get(path), |id| get(path).header("last-event-id", id))).await
    }

    pub(super) async fn open_with(served: &Served, asked: Request) -> Self {
        let mut connection = served.connect().await;
        connection.write(asked.bytes()).await;
        let head = soon(connection.head()).await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        let mut stream = Self { connection, text: String::new(), id: String::new() };
        let first = stream.line().await.expect("the first line");
        assert!(first.id.is_some() && first.data.is_none(), "where a client that sees nothing goes on: {first:?}");
        stream
    }

    /// The next message that is not empty; none at the end.
    pub(super) async fn line(&mut self) -> Option<Line> {
        loop {
            if let Some(at) = self.text.find("\n\n") {
                let block: String = self.text.drain(..at + 2).collect();
                let field = |name: &str| {
                    let values: Vec<_> =
                        block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect();
                    (!values.is_empty()).then(|| values.join("\n"))
                };
                let line = Line { id: field("id"), event: field("event"), data: field("data") };
                self.id = line.id.clone().unwrap_or(std::mem::take(&mut self.id));
                return Some(line);
            }
            let chunk = soon(self.connection.chunk()).await?;
            self.text += std::str::from_utf8(&chunk).expect("text");
        }
    }

    /// The numbers in the data of the next events.
    pub(super) async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let line = self.line().await.expect("an event");
            if line.event.is_none() && line.data.is_some() {
                numbers.push(line.json()["data"]["n"].as_u64().expect("a number"));
            }
        }
        numbers
    }
}

fn numbered(range: std::ops::Range<u64>) -> impl Iterator<Item = Value> {
    range.map(|n| json!({ "n": n }))
}

#[tokio::test]
async fn a_stream_gives_what_is_asked_for_and_goes_on_exactly_behind_the_last_id() {
    let served = Served::start(EdgeConfig::default()).await;
    publish(&served, "a.b", numbered(0..1)).await;
    let mut stream = Stream::open(&served, "/events?topic=a.%3E&topic=c", None).await;
    publish(&served, "x.y", numbered(90..91)).await;
    publish(&served, "a.b", numbered(1..3)).await;
    publish(&served, "c", numbered(3..4)).await;
    let first = stream.line().await.expect("an event").json();
    assert_eq!((&first["specversion"], &first["type"], &first["data"]["n"]), (&"1.0".into(), &"a.b".into(), &1.into()));
    assert_eq!(stream.numbers(1).await, [2]);
    // The connection is lost, and more happens.
    let last = stream.id.clone();
    drop(stream);
    publish(&served, "a.b", numbered(4..6)).await;
    let mut again = Stream::open(&served, "/events?topic=a.%3E&topic=c&from=start", Some(&last)).await;
    assert_eq!(again.numbers(3).await, [3, 4, 5], "neither a gap nor a repetition, whatever `from` says");
    let mut all = Stream::open(&served, "/events?topic=a.b&from=start", None).await;
    assert_eq!(all.numbers(5).await, [0, 1, 2, 4, 5]);
}

#[tokio::test]
async fn a_client_that_saw_nothing_goes_on_where_it_came() {
    let live = LiveConfig { heartbeat: Duration::from_millis(20), ..LiveConfig::default() };
    let served = Served::start(config(live)).await;
    publish(&served, "a", numbered(0..2)).await;
    let mut stream = Stream::open(&served, "/events?topic=a", None).await;
    let first = stream.id.clone();
    publish(&served, "other", numbered(0..3)).await;
    // Signs of life move the place on, so that a client of a rare topic does not read the log again.
    while stream.id == first {
        let line = stream.line().await.expect("a sign of life");
        assert_eq!(line.data, None);
    }
    for id in [first, stream.id.clone()] {
        let mut again = Stream::open(&served, "/events?topic=a", Some(&id)).await;
        publish(&served, "a", numbered(7..8)).await;
        assert_eq!(again.numbers(1).await, [7]);
    }
}

/// The next sign of life; fails when something else comes, or nothing.
async fn sign(stream: &mut Stream) {
    let line = stream.line().await.expect("a sign of life");
    assert!(line.id.is_some() && line.event.is_none() && line.data.is_none(), "{line:?}");
}

#[tokio::test]
async fn signs_of_life_come_however_often_the_log_is_read_in_vain() {
    let live = LiveConfig { heartbeat: Duration::from_millis(150), ..LiveConfig::default() };
    let served = Served::start(config(live)).await;
    *lock(&served.fake.read_waits) = Some(Duration::from_millis(20));
    let mut stream = Stream::open(&served, "/events?topic=a", None).await;
    sign(&mut stream).await;
    sign(&mut stream).await;
    // What happens and is not for it hides nothing either, and is not read again by whoever comes back.
    let before = stream.id.clone();
    let traffic = async {
        loop {
            publish(&served, "other", numbered(0..1)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = traffic => {}
        () = async { sign(&mut stream).await; sign(&mut stream).await; } => {}
    }
    assert_ne!(stream.id, before);
}

#[tokio::test]
async fn strangers_behind_one_proxy_do_not_take_each_others_places() {
    let mut config = config(LiveConfig { listeners_per_caller: 1, ..LiveConfig::default() });
    config.rate.trusted_proxies = Networks(vec!["127.0.0.1".parse().expect("a block")]);
    let served = Served::start(config).await;
    let of = |address: &str| get("/events?topic=a").header("x-forwarded-for", address);
    let _first = Stream::open_with(&served, of("203.0.113.1")).await;
    let _second = Stream::open_with(&served, of("203.0.113.2")).await;
    assert_eq!(served.send(of("203.0.113.1")).await.status, 429);
}

#[tokio::test]
async fn what_is_gone_is_told_and_so_is_another_log() {
    let served = Served::start(EdgeConfig::default()).await;
    publish(&served, "a", numbered(0..10)).await;
    served.fake.oldest.store(4, Ordering::Relaxed);
    let mut stream = Stream::open(&served, "/events?topic=a", Some("c1")).await;
    let missed = stream.line().await.expect("a notice");
    assert_eq!((missed.event.as_deref(), missed.json()), (Some("missed"), json!({ "events": 3 })));
    assert_eq!(stream.numbers(6).await, [4, 5, 6, 7, 8, 9]);
    let mut other = Stream::open(&served, "/events?topic=a", Some("c9000")).await;
    let missed = other.line().await.expect("a notice");
    assert_eq!((missed.event.as_deref(), missed.json()), (Some("missed"), json!({ "events": null })));
    assert_eq!(other.numbers(6).await, [4, 5, 6, 7, 8, 9], "everything that is there is new");
}

#[tokio::test]
async fn a_stream_that_ends_says_why_and_where_to_go_on() {
    let live = LiveConfig { stream_time: Duration::from_millis(50), ..LiveConfig::default() };
    let served = Served::start(config(live)).await;
    let mut stream = Stream::open(&served, "/events?topic=a", None).await;
    let end = stream.line().await.expect("the end");
    assert_eq!((end.event.as_deref(), end.json()), (Some("end"), json!({ "reason": "renew" })));
    assert!(stream.line().await.is_none() && end.id.is_some());
    let served = Served::start(EdgeConfig::default()).await;
    let mut stream = Stream::open(&served, "/events?topic=a", None).await;
    served.stop();
    let end = stream.line().await.expect("the end");
    assert_eq!((end.event.as_deref(), end.json()), (Some("end"), json!({ "reason": "stopping" })));
    assert!(stream.line().await.is_none());
    served.ended().await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_delays_nobody_and_loses_nothing() {
    let served = Served::start(EdgeConfig::default()).await;
    let mut slow = Stream::open(&served, "/events?topic=a", None).await;
    let mut quick = Stream::open(&served, "/events?topic=a", None).await;
    // Far more than all buffers between the two hold.
    let padding = "x".repeat(4_000);
    for chunk in 0..30_u64 {
        let events = (chunk * 100..chunk * 100 + 100).map(|n| json!({ "n": n, "padding": padding }));
        publish(&served, "a", events).await;
    }
    let wanted: Vec<_> = (0..3_000).collect();
    assert_eq!(quick.numbers(3_000).await, wanted);
    assert_eq!(slow.numbers(3_000).await, wanted);
}

#[tokio::test]
async fn data_alone_comes_as_it_is() {
    let served = Served::start(EdgeConfig::default()).await;
    let mut stream = Stream::open(&served, "/events?topic=a&format=data", None).await;
    publish(&served, "a", [json!({ "n": 1.10 })]).await;
    assert_eq!(stream.line().await.expect("an event").data.as_deref(), Some("{\"n\":1.1}"));
    let binary = busway_types::Draft::new("a".parse().expect("a topic"), vec![0xff, 0].into());
    busway_gateway::edge::EdgeBackend::publish(&*served.fake, vec![binary]).await.expect("published");
    let line = stream.line().await.expect("an event");
    assert_eq!((line.event.as_deref(), line.data.as_deref()), (Some("base64"), Some("/wA=")));
}

#[tokio::test]
async fn a_route_shows_its_own_topics_only() {
    let mut config = EdgeConfig::default();
    config.routes.push(route("/live", Target::Events(vec!["shop.>".parse().expect("a pattern")])));
    let served = Served::start(config).await;
    let mut all = Stream::open(&served, "/live", None).await;
    let mut one = Stream::open(&served, "/live?topic=shop.b", None).await;
    publish(&served, "other", numbered(0..1)).await;
    publish(&served, "shop.a", numbered(1..2)).await;
    publish(&served, "shop.b", numbered(2..3)).await;
    assert_eq!(all.numbers(2).await, [1, 2]);
    assert_eq!(one.numbers(1).await, [2]);
    let outside = served.send(get("/live?topic=other")).await;
    assert_eq!((outside.status, outside.problem().as_str()), (403, "forbidden"));
    let wrong = served.send(request("POST", "/live")).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET")));
}

#[tokio::test]
async fn mistakes_and_bounds_are_problem_documents() {
    let live = LiveConfig { listeners: 3, listeners_per_caller: 2, patterns: 2, ..LiveConfig::default() };
    let served = Served::start(config(live)).await;
    for bad in [
        "/events",
        "/events?topic=a..b",
        "/events?topic=a&topic=b&topic=c",
        "/events?topic=a&from=yesterday",
        "/events?topic=a&format=xml",
    ] {
        let answer = served.send(get(bad)).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid"), "{bad}");
    }
    let last = served.send(get("/events?topic=a").header("last-event-id", "x")).await;
    assert_eq!(last.status, 400);
    let first = Stream::open(&served, "/events?topic=a", None).await;
    let _second = Stream::open(&served, "/events?topic=a", None).await;
    let third = served.send(get("/events?topic=a")).await;
    assert_eq!((third.status, third.problem().as_str()), (429, "too-many"));
    drop(first);
    // The place comes back as soon as the gateway notices.
    soon(async {
        while served.send(get("/events?topic=a..b")).await.status != 400 {}
        loop {
            let mut connection = served.connect().await;
            connection.write(get("/events?topic=a").bytes()).await;
            if connection.head().await.is_some_and(|head| head.contains("200")) {
                break;
            }
        }
    })
    .await;
    let live = LiveConfig { listeners: 0, ..LiveConfig::default() };
    let full = Served::start(config(live)).await;
    let refused = full.send(get("/events?topic=a")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
}
