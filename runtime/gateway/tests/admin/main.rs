//! The admin API over real connections, with a backend made of a vector.

mod fake;
mod http;

use std::time::Duration;

use busway_gateway::AdminConfig;
use busway_gateway::api::{Envelope, Problem, PublishResponse, StatusReport, TailLine};

use fake::Fake;
use http::{Served, TOKEN, request};

#[tokio::test]
async fn health_needs_no_token_and_everything_else_does() {
    let served = Served::start(Fake::default()).await;
    let health = served.send(&request("GET", "/v1/health").without_token()).await;
    assert_eq!((health.status, health.body.as_str()), (200, r#"{"status":"ok"}"#));
    for path in ["/v1/status", "/v1/events", "/v1/nothing"] {
        let answer = served.send(&request("GET", path).without_token()).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let problem: Problem = answer.json();
        assert_eq!(problem.word(), "unauthorized");
    }
    let wrong = request("GET", "/v1/status").without_token().header("Authorization", "Bearer nonsense");
    assert_eq!(served.send(&wrong).await.status, 401);
    let report: StatusReport = served.send(&request("GET", "/v1/status")).await.json();
    assert_eq!(report.bus.head, 0);
}

#[tokio::test]
async fn a_name_rebound_to_this_machine_is_turned_away_before_the_token_is_looked_at() {
    let served = Served::start(Fake::default()).await;
    let answer = served.send(&request("GET", "/v1/status").host("evil.example")).await;
    assert_eq!(answer.status, 421);
    assert_eq!(answer.json::<Problem>().word(), "wrong-host");
}

#[tokio::test]
async fn unknown_routes_methods_and_fields_are_problems() {
    let served = Served::start(Fake::default()).await;
    let cases = [
        ("GET", "/v1/nothing", "", 404, "not-found"),
        ("DELETE", "/v1/status", "", 405, "method"),
        ("GET", "/v1/events?form=now", "", 400, "invalid"),
        ("GET", "/v1/events?from=yesterday", "", 400, "invalid"),
        ("GET", "/v1/events?pattern=a..b", "", 400, "invalid"),
        ("GET", "/v1/dead/7", "", 400, "invalid"),
        ("GET", "/v1/kv/a%20b", "", 400, "invalid"),
        ("POST", "/v1/dead/drop", r#"{"servise":"a"}"#, 400, "invalid"),
        ("POST", "/v1/events", r#"{"topic":"a","data":1,"text":"b"}"#, 400, "invalid"),
        ("POST", "/v1/events", r#"{"topic":"a b"}"#, 400, "invalid"),
    ];
    for (method, path, body, status, word) in cases {
        let answer = served.send(&request(method, path).body(body)).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
        assert_eq!(answer.json::<Problem>().word(), word, "{method} {path}");
    }
}

#[tokio::test]
async fn what_is_published_can_be_read_and_published_again() {
    let served = Served::start(Fake::default()).await;
    let lines = "{\"topic\":\"a.b\",\"key\":\"k\",\"data\":{\"n\":1.50}}\n{\"topic\":\"a.c\",\"base64\":\"/wA=\"}\n";
    let answer: PublishResponse = served.send(&request("POST", "/v1/events").body(lines)).await.json();
    assert_eq!(answer.published.iter().map(|p| p.offset).collect::<Vec<_>>(), [Some(0), Some(1)]);

    let read = served.send(&request("GET", "/v1/events?from=start&follow=false")).await;
    assert_eq!(read.header("content-type"), Some("application/x-ndjson"));
    let events = events(&read.body);
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].data.as_ref().map(|d| d.get()), Some(r#"{"n":1.50}"#));
    assert_eq!(events[0].key.as_deref(), Some("k"));
    assert_eq!(events[1].base64.as_deref(), Some("/wA="));

    let one = served.send(&request("GET", "/v1/events?from=0&follow=false&pattern=x.%3E,a.*&limit=1")).await;
    assert_eq!(self::events(&one.body).len(), 1);
}

fn events(body: &str) -> Vec<Envelope> {
    body.lines()
        .map(|line| match serde_json::from_str(line).expect("a line") {
            TailLine::Event(event) => *event,
            other => panic!("not an event: {other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn a_batch_with_one_bad_event_is_refused_whole_and_the_event_named() {
    let served = Served::start(Fake::default()).await;
    let answer = served.send(&request("POST", "/v1/events").body("{\"topic\":\"a\"}\n{\"topic\":\"a..b\"}\n")).await;
    let problem: Problem = answer.json();
    assert_eq!((answer.status, problem.index), (400, Some(1)));
    assert!(problem.detail.contains("empty token at byte 2"), "{}", problem.detail);
    let report: StatusReport = served.send(&request("GET", "/v1/status")).await.json();
    assert_eq!(report.bus.head, 0);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let mut config = AdminConfig::new(busway_gateway::AdminToken::new(TOKEN));
    config.body_bytes = 100;
    let served = Served::start_with(Fake::default(), config).await;
    let body = format!("{{\"topic\":\"a\",\"text\":\"{}\"}}", "x".repeat(200));
    let answer = served.send(&request("POST", "/v1/events").body(&body)).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json::<Problem>().word(), "too-large");
}

#[tokio::test]
async fn a_request_that_hangs_ends_with_its_time() {
    let mut config = AdminConfig::new(busway_gateway::AdminToken::new(TOKEN));
    config.request_time = Duration::from_millis(50);
    let served = Served::start_with(Fake { hang_on_status: true, ..Fake::default() }, config).await;
    let answer = served.send(&request("GET", "/v1/status")).await;
    assert_eq!(answer.status, 504);
    assert!(answer.json::<Problem>().retryable);
}

#[tokio::test]
async fn a_reader_is_told_what_it_missed() {
    let served = Served::start(Fake { oldest: 2, ..Fake::default() }).await;
    let lines = "{\"topic\":\"a\"}\n{\"topic\":\"a\"}\n{\"topic\":\"a\"}\n";
    served.send(&request("POST", "/v1/events").body(lines)).await;
    let read = served.send(&request("GET", "/v1/events?from=0&follow=false")).await;
    let lines: Vec<&str> = read.body.lines().collect();
    assert_eq!(lines[0], r#"{"missed":2}"#);
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn a_follower_gets_what_comes_later_and_a_last_word_when_the_node_stops() {
    let served = Served::start(Fake::default()).await;
    let mut follower = served.open(&request("GET", "/v1/events?from=now")).await;
    served.send(&request("POST", "/v1/events").body(r#"{"topic":"late"}"#)).await;
    let line = follower.line().await;
    assert!(line.contains(r#""topic":"late""#), "{line}");
    served.stop();
    let line = follower.line().await;
    assert!(line.contains("urn:busway:problem:stopping"), "{line}");
    served.ended().await;
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_way_out() {
    let first = busway_gateway::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
    let taken = first.local_addr().expect("its address");
    let error = busway_gateway::bind(taken).await.expect_err("taken");
    assert!(error.to_string().contains("is in use"), "{error}");
    assert!(error.to_string().contains("--admin"), "{error}");
}
