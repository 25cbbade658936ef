//! Moving a subscription back: in memory and on disk, with an end, dry, with effects that are new.

use busway_gateway::api::{ApiError, DeadFilter, Envelope, ForgetRequest, ReplayReply, ReplayRequest, TailFrom};
use busway_tests::programs;
use busway_types::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{App, Bus, event, keyed, text};

fn request(service: &str, from: TailFrom) -> ReplayRequest {
    ReplayRequest { service: service.to_owned(), from, ..ReplayRequest::default() }
}

async fn replay(bus: &Bus, request: ReplayRequest) -> Result<ReplayReply, ApiError> {
    bus.node.admin().replay(request).await
}

/// What is on a topic once there are `count` of it: on disk, what was handled can be read a little later, when it is synced.
async fn tail_of(bus: &Bus, pattern: &str, count: usize) -> Vec<Envelope> {
    let wait = async {
        loop {
            let seen = bus.tail(pattern).await;
            if seen.len() >= count {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("published within a minute")
}

async fn publish_counted(bus: &Bus, count: usize) {
    bus.publish((0..count).map(|i| keyed("public.count", &format!("k{}", i % 3), "x")).collect()).await;
    bus.idle().await;
}

async fn total(bus: &Bus) -> Option<String> {
    bus.kv("count", "total").await
}

async fn counts_again(bus: &Bus) {
    publish_counted(bus, 40).await;
    let dry = ReplayRequest { to: Some(TailFrom::Offset(30)), dry_run: true, ..request("count", TailFrom::Offset(10)) };
    let reply = replay(bus, dry.clone()).await.expect("counted");
    assert_eq!((reply.from, reply.to, reply.events, reply.counted_to), (10, 30, Some(20), 30));
    assert_eq!((reply.moved, reply.generation), (false, 0));
    bus.idle().await;
    assert_eq!(total(bus).await.as_deref(), Some("40"), "a dry run delivers nothing");
    let reply = replay(bus, ReplayRequest { dry_run: false, ..dry }).await.expect("moved");
    assert_eq!((reply.moved, reply.generation), (true, 1));
    publish_counted(bus, 5).await;
    assert_eq!(total(bus).await.as_deref(), Some("65"), "20 again, 5 new, and what lies behind the end not again");
    let reply = replay(bus, request("count", TailFrom::Start)).await.expect("moved");
    assert_eq!((reply.from, reply.to, reply.events, reply.generation), (0, 45, Some(45), 2));
    bus.idle().await;
    assert_eq!(total(bus).await.as_deref(), Some("110"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_log_is_handled_again_in_memory() {
    let app = App::new().with(programs::COUNT, "count");
    let bus = app.run().await;
    counts_again(&bus).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_log_is_handled_again_on_disk_also_after_a_restart() {
    let app = App::new().with(programs::COUNT, "count");
    let bus = app.run_on_disk().await;
    counts_again(&bus).await;
    bus.stop().await;
    let bus = app.run_on_disk().await;
    bus.idle().await;
    assert_eq!(total(&bus).await.as_deref(), Some("110"), "nothing is handled again by itself");
    let reply = replay(&bus, request("count", TailFrom::Offset(44))).await.expect("moved");
    assert_eq!(reply.generation, 3, "the generation is durable");
    bus.idle().await;
    assert_eq!(total(&bus).await.as_deref(), Some("111"));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_in_a_replay_has_new_ids_and_the_order_of_keys_holds() {
    let settings = "subscribe = [\"in\"]\npublish = [\"out\"]\nconfig = { to = \"out\" }\n";
    let app = App::new().service("forward", programs::FORWARD, settings);
    let bus = app.run_on_disk().await;
    bus.publish((0..60).map(|i| keyed("in", &format!("k{}", i % 4), &i.to_string())).collect()).await;
    bus.idle().await;
    let first = tail_of(&bus, "out", 60).await;
    replay(&bus, request("forward", TailFrom::Start)).await.expect("moved");
    bus.idle().await;
    let all = tail_of(&bus, "out", 120).await;
    let ids: BTreeSet<_> = all.iter().map(|envelope| envelope.id).collect();
    assert_eq!((first.len(), all.len(), ids.len()), (60, 120, 120));
    for key in 0..4 {
        let again = all[60..].iter().filter(|envelope| envelope.key.as_deref() == Some(&format!("k{key}")));
        let again: Vec<String> = again.map(text).collect();
        let wanted: Vec<String> = (0..60).filter(|i| i % 4 == key).map(|i| i.to_string()).collect();
        assert_eq!(again, wanted);
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_are_not_doubled_and_dead_letters_come_back_when_asked_for() {
    let settings = "publish = [\"public.>\"]\nretry = { attempts = 2, backoff = \"2s\", jitter = 0 }\n";
    let app = App::new().service("failing", programs::FAILING, settings);
    let bus = app.run_on_disk().await;
    let data = ["fine", "reject", "retry:1", "fine"];
    bus.publish(data.iter().map(|data| event("public.failing", data)).collect()).await;
    bus.until("one is parked", |status| status.services[0].subscriptions[0].parked == 1).await;
    bus.until("one is dead", |status| status.services[0].subscriptions[0].dead == 1).await;
    bus.until("the others are done", |status| status.services[0].acked == 2).await;
    let reply = replay(&bus, request("failing", TailFrom::Start)).await.expect("moved");
    // What the handler published is not selected.
    assert_eq!((reply.events, reply.parked, reply.dead), (Some(2), 1, 1));
    bus.idle().await;
    assert_eq!(bus.dead().await.len(), 1, "it stays dead");
    let outs = tail_of(&bus, "public.failing.out", 5).await;
    let outs: Vec<String> = outs.iter().map(text).collect();
    let times = |data: &str| outs.iter().filter(|out| *out == data).count();
    assert_eq!((times("fine"), times("retry:1")), (4, 1), "{outs:?}");
    let again = ReplayRequest { dead: true, ..request("failing", TailFrom::Offset(1)) };
    let again = ReplayRequest { to: Some(TailFrom::Offset(2)), ..again };
    let reply = replay(&bus, again).await.expect("moved");
    assert_eq!((reply.events, reply.dead), (Some(1), 1));
    bus.idle().await;
    let failing = bus.service("failing").await;
    assert_eq!((failing.dead_lettered, bus.dead().await.len()), (2, 1), "rejected again");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_what_is_gone_or_of_nobody_is_refused_with_what_would_do() {
    let app = App::new().manifest("[limits]\nrecent-bytes = \"1KiB\"").with(programs::COUNT, "count");
    let bus = app.run().await;
    publish_counted(&bus, 50).await;
    publish_counted(&bus, 2).await;
    let oldest = bus.status().await.bus.oldest;
    assert!(oldest > 0);
    let error = replay(&bus, request("count", TailFrom::Offset(0))).await.expect_err("gone");
    let told = error.to_string();
    assert!(told.contains(&format!("the oldest is {oldest}")) && told.contains("--data"), "{told}");
    let reply = replay(&bus, request("count", TailFrom::Start)).await.expect("moved");
    assert_eq!((reply.from, reply.events), (oldest, Some(52 - oldest)));
    let error = replay(&bus, request("nobody", TailFrom::Start)).await.expect_err("no such service");
    assert_eq!(error.status(), 404);
    let error = replay(&bus, request("count", TailFrom::Offset(99))).await.expect_err("behind the head");
    assert_eq!(error.status(), 409);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_gone_is_moved_too_and_handles_again_when_it_is_back() {
    let app = App::new().with(programs::COUNT, "count");
    let bus = app.run_on_disk().await;
    publish_counted(&bus, 10).await;
    std::fs::remove_file(app.path().join("count.wasm")).expect("removed");
    bus.until("it is gone", |status| status.detached.len() == 1).await;
    let reply = replay(&bus, request("count", TailFrom::Offset(4))).await.expect("moved");
    assert_eq!((reply.events, reply.moved), (None, true), "nobody says what it selects");
    app.put(programs::COUNT, "count");
    bus.until("it is back", |status| status.detached.is_empty() && status.services.len() == 1).await;
    bus.idle().await;
    assert_eq!(total(&bus).await.as_deref(), Some("16"));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_starts_now_at_the_start_or_at_a_time() {
    let count = |from: &str| format!("subscribe = [\"public.count\"]\nfrom = {from:?}\n");
    let app = App::new().with(programs::RAW_WITBINDGEN, "raw");
    let bus = app.run_on_disk().await;
    bus.publish((0..3).map(|_| event("public.count", "early")).collect()).await;
    bus.idle().await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let late = bus.publish((0..2).map(|_| event("public.count", "late")).collect()).await;
    let time = bus.tail("public.count").await[3].time_ms;
    assert_eq!(late[0].offset, Some(3));
    bus.stop().await;
    let app = app.service("all", programs::COUNT, &count("start")).service("none", programs::COUNT, &count("now"));
    let app = app.service("some", programs::COUNT, &count(&time.to_string()));
    let bus = app.run_on_disk().await;
    bus.idle().await;
    let of = async |service| bus.kv(service, "total").await;
    assert_eq!(
        (of("all").await.as_deref(), of("some").await.as_deref(), of("none").await),
        (Some("5"), Some("2"), None)
    );
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_service_left_is_kept_until_it_is_forgotten() {
    let app = App::new().with(programs::FAILING, "failing");
    let bus = app.run_on_disk().await;
    let admin = bus.node.admin();
    bus.publish(vec![event("public.failing", "reject")]).await;
    bus.idle().await;
    let named = || ForgetRequest { subscription: "failing".to_owned(), key_value: false };
    let error = admin.forget(named()).await.expect_err("it is attached");
    assert!(error.status() == 409 && error.to_string().contains("remove the service first"), "{error}");
    std::fs::remove_file(app.path().join("failing.wasm")).expect("removed");
    bus.until("it is gone", |status| status.detached.len() == 1).await;
    bus.publish(vec![event("public.failing", "meanwhile")]).await;
    let gone = admin.forget(named()).await.expect("forgotten");
    assert_eq!((gone.dead, gone.parked, gone.lag), (1, 0, 1));
    assert!(bus.status().await.detached.is_empty() && bus.dead().await.is_empty());
    assert_eq!(admin.forget(named()).await.expect_err("once").status(), 404);
    app.put(programs::FAILING, "failing");
    bus.until("it is back", |status| status.services.len() == 1).await;
    bus.idle().await;
    assert_eq!(bus.service("failing").await.handled, 0, "it is new, and starts now");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_service_stored_is_deleted_when_that_is_asked_for() {
    let app = App::new().with(programs::COUNT, "count");
    let bus = app.run_on_disk().await;
    publish_counted(&bus, 30).await;
    bus.idle().await;
    let admin = bus.node.admin();
    let forget = |key_value| ForgetRequest { subscription: "count".to_owned(), key_value };
    assert_eq!(admin.forget(forget(true)).await.expect_err("it runs").status(), 409);
    std::fs::remove_file(app.path().join("count.wasm")).expect("removed");
    bus.until("it is gone", |status| status.detached.len() == 1 && status.services.is_empty()).await;
    assert_eq!(admin.forget(forget(false)).await.expect("forgotten").keys, 0);
    assert_eq!(bus.kv("count", "total").await.as_deref(), Some("30"), "kept unless it is asked for");
    assert!(admin.forget(forget(true)).await.expect("deleted").keys > 1);
    assert_eq!(admin.forget(forget(true)).await.expect_err("nothing is left").status(), 404);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_selected_by_topic_and_time() {
    let settings = "subscribe = [\"public.a\", \"public.b\"]\n";
    let app = App::new().service("failing", programs::FAILING, settings);
    let bus = app.run().await;
    bus.publish(vec![event("public.a", "reject"), event("public.b", "reject")]).await;
    bus.idle().await;
    let admin = bus.node.admin();
    let time = bus.dead().await.iter().map(|letter| letter.time_ms).max();
    let of = |topic: &str| DeadFilter { topic: Some(topic.parse().expect("a pattern")), ..DeadFilter::default() };
    let until = DeadFilter { until_ms: Some(Timestamp(1)), ..DeadFilter::default() };
    let count = async |filter| admin.dead_list(filter).await.expect("listed").total;
    assert_eq!((count(of("public.b")).await, count(of("public.*")).await, count(until).await), (1, 2, 0));
    let late = DeadFilter { until_ms: time.map(|time| Timestamp(time.0 + 1)), ..of("public.a") };
    assert_eq!(admin.dead_drop(late).await.expect("dropped").changed, 1);
    assert_eq!(bus.dead().await[0].topic.as_str(), "public.b");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_starts_at_the_start_now_at_an_offset_or_at_a_time() {
    for on_disk in [false, true] {
        let app = App::new().with(programs::COUNT, "count");
        let bus = if on_disk { app.run_on_disk().await } else { app.run().await };
        bus.publish((0..3).map(|_| event("t", "early")).collect()).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        bus.publish((0..2).map(|_| event("t", "late")).collect()).await;
        let time = tail_of(&bus, "t", 5).await[3].time_ms;
        let at = async |from| bus.node.admin().tail_position(from).await.expect("a position");
        assert_eq!((at(TailFrom::Start).await, at(TailFrom::Now).await, at(TailFrom::Offset(2)).await), (0, 5, 2));
        let after = Timestamp(time.0 + 60_000);
        assert_eq!((at(TailFrom::Time(time)).await, at(TailFrom::Time(after)).await), (3, 5));
        bus.stop().await;
    }
}
