//! Each limit, hit by a client that is made for it.

use std::time::Duration;

use busway_gateway::edge::{EdgeConfig, EdgeLimits, Refusal};
use tokio::io::AsyncReadExt as _;

use crate::client::{PATIENCE, get, request};
use crate::fake::lock;
use crate::served::{Served, echoing, route};

fn limited(change: impl FnOnce(&mut EdgeLimits)) -> EdgeConfig {
    let mut config = echoing();
    change(&mut config.limits);
    config
}

const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_body_beyond_its_bytes_is_refused_whether_its_length_is_told_or_not() {
    let served = Served::start(limited(|limits| limits.body_bytes = 2_000)).await;
    let fits = served.send(request("POST", "/echo/x").body(vec![b'x'; 2_000])).await;
    assert_eq!((fits.status, fits.body.len()), (200, 2_000));
    let told = served.send(request("POST", "/echo/x").body(vec![b'x'; 2_001])).await;
    assert_eq!((told.status, told.problem().as_str()), (413, "too-large"));
    // In chunks it is known only when it is there: the service's answer ends early instead of being whole.
    let mut chunked = served.connect().await;
    chunked.write("POST /echo/x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n").await;
    chunked.write(format!("7d1\r\n{}\r\n0\r\n\r\n", "x".repeat(2_001))).await;
    let rest = chunked.rest().await;
    assert!(!rest.ends_with("0\r\n\r\n"), "{rest}");
}

#[tokio::test]
async fn a_head_beyond_its_bytes_or_headers_is_refused() {
    let served = Served::start(limited(|limits| limits.header_bytes = 8 * 1024)).await;
    let large = served.send(get("/echo/x").header("x-large", &"x".repeat(9_000))).await;
    assert_eq!(large.status, 431);
    let mut many = get("/echo/x");
    for number in 0..200 {
        many = many.header(&format!("x-{number}"), "x");
    }
    assert_eq!(served.send(many).await.status, 431);
    let mut long = served.connect().await;
    long.write(format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "x".repeat(70_000))).await;
    let refused = long.answer().await.map(|answer| answer.status);
    assert!(matches!(refused, None | Some(414 | 431)), "{refused:?}");
}

