//! Pages of other origins.

use busway_gateway::edge::{CorsConfig, EdgeConfig, Origins};
use http::HeaderValue;

use crate::client::{get, request};
use crate::served::{Served, echoing};

#[tokio::test]
async fn only_listed_origins_may_use_the_gateway() {
    let origins = Origins::Listed(vec![HeaderValue::from_static("https://shop.example")]);
    let served = Served::start(EdgeConfig { cors: Some(CorsConfig::new(origins)), ..echoing() }).await;
    let allowed = served.send(get("/echo/x").header("origin", "https://shop.example")).await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://shop.example"));
    let other = served.send(get("/echo/x").header("origin", "https://evil.example")).await;
    assert_eq!(other.header("access-control-allow-origin"), None);
    let question = request("OPTIONS", "/echo/x")
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,ce-id");
    let answer = served.send(question).await;
    assert_eq!((answer.status, answer.header("x-method")), (200, None), "answered by the gateway, not by the service");
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type,ce-id"));
    assert!(answer.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
}

#[tokio::test]
async fn without_origins_nothing_is_said_and_any_origin_gets_no_credentials() {
    let served = Served::start(echoing()).await;
    let closed = served.send(get("/echo/x").header("origin", "https://shop.example")).await;
    assert_eq!(closed.header("access-control-allow-origin"), None);
    let any = CorsConfig { credentials: true, ..CorsConfig::new(Origins::Any) };
    let served = Served::start(EdgeConfig { cors: Some(any), ..echoing() }).await;
    let open = served.send(get("/echo/x").header("origin", "https://shop.example")).await;
    assert_eq!(open.header("access-control-allow-origin"), Some("*"));
    assert_eq!(open.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn a_service_answers_options_by_itself_and_pages_may_read_why_they_are_turned_away() {
    let origins = Origins::Listed(vec![HeaderValue::from_static("https://shop.example")]);
    let served = Served::start(EdgeConfig { cors: Some(CorsConfig::new(origins)), ..echoing() }).await;
    assert_eq!(served.send(request("OPTIONS", "/echo/x")).await.header("x-method"), Some("OPTIONS"));
    let refused = served.send(get("/echo//x").header("origin", "https://shop.example")).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://shop.example"));
}
