//! What everybody may ask, and what every request goes through.

use std::sync::atomic::Ordering;
use std::time::Duration;

use busway_gateway::edge::EdgeConfig;

use crate::client::{PATIENCE, get, request};
use crate::fake::lock;
use crate::served::{Served, echoing, route};

#[tokio::test]
async fn health_tells_whether_requests_are_welcome() {
    let served = Served::start(EdgeConfig::default()).await;
    assert_eq!(served.send(get("/health/live")).await.status, 200);
    assert_eq!(served.send(get("/health/ready")).await.json()["status"], "ok");
    served.fake.is_ready.store(false, Ordering::Relaxed);
    let not_yet = served.send(get("/health/ready")).await;
    assert_eq!((not_yet.status, not_yet.problem().as_str()), (503, "unavailable"));
    assert_eq!(served.send(get("/health/live")).await.status, 200);
    let wrong = served.send(request("POST", "/health/live")).await;
    assert_eq!((wrong.status, wrong.problem().as_str(), wrong.header("allow")), (405, "method", Some("GET,HEAD")));
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_document() {
    let served = Served::start(EdgeConfig::default()).await;
    let nothing = served.send(get("/nothing?secret=1")).await;
    assert_eq!((nothing.status, nothing.problem().as_str()), (404, "not-found"));
    assert!(!nothing.text().contains("secret"), "{}", nothing.text());
}

#[tokio::test]
async fn a_route_leads_to_its_service_and_says_when_that_does_not_run() {
    let mut config = echoing();
    config.routes.push(route("/gone", "nobody"));
    let served = Served::start(config).await;
    let answer = served.send(request("PUT", "/echo/%61?b=1").body("some bytes")).await;
    assert_eq!((answer.status, answer.text()), (200, "some bytes"));
    assert_eq!((answer.header("x-method"), answer.header("x-path")), (Some("PUT"), Some("/echo/a?b=1")));
    let gone = served.send(get("/gone")).await;
    assert_eq!((gone.problem().as_str(), gone.header("retry-after")), ("unavailable", Some("1")));
}

#[tokio::test]
async fn a_request_has_an_id_which_goes_back() {
    let served = Served::start(EdgeConfig::default()).await;
    let given = served.send(get("/health/live").header("x-request-id", "mine-1")).await;
    assert_eq!(given.header("x-request-id"), Some("mine-1"));
    let bad = served.send(get("/nothing").header("x-request-id", "<script>")).await;
    assert_eq!(bad.header("x-request-id").map(str::len), Some(32));
}

#[tokio::test]
async fn another_configuration_is_served_on_the_same_connection_and_a_bad_one_changes_nothing() {
    let served = Served::start(EdgeConfig::default()).await;
    let mut connection = served.connect().await;
    assert_eq!(connection.send(get("/echo/x")).await.status, 404);
    served.gateway.reload(echoing()).expect("a sound configuration");
    assert_eq!(connection.send(get("/echo/x")).await.status, 200);
    let bad = EdgeConfig { routes: vec![route("/a/{x}", "a"), route("/a/{y}", "b")], ..EdgeConfig::default() };
    served.gateway.reload(bad).expect_err("two spellings of one path");
    assert_eq!(connection.send(get("/echo/x")).await.status, 200);
}

#[tokio::test]
async fn the_end_begins_with_readiness_and_lets_requests_finish() {
    let mut config = echoing();
    config.limits.drain_delay = Duration::from_millis(400);
    let served = Served::start(config).await;
    *lock(&served.fake.service_takes) = Duration::from_secs(1);
    let mut busy = served.connect().await;
    busy.write(get("/echo/x").bytes()).await;
    let mut idle = served.connect().await;
    assert_eq!(idle.send(get("/health/ready")).await.status, 200);
    served.stop();
    let turned = async { while idle.send(get("/health/ready")).await.status == 200 {} };
    tokio::time::timeout(PATIENCE, turned).await.expect("readiness goes first");
    assert_eq!(served.send(get("/health/live")).await.status, 200, "the listener is still there");
    let answer = busy.answer().await.expect("the request in flight is answered");
    assert_eq!(answer.status, 200);
    assert_eq!(idle.rest().await, "");
    served.ended().await;
}
