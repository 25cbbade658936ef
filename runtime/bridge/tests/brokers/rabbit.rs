//! Queues and exchanges of a real RabbitMQ: one server, which the tests use in turn, because it takes its time to start.

use std::sync::atomic::Ordering as Atomic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use busway_bridge::State;
use busway_brokers::Rabbit;
use busway_engine::{AmqpServer, amqp_connect};
use busway_types::Outcome;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};

use crate::harness::{In, Out, chunk, event, until};

static SHARED: Mutex<Weak<Mutex<Rabbit>>> = Mutex::new(Weak::new());
/// Whose turn it is. Not the server's own lock, which a test takes for moments only.
static TURN: Mutex<()> = Mutex::new(());

/// The server of the tests that run or wait; it ends with the last of them.
fn server() -> Arc<Mutex<Rabbit>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let rabbit = Rabbit::start().expect("RabbitMQ runs; `cargo xtask brokers up` tells what is missing");
        let rabbit = Arc::new(Mutex::new(rabbit));
        *shared = Arc::downgrade(&rabbit);
        rabbit
    })
}

fn turn(server: &Mutex<Rabbit>) -> MutexGuard<'_, Rabbit> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a test does with the server, with nobody else.
fn with_rabbit<F: Future<Output = ()>>(test: impl FnOnce(Arc<Mutex<Rabbit>>) -> F) {
    let server = server();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(test(Arc::clone(&server)));
}

async fn channel(url: &str) -> (Connection, Channel) {
    let address: AmqpServer = url.parse().expect("an address");
    let connection = amqp_connect(&address, "test").await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    (connection, channel)
}

async fn declare(channel: &Channel, queue: &str, durable: bool, arguments: FieldTable) {
    let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await.expect("a queue");
}

async fn publish(channel: &Channel, queue: &str, text: &str, properties: BasicProperties) {
    let options = BasicPublishOptions::default();
    let sent =
        channel.basic_publish("".into(), queue.into(), options, text.as_bytes(), properties.with_delivery_mode(2));
    assert!(sent.await.expect("sent").await.expect("an answer").is_ack());
}

/// The next message of a queue, with its properties.
async fn get(channel: &Channel, queue: &str) -> Option<(String, BasicProperties)> {
    let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("an answer")?;
    let text = String::from_utf8(got.delivery.data.clone()).expect("text");
    Some((text, got.delivery.properties.clone()))
}

async fn waits(channel: &Channel, queue: &str) -> u32 {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.expect("the queue").message_count()
}

#[test]
fn a_queue_comes_in_and_what_is_refused_goes_to_its_dead_letters() {
    with_rabbit(async |rabbit| {
        let url = turn(&rabbit).url();
        // As the tutorial has it: nothing is there yet, and the queue is not durable.
        let bridge = In::start(&format!("{url}/queue/hello"), 16);
        bridge.is(State::Waiting).await;
        assert!(bridge.figures().reason.is_some_and(|reason| reason.contains("NOT_FOUND")), "{:?}", bridge.figures());
        let (_connection, channel) = channel(&url).await;
        declare(&channel, "hello", false, FieldTable::default()).await;
        publish(&channel, "hello", "Hello World!", BasicProperties::default()).await;
        bridge.has(1).await;
        assert_eq!(bridge.bus.texts(), ["Hello World!"]);
        assert!(bridge.bus.drafts()[0].headers.contains(&("amqp-routing-key".into(), "hello".into())));
        bridge.ends().await;

        let mut arguments = FieldTable::default();
        for (name, value) in [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "dead")] {
            arguments.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
        }
        declare(&channel, "work", true, arguments).await;
        declare(&channel, "dead", true, FieldTable::default()).await;
        for number in 0..40 {
            let text = if number % 10 == 7 { format!("bad{number}") } else { format!("m{number}") };
            let properties = BasicProperties::default().with_message_id(format!("id-{number}").into());
            publish(&channel, "work", &text, properties.with_content_type("text/plain".into())).await;
        }
        let bridge = In::start(&format!("{url}/queue/work"), 8);
        bridge.has(36).await;
        until("refused ones are dead", async || waits(&channel, "dead").await == 4).await;
        until("all counted", async || bridge.figures().copied == 36 && bridge.figures().refused == 4).await;
        let ids: std::collections::BTreeSet<_> =
            bridge.bus.drafts().iter().map(|draft| draft.id.expect("an id")).collect();
        assert_eq!(ids.len(), 36);
        bridge.ends().await;
        assert_eq!(waits(&channel, "work").await, 0, "all is acknowledged");
    });
}

