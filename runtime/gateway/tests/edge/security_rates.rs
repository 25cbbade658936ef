//! Not too often: requests of one client, of one route, and wrong credentials.

use busway_gateway::edge::auth::{ApiKey, AuthConfig};
use busway_gateway::edge::rate::{Networks, Rate, RateConfig};
use busway_gateway::edge::{EdgeConfig, RouteConfig};

use crate::client::get;
use crate::security::{bearer, key};
use crate::served::{Served, route};

fn rate(text: &str, burst: u32) -> Rate {
    text.parse::<Rate>().expect("a rate").with_burst(burst)
}

/// Three requests at once for each client, and the next one in an hour.
fn three() -> EdgeConfig {
    EdgeConfig {
        rate: RateConfig { requests: rate("1/h", 3), ..RateConfig::default() },
        routes: vec![route("/echo/{*rest}", "echo")],
        ..EdgeConfig::default()
    }
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let served = Served::start(three()).await;
    for left in ["2", "1", "0"] {
        let answer = served.send(get("/echo/x")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"client\";q=3;w=10800"));
        assert_eq!(answer.header("ratelimit"), Some(&*format!("\"client\";r={left};t=3600")));
    }
    let refused = served.send(get("/echo/x")).await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "too-many"));
    let after: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((3_590..=3_600).contains(&after), "{after}");
    assert!(refused.header("ratelimit").expect("told").starts_with("\"client\";r=0;"));
    assert_eq!(refused.json()["violated-policies"][0], "client");
    assert_eq!(served.send(get("/health/live")).await.status, 200, "supervisors are not counted");
}

#[tokio::test]
async fn clients_do_not_spend_what_is_anothers() {
    let ((one, a), (two, b)) = (key("one", &["route:*"]), key("two", &["route:*"]));
    let auth = AuthConfig { keys: vec![a, b], ..AuthConfig::default() };
    let served = Served::start(EdgeConfig { auth, ..three() }).await;
    for _ in 0..3 {
        assert_eq!(served.send(bearer(get("/echo/x"), one.as_str())).await.status, 200);
        assert_eq!(served.send(get("/echo/x")).await.status, 401);
    }
    assert_eq!(served.send(bearer(get("/echo/x"), one.as_str())).await.status, 429);
    assert_eq!(served.send(get("/echo/x")).await.status, 429, "whoever shows nothing is counted by address");
    assert_eq!(served.send(bearer(get("/echo/x"), two.as_str())).await.status, 200, "from the same address");
}

#[tokio::test]
async fn a_route_may_have_a_rate_of_its_own_which_a_reload_does_not_reset() {
    let limited = RouteConfig { rate: Some(rate("1/h", 1)), name: "slow".into(), ..route("/slow", "echo") };
    let config = EdgeConfig { routes: vec![limited, route("/echo/{*rest}", "echo")], ..EdgeConfig::default() };
    let served = Served::start(config.clone()).await;
    let first = served.send(get("/slow")).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"client\";q=2000;w=2, \"route\";q=1;w=3600"));
    let second = served.send(get("/slow")).await;
    assert_eq!((second.status, &second.json()["violated-policies"][0]), (429, &"route".into()));
    assert_eq!(served.send(get("/echo/x")).await.status, 200);
    served.gateway.reload(config.clone()).expect("sound");
    assert_eq!(served.send(get("/slow")).await.status, 429);
    let mut changed = config;
    changed.routes[0].rate = Some(rate("1/h", 2));
    served.gateway.reload(changed).expect("sound");
    assert_eq!(served.send(get("/slow")).await.status, 200, "another rate begins anew");
}

#[tokio::test]
async fn nobody_wins_requests_by_claiming_another_address() {
    let served = Served::start(three()).await;
    for i in 0..3 {
        let answer = served.send(get("/echo/x").header("x-forwarded-for", &format!("203.0.113.{i}"))).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(served.send(get("/echo/x").header("x-forwarded-for", "203.0.113.9")).await.status, 429);
    let trusted_proxies = Networks(vec!["127.0.0.0/8".parse().expect("a block")]);
    let config = EdgeConfig { rate: RateConfig { trusted_proxies, ..three().rate }, ..three() };
    let behind = Served::start(config).await;
    for _ in 0..3 {
        assert_eq!(behind.send(get("/echo/x").header("x-forwarded-for", "6.6.6.6, 203.0.113.1")).await.status, 200);
    }
    assert_eq!(behind.send(get("/echo/x").header("x-forwarded-for", "7.7.7.7, 203.0.113.1")).await.status, 429);
    assert_eq!(behind.send(get("/echo/x").header("x-forwarded-for", "203.0.113.2")).await.status, 200);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_locks_out_nobody_who_has_a_key() {
    let (good, config) = key("good", &["route:*"]);
    let auth = AuthConfig { keys: vec![config], ..AuthConfig::default() };
    let rate = RateConfig { failed: rate("1/h", 5), ..RateConfig::default() };
    let routes = vec![route("/echo/{*rest}", "echo")];
    let served = Served::start(EdgeConfig { auth, rate, routes, ..EdgeConfig::default() }).await;
    let guess = || async {
        let guess = ApiKey::generate().expect("random");
        served.send(bearer(get("/echo/x"), guess.as_str())).await
    };
    for _ in 0..5 {
        assert_eq!(guess().await.status, 401);
    }
    let refused = guess().await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "too-many"));
    assert!(refused.header("retry-after").is_some());
    let token = served.send(bearer(get("/echo/x"), "a.b.c")).await;
    assert_eq!(token.status, 429);
    assert_eq!(served.send(bearer(get("/echo/x"), good.as_str())).await.status, 200);
}
