//! Dropping in, swapping and removing components while events flow; restarts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use busway_gateway::api::StatusReport;

use crate::harness::{App, event, keyed};
use busway_tests::{assemble, bad, programs};

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_appears_is_started_and_one_that_goes_is_drained() {
    let app = App::new().with(programs::RAW_WITBINDGEN, "raw");
    let bus = app.run().await;
    app.put(programs::COUNT, "count");
    bus.until("the new one runs", |status| status.services.len() == 2).await;
    bus.publish((0..50).map(|_| event("public.count", "x")).collect()).await;
    bus.idle().await;
    assert_eq!(bus.kv("count", "total").await.as_deref(), Some("50"));
    std::fs::remove_file(app.path().join("count.wasm")).expect("removed");
    bus.until("it is gone", |status| status.services.len() == 1).await;
    let status = bus.status().await;
    assert_eq!(status.detached.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["count"]);
    // What is published meanwhile is not lost: its position is kept.
    bus.publish((0..5).map(|_| event("public.count", "x")).collect()).await;
    app.put(programs::COUNT, "count");
    bus.until("it is back", |status| status.services.len() == 2 && status.detached.is_empty()).await;
    bus.idle().await;
    assert_eq!(bus.kv("count", "total").await.as_deref(), Some("55"));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_loses_nothing_and_repeats_nothing() {
    let app = App::new().with(programs::COUNT, "count");
    let bus = app.run().await;
    let first = std::fs::read(programs::COUNT).expect("built");
    let done = AtomicBool::new(false);
    let publishing = async {
        let mut sent = 0;
        while !done.load(Ordering::Relaxed) {
            bus.publish((0..100).map(|i| keyed("public.count", &format!("k{}", i % 9), "x")).collect()).await;
            sent += 100;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        sent
    };
    let swapping = async {
        let mut versions = vec![bus.service("count").await.version.expect("it runs")];
        for round in 0_u8..4 {
            // A custom section makes it another file with the same behaviour.
            let mut next = first.clone();
            next.extend([0, 3, 1, b'v', round]);
            let aside = app.write("count.part", &next);
            std::fs::rename(aside, app.path().join("count.wasm")).expect("renamed");
            let before = versions[versions.len() - 1].clone();
            bus.until("the next version runs", |status| status.services[0].version.as_ref() != Some(&before)).await;
            versions.push(bus.service("count").await.version.expect("it runs"));
        }
        done.store(true, Ordering::Relaxed);
        versions
    };
    let (sent, versions) = tokio::join!(publishing, swapping);
    assert_eq!(versions.len(), 5, "four swaps happened while events flowed: {versions:?}");
    bus.idle().await;
    assert_eq!(bus.kv("count", "total").await, Some(sent.to_string()));
    let count = bus.service("count").await;
    assert_eq!((count.acked, count.dead_lettered), (sent, 0));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_new_version_is_refused_and_the_old_one_goes_on() {
    let app = App::new().with(programs::COUNT, "count");
    let bus = app.run().await;
    let aside = app.write("count.part", &assemble(bad::WRONG_TYPES));
    std::fs::rename(aside, app.path().join("count.wasm")).expect("renamed");
    bus.until("it is refused", |status| !status.refused.is_empty()).await;
    bus.send("public.count", "x").await;
    bus.idle().await;
    assert_eq!(bus.kv("count", "total").await.as_deref(), Some("1"));
    app.put(programs::COUNT, "count");
    bus.until("the good one is taken", |status| status.refused.is_empty()).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_on_disk_survives_a_restart() {
    let app = App::new()
        .service("count", programs::COUNT, "")
        .service(
            "failing",
            programs::FAILING,
            "publish = [\"public.>\"]\nretry = { attempts = 2, backoff = \"10ms\" }\n",
        )
        .service("slow", programs::SLEEPY, "concurrency = 1\n");
    let bus = app.run_on_disk().await;
    bus.publish((0..300).map(|_| event("public.count", "x")).collect()).await;
    bus.send("public.failing", "reject").await;
    bus.idle().await;
    let dead = bus.dead().await;
    assert_eq!(dead.len(), 1);
    bus.publish((0..200).map(|_| event("public.sleepy", "1")).collect()).await;
    bus.stop().await;

    let bus = app.run_on_disk().await;
    assert_eq!(bus.kv("count", "total").await.as_deref(), Some("300"));
    assert_eq!(bus.dead().await, dead, "dead letters with reason and attempts");
    bus.publish((0..7).map(|_| event("public.count", "x")).collect()).await;
    bus.idle().await;
    assert_eq!(bus.kv("count", "total").await.as_deref(), Some("307"), "nothing again, nothing lost");
    assert!(bus.service("slow").await.acked > 0, "the backlog went on after the restart");
    assert_eq!(bus.status().await.bus.head, 300 + 1 + 200 + 7);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_finishes_what_is_in_flight() {
    let app = App::new().service("slow", programs::SLEEPY, "concurrency = 1\n");
    let bus = app.run_on_disk().await;
    bus.publish(vec![event("public.sleepy", "500")]).await;
    bus.until("it is in flight", |status| status.services[0].subscriptions[0].in_flight == 1).await;
    bus.node.drain().await.expect("drained");
    let bus = app.run_on_disk().await;
    bus.idle().await;
    assert_eq!(bus.service("slow").await.handled, 0, "it was acknowledged before the end");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_can_be_retried_and_dropped() {
    use busway_gateway::api::DeadFilter;
    let app = App::new()
        .service("failing", programs::FAILING, "publish = [\"public.>\"]\nretry = { attempts = 1 }\n")
        .service("count", programs::COUNT, "subscribe = [\"public.failing\"]\n");
    let bus = app.run().await;
    bus.publish(vec![event("public.failing", "retry:1"), event("public.failing", "reject")]).await;
    bus.idle().await;
    assert_eq!(bus.dead().await.len(), 2);
    let admin = bus.node.admin();
    let shown = admin.dead_show(bus.dead().await[0].id).await.expect("shown");
    assert_eq!(shown[0].attempts.len(), 1);
    let all = DeadFilter { service: Some("failing".parse().expect("a name")), ..DeadFilter::default() };
    assert_eq!(admin.dead_retry(all.clone()).await.expect("retried").changed, 2);
    bus.idle().await;
    assert_eq!(bus.dead().await.len(), 2, "both fail again at their first attempt");
    assert_eq!(bus.kv("count", "total").await.as_deref(), Some("2"), "a retry goes to its own subscription only");
    assert_eq!(admin.dead_drop(all).await.expect("dropped").changed, 2);
    assert_eq!(bus.dead().await.len(), 0);
    bus.stop().await;
}

/// Fan-out: every subscription gets every event once.
#[tokio::test(flavor = "multi_thread")]
async fn one_event_reaches_every_subscription_once() {
    let app = (0..12).fold(App::new(), |app, i| app.service(&format!("count-{i}"), programs::COUNT, ""));
    let bus = app.run().await;
    for _ in 0..5 {
        bus.publish((0..100).map(|_| event("public.count", "x")).collect()).await;
    }
    bus.idle().await;
    for i in 0..12 {
        assert_eq!(bus.kv(&format!("count-{i}"), "total").await.as_deref(), Some("500"));
    }
    bus.stop().await;
}

/// A slow service makes publishers to its topic wait and then tells them so; other topics are open.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_subscription_overloads_its_own_publishers_only() {
    let app = App::new()
        .manifest("[limits]\nbacklog-bytes = \"1MiB\"")
        .service("slow", programs::SLEEPY, "concurrency = 1\n")
        .service("count", programs::COUNT, "");
    let bus = app.run().await;
    let filling = format!("{:<60000}", "4000");
    let mut refused = None;
    // More than may be on its way to the driver, which notices a full queue a moment later.
    for _ in 0..1_000 {
        if let Err(error) = bus.node.admin().publish(vec![event("public.sleepy", &filling)]).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("publishers are refused in the end");
    assert!(refused.is_retryable() && refused.to_string().contains("slow"), "{refused}");
    bus.send("public.count", "x").await;
    bus.until("others go on", |status| status.services.iter().any(|s| s.name.as_str() == "count" && s.acked == 1))
        .await;
    bus.stop().await;
}

/// Space for parked events and dead letters is bounded in memory too, and publishers hear of it.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_beyond_the_memory_limit_stop_publishers() {
    let app = App::new().manifest("[limits]\nmemory-bytes = \"1MiB\"").service(
        "failing",
        programs::FAILING,
        "publish = [\"public.>\"]\nretry = { attempts = 1 }\n",
    );
    let bus = app.run().await;
    let filling = format!("reject:{:<60000}", "");
    bus.publish((0..20).map(|_| event("public.failing", &filling)).collect()).await;
    bus.until("there is no room", |status| status.bus.room == "no-transactions").await;
    let refused = bus.node.admin().publish(vec![event("public.failing", "x")]).await.expect_err("no room");
    assert!(refused.is_retryable() && refused.to_string().contains("memory-bytes"), "{refused}");
    bus.node.admin().dead_drop(busway_gateway::api::DeadFilter::default()).await.expect("dropped");
    bus.until("there is room again", |status| status.bus.room == "enough").await;
    bus.send("public.failing", "fine").await;
    bus.idle().await;
    assert_eq!(bus.texts("public.failing.out").await, ["fine"]);
    bus.stop().await;
}

/// Settings that reach the host, the engine or the dispatcher through the manifest.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_manifest_take_hold() {
    let app = App::new()
        .manifest("[bus]\ndurability = \"interval(20ms)\"")
        .service("per-event", programs::TRAP, "instances = \"per-event\"\npublish = [\"public.>\"]\n")
        .service("never", programs::TICKER, "run = \"never\"\npublish = [\"public.>\"]\n")
        .service("clock", programs::COUNT, "schedule = \"* * * * * *\"\nemit = \"public.count\"\n");
    let bus = app.run_on_disk().await;
    bus.publish((0..20).map(|i| event("public.trap", &i.to_string())).collect()).await;
    bus.until("all are handled", |status| {
        status.services.iter().any(|s| s.name.as_str() == "per-event" && s.acked == 20)
    })
    .await;
    for event in bus.tail("public.trap.out").await {
        assert_eq!(event.headers[0].value, "1", "each event had an instance of its own");
    }
    bus.until("the clock ticked twice", |status| {
        status.services.iter().any(|service| service.name.as_str() == "clock" && service.acked >= 2)
    })
    .await;
    let never = bus.service("never").await;
    assert_eq!((never.published, never.state.as_str()), (0, "idle"), "a task that never runs is not told as running");
    bus.stop().await;
}

/// A changed manifest is told in `status`, until it is again what the node runs with.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_put_right_again_is_no_longer_told() {
    let app = App::new().service("count", programs::COUNT, "");
    let bus = app.run().await;
    let loaded = std::fs::read(app.path().join("busway.toml")).expect("the manifest");
    app.write("busway.toml", b"[services.count]\ncomponent = \"other.wasm\"\n");
    let told = |status: &StatusReport| status.refused.iter().any(|file| file.path.ends_with("busway.toml"));
    bus.until("the change is told", told).await;
    app.write("busway.toml", &loaded);
    bus.until("it is told no more", |status| !told(status)).await;
    bus.stop().await;
}

/// A subscription whose service went while the node was down is kept for a while, not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_went_while_the_node_was_down_is_detached() {
    let app = App::new().with(programs::COUNT, "count").with(programs::RAW_WITBINDGEN, "raw");
    app.run_on_disk().await.stop().await;
    std::fs::remove_file(app.path().join("count.wasm")).expect("removed");
    let bus = app.run_on_disk().await;
    let detached = bus.status().await.detached;
    assert_eq!(detached.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["count"]);
    bus.stop().await;
}

/// Each of them runs, is swapped and keeps its subscription; a manifest's services outlive their file.
#[tokio::test(flavor = "multi_thread")]
async fn services_of_one_component_are_swapped_together() {
    let app = App::new().service("one", "count.wasm", "").service("two", "count.wasm", "");
    app.put(programs::COUNT, "count");
    let bus = app.run().await;
    let status = bus.status().await;
    assert_eq!((status.services.len(), status.detached.len()), (2, 0), "{status:?}");
    bus.send("public.count", "x").await;
    bus.idle().await;
    let version = status.services[0].version.clone();
    let mut next = std::fs::read(programs::COUNT).expect("built");
    next.extend([0, 3, 1, b'v', 1]);
    let aside = app.write("count.part", &next);
    std::fs::rename(aside, app.path().join("count.wasm")).expect("renamed");
    bus.until("both are swapped", |status| status.services.iter().all(|service| service.version != version)).await;
    std::fs::remove_file(app.path().join("count.wasm")).expect("removed");
    app.write("bad.part", b"");
    std::fs::rename(app.path().join("bad.part"), app.path().join("count.wasm")).expect("renamed");
    bus.until("it is refused to both", |status| status.refused.len() == 2).await;
    bus.send("public.count", "x").await;
    bus.idle().await;
    for service in ["one", "two"] {
        assert_eq!(bus.kv(service, "total").await.as_deref(), Some("2"), "{service}");
    }
    app.put(programs::COUNT, "count");
    bus.until("both are forgiven", |status| status.refused.is_empty()).await;
    assert!(bus.status().await.detached.is_empty());
    bus.stop().await;
}

/// Deleted and put back while it is still busy: it goes on where it was, once what was in flight is settled.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_comes_back_while_it_goes_is_attached_and_handles_nothing_twice() {
    let app = App::new().with(programs::SLEEPY, "slow");
    let bus = app.run_on_disk().await;
    bus.publish((0..4).map(|_| event("public.sleepy", "1500")).collect()).await;
    bus.until("it is busy", |status| status.services[0].subscriptions[0].in_flight > 0).await;
    std::fs::remove_file(app.path().join("slow.wasm")).expect("removed");
    bus.until("it goes", |status| status.services[0].state.as_str() == "draining").await;
    app.put(programs::SLEEPY, "slow");
    bus.until("it runs again", |status| status.services.iter().any(|s| s.state.as_str() == "running")).await;
    bus.idle().await;
    let status = bus.status().await;
    assert!(status.detached.is_empty(), "{status:?}");
    bus.send("public.sleepy", "1").await;
    bus.idle().await;
    bus.stop().await;
    let bus = app.run_on_disk().await;
    bus.idle().await;
    assert_eq!(bus.service("slow").await.handled, 0, "all is settled, and stays so");
    assert!(bus.status().await.detached.is_empty());
    bus.stop().await;
}
