//! Requests: a service calls a function of a contract and another one answers.

use busway_gateway::api::PublishRequest;
use busway_tests::programs;
use busway_types::{Clock as _, SystemClock};

use crate::harness::{App, Bus, text};

fn question(data: &str) -> PublishRequest {
    let topic = if data.contains("about") { "ask" } else { "ask-points" };
    let topic = format!("test.values.v1.questions.{topic}");
    PublishRequest { topic, text: Some(data.to_owned()), ..PublishRequest::default() }
}

/// What the services told once there is that much of it: on disk a tail shows only what is synced.
async fn told_of(bus: &Bus, count: usize) -> Vec<String> {
    for _ in 0..2_000 {
        let told = told(bus).await;
        if told.len() >= count {
            return told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("only {:?}", told(bus).await)
}

/// What the services told, in the order of the log.
async fn told(bus: &Bus) -> Vec<String> {
    let told = bus.tail("test.values.v1.answers.told").await;
    told.iter().map(|event| text(event).replace("{\"text\":\"", "").replace("\"}", "")).collect()
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn asker() {
    let app = App::new().with(programs::ASKER, "asker").with(programs::ANSWERER, "answerer");
    let bus = app.run_on_disk().await;
    bus.publish(vec![question(r#"{"about":"double","n":21}"#)]).await;
    bus.idle().await;
    assert_eq!(told_of(&bus, 2).await, ["answering double", "double: Ok(42)"], "the answerer's effects come first");
    assert_eq!(bus.kv("answerer", "asked").await.as_deref(), Some("1"));
    bus.publish(vec![question(r#"{"about":"error","n":7}"#)]).await;
    bus.idle().await;
    let third = told_of(&bus, 3).await[2].replace('\\', "");
    assert_eq!(third, r#"error: Err("no quote for 7")"#, "an error is an answer");
    assert_eq!(bus.kv("answerer", "asked").await.as_deref(), Some("1"), "but leaves nothing behind");
    bus.publish(vec![question(r#"{"n":3}"#)]).await;
    bus.idle().await;
    assert_eq!(told_of(&bus, 4).await[3..], ["3 points, the last at Some((2.0, 0.5))"]);
    assert_eq!(bus.tail("test.values.v1.quotes.>").await.len(), 0, "requests are not stored");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn answerer() {
    let app = App::new().service("asker", programs::ASKER, "retry = { attempts = 1 }\n").service(
        "answerer",
        programs::ANSWERER,
        "timeout = \"300ms\"\n",
    );
    let bus = app.run().await;
    for about in ["trap", "slow", "double"] {
        bus.publish(vec![question(&format!(r#"{{"about":"{about}","n":1}}"#))]).await;
        bus.idle().await;
    }
    let told = told(&bus).await;
    assert!(told[0].contains("no more quotes"), "the reason of a trap reaches the caller: {told:?}");
    assert!(told[1].contains("ran longer than 300 ms"), "{told:?}");
    assert_eq!(told[2..], ["answering double", "double: Ok(2)"], "and the next request is answered");
    bus.stop().await;
}

/// The answerer may take as long as the caller: the caller hears of it in time to do something about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_leaves_the_caller_time_to_say_so() {
    let app = App::new().service("asker", programs::ASKER, "timeout = \"4s\"\n").with(programs::ANSWERER, "answerer");
    let bus = app.run().await;
    bus.publish(vec![question(r#"{"about":"slow","n":1}"#)]).await;
    bus.idle().await;
    let told = told(&bus).await;
    assert!(told[0].contains("ran longer than") || told[0].contains("no answer to"), "{told:?}");
    assert_eq!(bus.service("asker").await.timed_out, 0);
    assert_eq!(bus.service("answerer").await.unanswered, 1);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_answers_says_so() {
    let app = App::new().service("asker", programs::ASKER, "retry = { attempts = 1 }\n");
    let bus = app.run().await;
    bus.publish(vec![question(r#"{"about":"double","n":1}"#), question(r#"{"n":1}"#)]).await;
    bus.idle().await;
    let told = told(&bus).await;
    assert!(told[0].contains("no service answers `test.values.v1.quotes.quote`"), "{told:?}");
    let dead = bus.dead().await;
    assert!(dead[0].error.contains("`points` was not answered: no service answers"), "{dead:?}");
    bus.stop().await;
}

/// The only instance waits for an answer that only it could give.
#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_without_a_free_instance_is_a_deadlock_at_once() {
    for (concurrency, wanted) in [(1, "deadlock: asker -> answerer -> answerer"), (2, "Ok(8)")] {
        let app = App::new().service("asker", programs::ASKER, "timeout = \"30s\"\n").service(
            "answerer",
            programs::ANSWERER,
            &format!("timeout = \"30s\"\nconcurrency = {concurrency}\n"),
        );
        let bus = app.run().await;
        let clock = SystemClock::new();
        bus.publish(vec![question(r#"{"about":"again","n":4}"#)]).await;
        bus.idle().await;
        let told = told(&bus).await;
        assert!(told.last().is_some_and(|last| last.contains(wanted)), "{wanted}: {told:?}");
        assert!(clock.monotonic_ns() < 20_000_000_000, "it waited for the timeout");
        bus.stop().await;
    }
}

/// Of several that answer, each request goes to the one with the least to do.
#[tokio::test(flavor = "multi_thread")]
async fn several_services_share_the_requests() {
    let mut app = App::new().service("asker", programs::ASKER, "concurrency = 8\n");
    for name in ["one", "two"] {
        app = app.service(name, programs::ANSWERER, "concurrency = 1\n");
    }
    let bus = app.run().await;
    bus.publish((0..400).map(|n| question(&format!(r#"{{"about":"double","n":{n}}}"#))).collect()).await;
    bus.idle().await;
    let asked = |name: &'static str| {
        let bus = &bus;
        async move { bus.kv(name, "asked").await.map_or(0, |count| count.parse::<u32>().expect("a number")) }
    };
    let (one, two) = (asked("one").await, asked("two").await);
    assert_eq!(one + two, 400, "each was answered once");
    assert!(one > 20 && two > 20, "{one} and {two}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cannot_be_published() {
    let app = App::new().with(programs::ANSWERER, "answerer");
    let bus = app.run().await;
    let request = PublishRequest {
        topic: "test.values.v1.quotes.points".into(),
        text: Some(r#"{"n":1}"#.into()),
        ..PublishRequest::default()
    };
    let refused = format!("{:?}", bus.node.admin().publish(vec![request]).await.expect_err("refused"));
    assert!(refused.contains("is a request of the contract `test:values/quotes@1.0.0`"), "{refused}");
    bus.stop().await;
}
