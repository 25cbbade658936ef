//! What publishers are promised about ids, expiry, full queues and failing disks, on whole nodes.

use std::sync::Arc;
use std::time::Duration;

use busway_gateway::api::PublishRequest;
use busway_log::testing::MemFs;
use busway_node::manifest::EngineUrl;
use busway_tests::programs;
use busway_types::SplitMix;

use crate::harness::{App, Bus, event, keyed};

const ID: &str = "0191f0a2-7c4e-7c3b-9a51-2d7d7f3a9c10";

fn chosen(data: &str) -> PublishRequest {
    PublishRequest { id: Some(ID.to_owned()), ..event("public.echo", data) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_published_twice_with_one_id_is_handled_once_also_after_a_restart() {
    let app = App::new().service("echo", programs::ECHO, "subscribe = [\"public.echo\"]\n");
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
    let app = App::new().service("echo", programs::ECHO, "subscribe = [\"public.echo\"]\n");
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

async fn on(app: &App, fs: &MemFs) -> Bus {
    let fs = Arc::new(fs.clone());
    app.start(|options| {
        options.engine = Some(EngineUrl::File("/data/bus".into()));
        options.fs = fs;
    })
    .await
}

/// After a sync that failed nothing is acknowledged, the node says why it ends, and starts again with what was safe.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_the_node_which_starts_again_with_what_was_acknowledged() {
    let app = App::new().service("echo", programs::ECHO, "subscribe = [\"public.echo\"]\n");
    let fs = MemFs::new();
    let bus = on(&app, &fs).await;
    bus.send("public.echo", "safe").await;
    bus.idle().await;
    fs.fail_syncs_after(0);
    let refused = bus.node.admin().publish(vec![chosen("lost")]).await.expect_err("its sync failed");
    assert!(!refused.is_retryable(), "{refused}");
    bus.node.admin().publish(vec![chosen("lost")]).await.expect_err("nothing is acknowledged any more");
    let stopped = tokio::time::timeout(Duration::from_secs(30), bus.node.stopped()).await;
    let reason = stopped.expect("the node ends by itself").expect("and says why");
    assert!(reason.contains("syncing") && reason.contains("check the disk and start again"), "{reason}");
    // That the log cannot be closed well any more is known.
    let _ = bus.node.stop().await;

    let bus = on(&app, &fs.crash(&mut SplitMix(3))).await;
    bus.idle().await;
    let kept = bus.texts("public.echo").await;
    assert_eq!(kept.first().map(String::as_str), Some("safe"));
    let again = bus.publish(vec![chosen("once more")]).await;
    assert_eq!(again.len(), 1, "what was not acknowledged can be published again");
    bus.idle().await;
    bus.stop().await;
}

/// Publishes 600 events from two publishers as fast as they are taken; gives how often they were refused and the most
/// events of the service that were in memory.
async fn press(bus: &Bus) -> (usize, usize) {
    let filling = format!("1{}", " ".repeat(7_000));
    let publish = async || {
        let mut refused = 0;
        for _ in 0..30 {
            let batch: Vec<_> = (0..10).map(|_| event("public.sleepy", &filling)).collect();
            while let Err(error) = bus.node.admin().publish(batch.clone()).await {
                assert!(error.is_retryable(), "{error}");
                refused += 1;
            }
        }
        refused
    };
    let watch = async || {
        let mut most = 0;
        loop {
            let service = bus.service("slow").await;
            most = most.max(service.subscriptions[0].backlog_events);
            if service.acked == 600 {
                return most;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (first, second, most) = tokio::join!(publish(), publish(), watch());
    (first + second, most)
}

/// In memory a slow service slows its publishers; nothing is dropped and the queue stays at its bound.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_service_in_memory_slows_its_publishers_and_loses_nothing() {
    let limits = "[limits]\nevent-bytes = \"8KiB\"\nbacklog-bytes = \"256KiB\"\ninflight-bytes = \"64KiB\"\n\
                  publish-wait = \"5ms\"\n";
    let app = App::new().manifest(limits).service("slow", programs::SLEEPY, "concurrency = 1\n");
    let bus = app.run().await;
    let (refused, most) = press(&bus).await;
    assert!(refused > 0, "publishers feel it");
    // What is on its way comes on top, and two publishers may pass the bound together, each with one batch.
    assert!(most <= (256 + 64) * 1024 / 7_000 + 40, "{most} events in memory");
    let slow = bus.service("slow").await;
    assert_eq!((slow.acked, slow.dead_lettered), (600, 0));
    bus.stop().await;
}

/// On disk the queue of a slow service grows on disk: no publisher is refused, and memory holds a window.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_service_on_disk_slows_nobody_and_holds_a_window_in_memory() {
    let limits = "[limits]\nwindow-events = 64\nevent-bytes = \"8KiB\"\n";
    let app = App::new().manifest(limits).service("slow", programs::SLEEPY, "concurrency = 1\n");
    let bus = app.run_on_disk().await;
    let (refused, most) = press(&bus).await;
    assert_eq!(refused, 0);
    assert!(most <= 64, "{most} events in memory");
    let slow = bus.service("slow").await;
    assert_eq!((slow.acked, slow.dead_lettered), (600, 0));
    bus.stop().await;
}
