//! What publishers are promised about ids and expiry, on whole nodes.

use std::time::Duration;

use busway_gateway::api::PublishRequest;
use busway_tests::programs;

use crate::harness::{App, event, keyed};

const ID: &str = "0191f0a2-7c4e-7c3b-9a51-2d7d7f3a9c10";

fn chosen(data: &str) -> PublishRequest {
    PublishRequest { id: Some(ID.to_owned()), ..event("public.echo", data) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_published_twice_with_one_id_is_handled_once_also_after_a_restart() {
    let app = App::new().with(programs::ECHO, "echo");
    let bus = app.run_on_disk().await;
    let first = bus.publish(vec![event("public.echo", "other"), chosen("once")]).await;
    let again = bus.publish(vec![chosen("once")]).await;
    assert_eq!((again[0].id, again[0].offset), (first[1].id, first[1].offset));
    bus.idle().await;
    assert_eq!(bus.service("echo").await.acked, 2);
    bus.stop().await;

    let bus = app.run_on_disk().await;
    let again = bus.publish(vec![chosen("once")]).await;
    assert_eq!((again[0].id, again[0].offset), (first[1].id, first[1].offset));
    bus.idle().await;
    assert_eq!(bus.service("echo").await.handled, 0);
    assert_eq!(bus.status().await.bus.duplicates, 1);
    bus.stop().await;
}

/// The first attempt fails, and before the second the event has expired: by its own time, and by its topic's.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_expires_is_counted_and_frees_its_key() {
    let app = App::new().manifest("[topics.\"public.failing\"]\nexpires = \"200ms\"\n").service(
        "failing",
        programs::FAILING,
        "subscribe = [\"public.failing\", \"public.other\"]\npublish = [\"public.>\"]\n\
         retry = { attempts = 9, backoff = \"500ms\", jitter = 0 }\n",
    );
    let bus = app.run().await;
    let brief = PublishRequest { expires_ms: Some(200), ..keyed("public.other", "k", "retry:1") };
    bus.publish(vec![brief, keyed("public.other", "k", "behind"), event("public.failing", "retry:1")]).await;
    bus.idle().await;
    assert_eq!(bus.texts("public.failing.out").await, ["behind"]);
    let service = bus.service("failing").await;
    assert_eq!((service.subscriptions[0].expired, service.retried, service.dead_lettered), (2, 2, 0));
    bus.stop().await;
}

/// A node that was down when a delayed event was due starts after the event has expired.
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_event_that_expired_while_the_node_was_down_is_dropped_and_counted() {
    let app = App::new().with(programs::ECHO, "echo");
    let bus = app.run_on_disk().await;
    let late = PublishRequest { delay_ms: Some(400), expires_ms: Some(500), ..event("public.echo", "late") };
    bus.publish(vec![late]).await;
    bus.stop().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let bus = app.run_on_disk().await;
    bus.until("the event is dropped", |status| (status.bus.delayed, status.bus.expired) == (0, 1)).await;
    assert_eq!(bus.texts("public.echo").await, Vec::<String>::new());
    bus.stop().await;
}