#[tokio::test]
async fn a_head_that_drips_in_is_cut_off() {
    let served = Served::start(limited(|limits| limits.header_time = SOON)).await;
    let mut silent = served.connect().await;
    let mut slow = served.connect().await;
    slow.write("GET /health/live HTTP/1.1\r\nhost: h\r\n").await;
    let dripping = async {
        loop {
            slow.write("x-drip: 1\r\n").await;
            let mut byte = [0];
            let read = tokio::time::timeout(Duration::from_millis(50), slow.stream.read(&mut byte)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, dripping).await.expect("the slow one is cut off");
    assert_eq!(silent.rest().await, "", "and one that says nothing");
    // The next request on a connection has the same time.
    let mut second = served.connect().await;
    assert_eq!(second.send(get("/health/live")).await.status, 200);
    second.write("GET /heal").await;
    assert_eq!(second.rest().await, "");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_after_a_while_and_not_before() {
    let served = Served::start(limited(|limits| {
        limits.header_time = Duration::from_millis(100);
        limits.idle_time = Duration::from_secs(1);
    }))
    .await;
    let mut connection = served.connect().await;
    assert_eq!(connection.send(get("/health/live")).await.status, 200);
    tokio::time::sleep(SOON).await;
    assert_eq!(connection.send(get("/health/live")).await.status, 200, "still there after the time for a head");
    assert_eq!(connection.rest().await, "");
}

#[tokio::test]
async fn a_body_that_stops_ends_its_request() {
    let served = Served::start(limited(|limits| limits.body_time = SOON)).await;
    let mut stalled = served.connect().await;
    stalled.write("POST /echo/x HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nten bytes.").await;
    let rest = stalled.rest().await;
    assert!(rest.contains("ten bytes.") && rest.len() < 400, "{rest}");
}

/// Where the gateway reads the body itself there is no answer yet, so the client is told.
#[tokio::test]
async fn a_body_that_stops_or_drips_is_a_request_that_was_too_slow() {
    let served = Served::start(limited(|limits| limits.body_time = SOON)).await;
    let head = "POST /events/a HTTP/1.1\r\nhost: h\r\n";
    let told = |answer: &crate::client::Answer| (answer.status, answer.problem());
    for part in ["content-length: 100\r\n\r\nten bytes.", "transfer-encoding: chunked\r\n\r\na\r\nten bytes.\r\n"] {
        let mut stalled = served.connect().await;
        stalled.write(format!("{head}{part}")).await;
        let answer = stalled.answer().await.expect("an answer");
        assert_eq!(told(&answer), (408, "slow".to_owned()), "{part:?}");
        assert_eq!(stalled.rest().await, "", "what is left of the body is no request");
    }
    // A byte now and then is no progress: without this bound it could go on for a day.
    let mut drips = served.connect().await;
    drips.write(format!("{head}content-length: 100000\r\n\r\n")).await;
    let dripping = async {
        loop {
            drips.write("x").await;
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(20), drips.answer()).await {
                return answer.expect("an answer");
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, dripping).await.expect("it is cut off");
    assert_eq!(told(&answer), (408, "slow".to_owned()));
    assert!(lock(&served.fake.events).is_empty());
    // As slow as is allowed is slow and allowed.
    let mut slow = served.connect().await;
    slow.write(format!("{head}content-length: {}\r\n\r\n", 5 * 1024)).await;
    for _ in 0..5 {
        tokio::time::sleep(SOON / 3).await;
        slow.write(vec![b'x'; 1024]).await;
    }
    assert_eq!(slow.answer().await.map(|answer| answer.status), Some(202));
}

#[tokio::test]
async fn bodies_that_would_fill_the_memory_together_are_refused_until_there_is_room() {
    let served = Served::start(limited(|limits| limits.buffered_bytes = 1024 * 1024)).await;
    let head = "POST /events/a HTTP/1.1\r\nhost: h\r\ncontent-length: 900001\r\n\r\n";
    let mut holds = served.connect().await;
    holds.write(head).await;
    holds.write(vec![b'x'; 900_000]).await;
    // A probe that takes no time, so that it cannot be what the first one has no room for.
    let edge = served.gateway.edge();
    let full = async {
        while edge.read_body(axum::body::Body::from(vec![b'x'; 200_000])).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("the first one is held");
    let refused = served.send(request("POST", "/events/a").body(vec![b'x'; 200_000])).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "overloaded"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    holds.write("x").await;
    assert_eq!(holds.answer().await.map(|answer| answer.status), Some(202));
    let fits = served.send(request("POST", "/events/a").body(vec![b'x'; 200_000])).await;
    assert_eq!(fits.status, 202);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let served = Served::start(limited(|limits| {
        limits.write_time = SOON;
        limits.body_bytes = 64 * 1024 * 1024;
    }))
    .await;
    let mut deaf = served.connect().await;
    let body = vec![b'x'; 1024 * 1024];
    deaf.write("POST /echo/x HTTP/1.1\r\nhost: h\r\ncontent-length: 67108864\r\n\r\n").await;
    // What it sends comes back, and it takes nothing of it: at some point nothing more is taken of it either.
    let deafness = async {
        for _ in 0..64 {
            use tokio::io::AsyncWriteExt as _;
            if deaf.stream.get_mut().write_all(&body).await.is_err() {
                return;
            }
        }
        panic!("everything was taken");
    };
    tokio::time::timeout(PATIENCE, deafness).await.expect("it is cut off");
}

#[tokio::test]
async fn an_answer_that_does_not_begin_in_time_is_given_up_and_a_route_may_have_its_own_time() {
    let mut config = limited(|limits| limits.request_time = SOON);
    let mut patient = config.routes[0].clone();
    (patient.path, patient.timeout) = ("/patient".into(), Some(PATIENCE));
    config.routes.push(patient);
    let served = Served::start(config).await;
    *lock(&served.fake.service_takes) = Duration::from_millis(600);
    let late = served.send(get("/echo/x")).await;
    assert_eq!((late.status, late.problem().as_str()), (504, "timed-out"));
    assert_eq!(served.send(get("/patient")).await.status, 200);
}

#[tokio::test]
async fn beyond_the_requests_at_once_others_are_told_to_come_back() {
    let served = Served::start(limited(|limits| limits.requests_at_once = 2)).await;
    *lock(&served.fake.service_takes) = Duration::from_millis(500);
    let (mut first, mut second) = (served.connect().await, served.connect().await);
    first.write(get("/echo/x").bytes()).await;
    second.write(get("/echo/x").bytes()).await;
    let both = async {
        while served.gateway.edge().figures().in_flight < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("both are being answered");
    let shed = served.send(get("/echo/x")).await;
    assert_eq!((shed.status, shed.problem().as_str(), shed.header("retry-after")), (503, "overloaded", Some("1")));
    assert_eq!(served.send(get("/health/live")).await.status, 200, "health is asked all the more");
    assert_eq!(first.answer().await.map(|answer| answer.status), Some(200));
    assert_eq!(second.answer().await.map(|answer| answer.status), Some(200));
    let figures = served.gateway.edge().figures();
    assert_eq!((figures.in_flight, figures.requests, figures.refused.get("overloaded")), (0, 4, Some(&1)));
}

#[tokio::test]
async fn further_connections_wait_and_one_client_has_its_share() {
    let served = Served::start(limited(|limits| limits.connections = 2)).await;
    let mut first = served.connect().await;
    let mut second = served.connect().await;
    assert_eq!(first.send(get("/health/live")).await.status, 200);
    assert_eq!(second.send(get("/health/live")).await.status, 200);
    let mut waits = served.connect().await;
    waits.write(get("/health/live").bytes()).await;
    tokio::time::timeout(SOON, waits.answer()).await.expect_err("there is no room");
    drop(first);
    assert_eq!(waits.answer().await.map(|answer| answer.status), Some(200));

    let served = Served::start(limited(|limits| limits.connections_per_client = 2)).await;
    let mut first = served.connect().await;
    assert_eq!(first.send(get("/health/live")).await.status, 200);
    let mut second = served.connect().await;
    assert_eq!(second.send(get("/health/live")).await.status, 200);
    let mut third = served.connect().await;
    assert_eq!(third.rest().await, "", "closed without a word");
    assert_eq!(served.gateway.edge().figures().turned_away, 1);
    assert_eq!(first.send(get("/health/live")).await.status, 200);
}

#[tokio::test]
async fn what_bodies_hold_in_memory_has_a_bound_together() {
    let served = Served::start(limited(|limits| limits.buffered_bytes = 1024 * 1024)).await;
    let edge = served.gateway.edge();
    let body = |bytes: usize| axum::body::Body::from(vec![b'x'; bytes]);
    let first = edge.read_body(body(900 * 1024)).await.expect("there is room");
    assert_eq!(first.bytes().len(), 900 * 1024);
    let refused = edge.read_body(body(200 * 1024)).await.expect_err("there is none");
    assert_eq!(refused.refusal(), Refusal::Overloaded);
    drop(first);
    edge.read_body(body(200 * 1024)).await.expect("there is room again");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_the_fault_of_its_client_whoever_waits_for_it() {
    let begun = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nabc");
    let answered = async |config: EdgeConfig, path: &str| {
        let served = Served::start(config).await;
        let mut stalls = served.connect().await;
        stalls.write(begun(path)).await;
        let answer = stalls.answer().await.expect("an answer");
        (answer.status, answer.problem())
    };
    let slow = || (408, "slow".to_owned());
    let reads = |mut config: EdgeConfig| {
        config.routes.push(route("/reads", "reads"));
        config
    };
    assert_eq!(answered(limited(|limits| limits.body_time = SOON), "/events/a").await, slow());
    assert_eq!(answered(limited(|limits| limits.request_time = SOON), "/events/a").await, slow());
    assert_eq!(answered(reads(limited(|limits| limits.body_time = SOON)), "/reads").await, slow());
    assert_eq!(answered(reads(limited(|limits| limits.request_time = SOON)), "/reads").await, slow());
    // A body that is larger than it may be, in chunks: the service fails over it, and is not to blame.
    let served = Served::start(reads(limited(|limits| limits.body_bytes = 2_000))).await;
    let mut large = served.connect().await;
    large.write("POST /reads HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n").await;
    large.write(format!("7d1\r\n{}\r\n0\r\n\r\n", "x".repeat(2_001))).await;
    let answer = large.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too-large"));
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let served = Served::start(limited(|limits| limits.drain_time = SOON)).await;
    *lock(&served.fake.service_takes) = PATIENCE * 2;
    let mut busy = served.connect().await;
    busy.write(get("/echo/x").bytes()).await;
    let taken = async {
        while served.gateway.edge().figures().in_flight == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("it is being answered");
    served.stop();
    tokio::time::timeout(PATIENCE, served.ended()).await.expect("the end comes");
    assert_eq!(busy.rest().await, "");
}
