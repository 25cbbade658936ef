//! Subjects and streams of a real nats-server.

use std::sync::atomic::Ordering as Atomic;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{Client, HeaderMap};
use busway_bridge::State;
use busway_brokers::Nats;
use busway_types::{EventId, Key, Outcome, Timestamp};
use futures_util::StreamExt as _;

use crate::harness::{In, Out, chunk, event, until};

fn server() -> Nats {
    Nats::start().expect("nats-server runs; `cargo xtask brokers up` tells what is missing")
}

async fn client(nats: &Nats) -> Client {
    async_nats::connect(nats.url()).await.expect("connected")
}

async fn stream(client: &Client) -> stream::Stream {
    let context = jetstream::new(client.clone());
    let config = stream::Config { name: "S".to_owned(), subjects: vec!["s.>".to_owned()], ..stream::Config::default() };
    context.create_stream(config).await.expect("a stream")
}

async fn publish(client: &Client, from: usize, to: usize) {
    let context = jetstream::new(client.clone());
    for number in from..to {
        let sent = context.publish("s.a", format!("m{number}").into()).await.expect("sent");
        sent.await.expect("stored");
    }
}

fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("m{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_comes_in_and_what_is_refused_holds_up_nothing() {
    let nats = server();
    let client = client(&nats).await;
    let stream = stream(&client).await;
    publish(&client, 0, 30).await;
    let context = jetstream::new(client.clone());
    let mut headers = HeaderMap::new();
    for (name, value) in [("Nats-Msg-Id", "one"), ("busway-key", "k"), ("Content-Type", "text/plain"), ("x", "1")] {
        headers.insert(name, value);
    }
    for text in ["bad", "good"] {
        let id = format!("{text}-id");
        headers.insert("Nats-Msg-Id", id.as_str());
        let sent = context.publish_with_headers("s.b", headers.clone(), text.into()).await.expect("sent");
        sent.await.expect("stored");
    }
    let bridge = In::start(&format!("{}/stream/S?consumer=mine", nats.url()), 16);
    bridge.has(31).await;
    let mut wanted = numbered(0, 30);
    wanted.push("good".to_owned());
    assert_eq!(bridge.bus.texts(), wanted);
    let drafts = bridge.bus.drafts();
    let ids: std::collections::BTreeSet<_> = drafts.iter().map(|draft| draft.id.expect("an id")).collect();
    assert_eq!((ids.len(), drafts.len()), (31, 31));
    let last = drafts.last().expect("a draft");
    assert_eq!((last.key.as_ref().map(Key::as_str), last.content_type.as_deref()), (Some("k"), Some("text/plain")));
    assert!(last.headers.contains(&("x".into(), "1".into())), "{:?}", last.headers);
    until("copied", async || bridge.figures().copied == 31 && bridge.figures().refused == 1).await;
    bridge.ends().await;
    let settled = async || {
        let info = stream.consumer_info("mine").await.expect("the consumer");
        info.num_ack_pending == 0 && info.num_pending == 0
    };
    until("nothing is left to acknowledge", settled).await;

    // Another one goes on where it was.
    publish(&client, 30, 31).await;
    let bridge = In::start(&format!("{}/stream/S?consumer=mine", nats.url()), 16);
    bridge.has(1).await;
    assert_eq!(bridge.bus.texts(), ["m30"]);
    bridge.ends().await;

    // It stays as it is, whoever wants another one.
    let bridge = In::start(&format!("{}/stream/S?consumer=mine&filter=s.b", nats.url()), 16);
    bridge.is(State::Waiting).await;
    assert!(bridge.figures().reason.is_some_and(|reason| reason.contains("another `filter`")));
    bridge.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_full_is_waited_for_without_a_storm_of_questions() {
    let nats = server();
    let client = client(&nats).await;
    let stream = stream(&client).await;
    let bridge = In::start(&format!("{}/stream/S?consumer=mine", nats.url()), 4);
    bridge.is(State::Connected).await;
    bridge.bus.full.store(true, Atomic::Relaxed);
    publish(&client, 0, 40).await;
    bridge.is(State::Waiting).await;
    assert!(bridge.figures().reason.is_some_and(|reason| reason.contains("it is full")));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let info = stream.consumer_info("mine").await.expect("the consumer");
    assert!(info.num_ack_pending <= 32, "what is held is bounded: {}", info.num_ack_pending);
    assert!(bridge.bus.asked.load(Atomic::Relaxed) < 8, "{:?}", bridge.bus.asked);
    bridge.bus.full.store(false, Atomic::Relaxed);
    bridge.has(40).await;
    assert_eq!(bridge.bus.texts(), numbered(0, 40));
    bridge.is(State::Connected).await;
    bridge.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_stream_is_lost_when_its_server_is_killed() {
    let mut nats = server();
    let first = client(&nats).await;
    stream(&first).await;
    let bridge = In::start(&format!("{}/stream/S", nats.url()), 16);
    publish(&first, 0, 20).await;
    bridge.has(20).await;
    bridge.bus.full.store(true, Atomic::Relaxed);
    publish(&first, 20, 40).await;
    bridge.is(State::Waiting).await;
    nats.kill().expect("killed");
    bridge.bus.full.store(false, Atomic::Relaxed);
    until("the loss is seen", async || {
        bridge.figures().reason.is_some_and(|reason| reason.contains("lost") || reason.contains("connect"))
    })
    .await;
    nats.start_again().expect("started");
    let second = client(&nats).await;
    publish(&second, 40, 50).await;
    bridge.has(50).await;
    let mut texts = bridge.bus.texts();
    texts.sort_by_key(|text| text[1..].parse::<usize>().expect("a number"));
    assert_eq!(texts, numbered(0, 50));
    bridge.is(State::Connected).await;
    bridge.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_to_a_stream_once_in_order_and_wait_for_a_server_that_is_away() {
    let mut nats = server();
    let first = client(&nats).await;
    let url = format!("{}/stream/S?subject=s.out", nats.url());
    let bridge = Out::start(&url);
    bridge.is(State::Waiting).await;
    assert!(bridge.figures().reason.is_some_and(|reason| reason.contains("stream S cannot be looked at")));
    stream(&first).await;
    let events = || (0..20_u32).map(|n| event(u128::from(n) + 1, ["a", "b"][n as usize % 2], &format!("m{n}")));
    for _ in 0..2 {
        // The second time as if nobody knew that it went well the first time.
        bridge.give(chunk(events())).await;
        assert_eq!(bridge.outcomes().await, Some(vec![Outcome::Acked; 20]));
    }
    let mut over = (*event(98, "a", "too late")).clone();
    over.expires = Some(Timestamp(2_000));
    bridge.give(chunk([over.into(), event(97, "b", "x")])).await;
    assert_eq!(bridge.outcomes().await, Some(vec![Outcome::Skipped; 2]), "the dispatcher looks again");
    nats.kill().expect("killed");
    bridge.is(State::Waiting).await;
    bridge.give(chunk([event(99, "a", "held")])).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!bridge.has_reported(), "nothing counts as an attempt");
    nats.start_again().expect("started");
    assert_eq!(bridge.outcomes().await, Some(vec![Outcome::Acked]));
    bridge.ends().await;

    let context = jetstream::new(client(&nats).await);
    let stream = context.get_stream("S").await.expect("the stream");
    let state = stream.get_info().await.expect("its state").state;
    assert_eq!(state.messages, 21, "each once");
    for (key, wanted) in [("a", 0..20), ("b", 1..20)] {
        let mut found = Vec::new();
        for sequence in 1..=20 {
            let message = stream.get_raw_message(sequence).await.expect("a message");
            if message.headers.get("busway-key").is_some_and(|found| found.as_str() == key) {
                found.push(String::from_utf8(message.payload.to_vec()).expect("text"));
            }
        }
        let wanted: Vec<String> = wanted.step_by(2).map(|n| format!("m{n}")).collect();
        assert_eq!(found, wanted, "the order of {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_subject_go_through_another_one_as_they_were() {
    let nats = server();
    let client = client(&nats).await;
    let mut heard = client.subscribe("out.a").await.expect("subscribed");
    client.flush().await.expect("flushed");
    let comes_back = In::start(&format!("{}/subject/out.%3E?group=g", nats.url()), 16);
    let shares = In::start(&format!("{}/subject/out.*?group=g", nats.url()), 16);
    comes_back.is(State::Connected).await;
    shares.is(State::Connected).await;
    let bridge = Out::start(&format!("{}/subject/out.a", nats.url()));
    let too_large = event(9, "", &"x".repeat((1 << 20) - 16));
    let mut bad_header = (*event(10, "", "y")).clone();
    bad_header.headers.push(("a b".into(), "1".into()));
    bridge.give(chunk([event(7, "k", "hello"), too_large, bad_header.into()])).await;
    let outcomes = bridge.outcomes().await.expect("a report");
    assert_eq!(outcomes[0], Outcome::Acked);
    for (outcome, part) in outcomes[1..].iter().zip(["max payload", "the header `a b`"]) {
        assert!(matches!(outcome, Outcome::Rejected { reason } if reason.contains(part)), "{outcome:?}");
    }
    let message = heard.next().await.expect("a message");
    let headers = message.headers.expect("headers");
    let of = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(of("Nats-Msg-Id").as_deref(), Some("00000000-0000-0000-0000-000000000007"));
    assert_eq!((of("busway-key"), of("busway-topic")), (Some("k".to_owned()), Some("orders.new".to_owned())));
    until("one of the group has it", async || comes_back.bus.drafts().len() + shares.bus.drafts().len() == 1).await;
    let draft = comes_back.bus.drafts().into_iter().chain(shares.bus.drafts()).next().expect("a draft");
    assert_eq!((&*draft.data, draft.id.map(EventId::as_u128)), (&b"hello"[..], Some(7)));
    assert_eq!((draft.causality.correlation.as_deref(), draft.causality.hops), (Some("c"), 1));
    assert!(draft.headers.contains(&("nats-subject".into(), "out.a".into())), "{:?}", draft.headers);
    bridge.ends().await;
    comes_back.ends().await;
    shares.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_out_is_given_back_when_the_node_drains() {
    let bridge = Out::start("nats://127.0.0.1:1/subject/a");
    bridge.is(State::Waiting).await;
    bridge.give(chunk([event(1, "", "x")])).await;
    bridge.drains();
    assert_eq!(bridge.outcomes().await, None);
    bridge.give(chunk([event(2, "", "y")])).await;
    assert_eq!(bridge.outcomes().await, None);
    bridge.ends().await;
}
