//! What happens at the bounds of a node: a full disk, full queues, too many connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{App, event};
use busway_gateway::api::DeadFilter;
use busway_node::manifest::EngineUrl;
use busway_tests::programs;
use busway_types::Limits;

/// The log gives back what everybody has, but dead letters stay until somebody decides about them.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_publishers_but_not_acknowledgements_until_there_is_room() {
    let app = App::new()
        .service("failing", programs::FAILING, "publish = [\"public.>\"]\nretry = { attempts = 1 }\n")
        .service("count", programs::COUNT, "");
    let data = app.path().join("data");
    let bus = app
        .start(|options| {
            options.engine = Some(EngineUrl::File(data));
            let publish_wait = Duration::from_millis(200);
            options.limits = Some(Limits { disk_bytes: 30 * 1024 * 1024, publish_wait, ..Limits::default() });
        })
        .await;
    let filling = format!("reject:{}", "x".repeat(60_000));
    let mut sent = 0_u64;
    let refused = loop {
        let batch = (0..20).map(|n| event(["public.count", "public.failing"][n % 2], &filling)).collect();
        match bus.node.admin().publish(batch).await {
            Ok(replies) => sent += replies.len() as u64 / 2,
            Err(refused) => break refused,
        }
        assert!(sent < 5_000, "the disk never fills: {:?}", bus.status().await.bus);
    };
    assert!(refused.is_retryable() && refused.to_string().contains("limits.disk-bytes"), "{refused}");
    bus.idle().await;
    assert_eq!(bus.service("count").await.acked, sent, "what was taken is acknowledged without room for publishers");
    assert_ne!(bus.status().await.bus.room, "enough");

    assert_eq!(bus.node.admin().dead_drop(DeadFilter::default()).await.expect("dropped").changed as u64, sent);
    bus.until("there is room again", |status| status.bus.room == "enough").await;
    bus.send("public.count", "after").await;
    bus.idle().await;
    assert_eq!(bus.kv("count", "total").await, Some((sent + 1).to_string()));
    bus.stop().await;
}

/// It is held back by nobody but itself, and only it could make room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_service_that_publishes_to_its_own_topic_goes_on() {
    let app = App::new().manifest("[limits]\nbacklog-bytes = \"1MiB\"\nhops = 8").service(
        "circle",
        programs::FORWARD,
        "self = true\nconfig = { to = \"public.forward\" }\n",
    );
    let bus = app.run().await;
    let filling = "x".repeat(60_000);
    // At once, so that it is far above its bound before anybody can be made to wait.
    bus.publish((0..40).map(|_| event("public.forward", &filling)).collect()).await;
    bus.idle().await;
    let circle = bus.service("circle").await;
    assert_eq!((circle.acked, circle.dead_lettered), (40 * 9, 40), "each event goes round until its hops are spent");
    bus.send("public.other", "publishers are let in again").await;
    bus.stop().await;
}

/// Asks for the health of the node and gives the first line of the answer.
async fn health(stream: &mut TcpStream) -> String {
    let request = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_wait_and_are_served_when_others_end() {
    let app = App::new().with(programs::COUNT, "count");
    let bus = app.run().await;
    let mut idle = Vec::new();
    for _ in 0..256 {
        idle.push(TcpStream::connect(bus.node.admin_addr()).await.expect("a connection"));
    }
    let mut further = TcpStream::connect(bus.node.admin_addr()).await.expect("it waits in the system's queue");
    let mut asking = Box::pin(health(&mut further));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut asking).await;
    assert!(early.is_err(), "served beside 256 others: {early:?}");
    idle.truncate(250);
    let answer = tokio::time::timeout(Duration::from_secs(20), asking).await.expect("served");
    assert_eq!(answer, "HTTP/1.1 200 OK");
    drop(idle);
    bus.stop().await;
}
