//! What others write over a request that only the gateway may say, and pages that have a browser ask for them.

use busway_gateway::edge::auth::AuthConfig;
use busway_gateway::edge::rate::{Networks, RateConfig};
use busway_gateway::edge::{CorsConfig, EdgeConfig, Origins, Setup};
use http::HeaderValue;

use crate::client::{Request, get, request};
use crate::fake::{Fake, lock};
use crate::security::{bearer, key};
use crate::served::{Served, echoing};

fn publishing(origin: &str) -> Request {
    request("POST", "/events/a.b").header("origin", origin).header("content-type", "text/plain").body("x")
}

#[tokio::test]
async fn a_foreign_page_publishes_nothing_through_the_browser_of_somebody_who_may() {
    let served = Served::start(EdgeConfig::default()).await;
    let refused = served.send(publishing("https://evil.example")).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "forbidden"));
    assert!(lock(&served.fake.events).is_empty());
    let own = format!("http://{}", served.addr);
    assert_eq!(served.send(publishing(&own).header("host", &served.addr.to_string())).await.status, 202);
    let origins = Origins::Listed(vec![HeaderValue::from_static("https://shop.example")]);
    let config = EdgeConfig { cors: Some(CorsConfig::new(origins)), ..EdgeConfig::default() };
    served.gateway.reload(config).expect("sound");
    assert_eq!(served.send(publishing("https://shop.example")).await.status, 202);
    assert_eq!(served.send(publishing("https://evil.example")).await.status, 403);
}

#[tokio::test]
async fn a_page_that_has_a_key_may_use_it_wherever_it_comes_from() {
    let (key, config) = key("shop", &["publish:a.>"]);
    let auth = AuthConfig { keys: vec![config], ..AuthConfig::default() };
    let served = Served::start(EdgeConfig { auth, ..EdgeConfig::default() }).await;
    assert_eq!(served.send(bearer(publishing("https://anywhere.example"), key.as_str())).await.status, 202);
}

#[tokio::test]
async fn a_name_that_was_made_to_lead_here_is_not_taken_for_this_machine() {
    let rebound = || get("/openapi.json").header("host", "evil.example:8080").header("sec-fetch-site", "same-origin");
    let served = Served::start(EdgeConfig::default()).await;
    let refused = served.send(rebound()).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("trusted-proxies"), "{}", refused.text());
    let local = get("/openapi.json").header("host", "localhost:8080").header("sec-fetch-site", "same-origin");
    assert_eq!(served.send(local).await.status, 200);
    let by_program = get("/openapi.json").header("host", "gateway.example");
    assert_eq!(served.send(by_program).await.status, 200, "only browsers are led astray");
    let setup = Setup { seed: 7, folder: None, is_public: true };
    let public = Served::start_as(Fake::default(), EdgeConfig::default(), setup).await;
    assert_eq!(public.send(rebound()).await.status, 200, "it has a name of its own");
}

#[tokio::test]
async fn a_service_sees_who_asks_and_from_where_as_the_gateway_knows_it() {
    let (key, config) = key("shop", &["route:*"]);
    let auth = AuthConfig { keys: vec![config], ..AuthConfig::default() };
    let served = Served::start(EdgeConfig { auth: auth.clone(), ..echoing() }).await;
    let asked = || {
        bearer(get("/echo/x"), key.as_str())
            .header("connection", "close, X-Busway-Caller, x-busway-client")
            .header("x-busway-caller", "key:admin")
            .header("x_busway_client", "10.0.0.1")
            .header("x-forwarded-for", "10.9.9.9")
            .header("x-real-ip", "10.9.9.9")
    };
    let answer = served.send(asked()).await;
    assert_eq!(answer.header("x-seen-x-busway-caller"), Some("key:shop"));
    assert_eq!(answer.header("x-seen-x-busway-client"), Some("127.0.0.1"));
    for made_up in ["x-seen-x_busway_client", "x-seen-x-forwarded-for", "x-seen-x-real-ip"] {
        assert_eq!(answer.header(made_up), None, "{made_up}");
    }
    let rate = RateConfig {
        trusted_proxies: Networks(vec!["127.0.0.0/8".parse().expect("a network")]),
        ..RateConfig::default()
    };
    served.gateway.reload(EdgeConfig { auth, rate, ..echoing() }).expect("sound");
    let answer = served.send(asked()).await;
    assert_eq!(answer.header("x-seen-x-busway-client"), Some("10.9.9.9"), "what a proxy of ours says counts");
    assert_eq!(answer.header("x-seen-x-forwarded-for"), Some("10.9.9.9"));
}