#[test]
fn nothing_of_a_queue_is_lost_when_its_server_is_killed() {
    with_rabbit(async |rabbit| {
        let url = turn(&rabbit).url();
        let (_connection, first) = channel(&url).await;
        declare(&first, "kept", true, FieldTable::default()).await;
        let out = Out::start(&format!("{url}/queue/kept-out"));
        declare(&first, "kept-out", true, FieldTable::default()).await;
        out.is(State::Connected).await;
        let bridge = In::start(&format!("{url}/queue/kept"), 4);
        bridge.is(State::Connected).await;
        bridge.bus.full.store(true, Atomic::Relaxed);
        for number in 0..30 {
            let properties = BasicProperties::default().with_message_id(format!("kept-{number}").into());
            publish(&first, "kept", &format!("m{number}"), properties).await;
        }
        bridge.is(State::Waiting).await;
        let asked = bridge.bus.asked.load(Atomic::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(bridge.bus.asked.load(Atomic::Relaxed) - asked < 8, "it asks with pauses");
        // Starting takes long: not on a thread of the tasks.
        let restart = |what: fn(&mut Rabbit)| {
            let rabbit = Arc::clone(&rabbit);
            tokio::task::spawn_blocking(move || what(&mut turn(&rabbit)))
        };
        restart(|rabbit| rabbit.kill().expect("killed")).await.expect("no panic");
        out.is(State::Waiting).await;
        out.give(chunk([event(1, "", "held")])).await;
        restart(|rabbit| rabbit.start_again().expect("started")).await.expect("no panic");
        assert_eq!(
            out.outcomes().await,
            Some(vec![Outcome::Acked]),
            "what was held is sent, and was no attempt before"
        );
        bridge.bus.full.store(false, Atomic::Relaxed);
        bridge.has(30).await;
        let mut texts = bridge.bus.texts();
        texts.sort_by_key(|text| text[1..].parse::<usize>().expect("a number"));
        assert_eq!(texts, (0..30).map(|number| format!("m{number}")).collect::<Vec<_>>());
        bridge.is(State::Connected).await;
        bridge.ends().await;
        out.ends().await;
        let (_connection, second) = channel(&url).await;
        assert_eq!(waits(&second, "kept").await, 0, "all is acknowledged");
        assert_eq!(get(&second, "kept-out").await.map(|(text, _)| text), Some("held".to_owned()));
    });
}

#[test]
fn events_go_to_queues_and_exchanges_and_nothing_goes_nowhere() {
    with_rabbit(async |rabbit| {
        let url = turn(&rabbit).url();
        let (_connection, channel) = channel(&url).await;
        let bridge = Out::start(&format!("{url}/queue/replies"));
        bridge.is(State::Waiting).await;
        assert!(bridge.figures().reason.is_some_and(|reason| reason.contains("`replies`")), "{:?}", bridge.figures());
        declare(&channel, "replies", false, FieldTable::default()).await;
        let mut bad_header = (*event(10, "", "y")).clone();
        bad_header.headers.push(("x".repeat(256).into(), "1".into()));
        bridge.give(chunk([event(7, "k", "one"), event(8, "k", "two"), bad_header.into()])).await;
        let outcomes = bridge.outcomes().await.expect("a report");
        assert_eq!(outcomes[..2], [Outcome::Acked, Outcome::Acked]);
        assert!(matches!(&outcomes[2], Outcome::Rejected { reason } if reason.contains("256 bytes")), "{outcomes:?}");
        let (text, properties) = get(&channel, "replies").await.expect("a message");
        let of = |value: &Option<lapin::types::ShortString>| value.as_ref().map(|value| value.as_str().to_owned());
        let id = "00000000-0000-0000-0000-000000000007".to_owned();
        assert_eq!((&*text, of(properties.message_id())), ("one", Some(id)));
        assert_eq!(of(properties.content_type()).as_deref(), Some("text/plain"));
        assert_eq!((of(properties.correlation_id()).as_deref(), *properties.timestamp()), (Some("c"), Some(1)));
        let headers = properties.headers().as_ref().expect("headers").inner();
        let wanted = AMQPValue::LongString(LongString::from("k"));
        assert_eq!(headers.get("busway-key"), Some(&wanted));
        assert_eq!(get(&channel, "replies").await.map(|(text, _)| text), Some("two".to_owned()));
        bridge.ends().await;

        let (kind, options) = (ExchangeKind::Topic, ExchangeDeclareOptions::default());
        channel.exchange_declare("logs".into(), kind, options, FieldTable::default()).await.expect("an exchange");
        let bridge = Out::start(&format!("{url}/exchange/logs"));
        // Nobody is bound: what follows it in its key does not overtake it.
        bridge.give(chunk([event(1, "a", "first"), event(2, "a", "second")])).await;
        let outcomes = bridge.outcomes().await.expect("a report");
        assert!(matches!(&outcomes[0], Outcome::Retry { reason, .. } if reason.contains("NO_ROUTE")), "{outcomes:?}");
        assert_eq!((&outcomes[1], bridge.figures().retried), (&Outcome::Skipped, 1));
        let arguments = FieldTable::default;
        declare(&channel, "orders", false, arguments()).await;
        let bound = channel.queue_bind(
            "orders".into(),
            "logs".into(),
            "orders.*".into(),
            QueueBindOptions::default(),
            arguments(),
        );
        bound.await.expect("bound");
        bridge.give(chunk([event(1, "a", "first")])).await;
        assert_eq!(bridge.outcomes().await, Some(vec![Outcome::Acked]));
        assert_eq!(get(&channel, "orders").await.map(|(text, _)| text), Some("first".to_owned()), "by its topic");
        bridge.ends().await;

        // The server closes the channel of whoever publishes there: only what it closes it for counts an attempt.
        let options = ExchangeDeclareOptions { internal: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare("inner".into(), ExchangeKind::Fanout, options, arguments())
            .await
            .expect("an exchange");
        let bridge = Out::start(&format!("{url}/exchange/inner"));
        bridge.give(chunk([event(1, "a", "first"), event(2, "b", "second")])).await;
        let outcomes = bridge.outcomes().await.expect("a report");
        assert!(matches!(&outcomes[0], Outcome::Retry { reason, .. } if reason.contains("ACCESS")), "{outcomes:?}");
        assert_eq!((&outcomes[1], bridge.figures().retried), (&Outcome::Skipped, 1));
        bridge.ends().await;
    });
}
