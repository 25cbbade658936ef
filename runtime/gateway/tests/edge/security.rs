//! Locked doors: who is let in, by what, and what everybody else is told.

use std::time::Duration;

use busway_gateway::edge::auth::{ApiKey, AuthConfig, KeyConfig, Scope};
use busway_gateway::edge::{EdgeBackend as _, EdgeConfig, RouteConfig, Target};
use http::Method;

use crate::client::{Answer, Request, get, request};
use crate::served::{Served, echoing, route};

pub(crate) fn scopes(texts: &[&str]) -> Vec<Scope> {
    texts.iter().map(|text| text.parse().expect("a scope")).collect()
}

/// A key, and what a configuration says of it.
pub(crate) fn key(name: &str, allowed: &[&str]) -> (ApiKey, KeyConfig) {
    let key = ApiKey::generate().expect("random");
    let config = KeyConfig { name: name.into(), sha256: key.hash(), scopes: scopes(allowed), expires: None };
    (key, config)
}

pub(crate) fn bearer(request: Request, secret: &str) -> Request {
    request.header("authorization", &format!("Bearer {secret}"))
}

fn named(name: &str, path: &str, method: Option<Method>) -> RouteConfig {
    RouteConfig { name: name.into(), method, ..route(path, "echo") }
}

/// Two closed routes and an open one, with one key for the first.
fn locked() -> (ApiKey, EdgeConfig) {
    let (key, config) = key("shop", &["route:sell"]);
    let routes = vec![
        named("sell", "/sell/{*rest}", None),
        named("refund", "/refund/{*rest}", Some(Method::POST)),
        RouteConfig { is_open: true, ..named("shop", "/shop/{*rest}", None) },
    ];
    let auth = AuthConfig { keys: vec![config], ..AuthConfig::default() };
    (key, EdgeConfig { auth, routes, ..EdgeConfig::default() })
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, answer.problem())
}

fn unauthorized() -> (u16, String) {
    (401, "unauthorized".to_owned())
}

#[tokio::test]
async fn without_authentication_everything_is_open_and_with_it_nothing_is() {
    let open = Served::start(echoing()).await;
    assert_eq!(open.send(get("/echo/x")).await.status, 200);
    assert_eq!(open.send(get("/echo/x").header("authorization", "Bearer nonsense")).await.status, 200);
    let (key, config) = locked();
    let served = Served::start(config).await;
    assert_eq!(told(&served.send(get("/sell/x")).await), unauthorized());
    assert_eq!(served.send(bearer(get("/sell/x"), key.as_str())).await.status, 200);
    assert_eq!(served.send(get("/sell/x").header("x-api-key", key.as_str())).await.status, 200);
    assert_eq!(served.send(get("/shop/x")).await.status, 200, "open by configuration");
    assert_eq!(served.send(get("/health/live")).await.status, 200, "supervisors have no key");
}

#[tokio::test]
async fn a_stranger_is_told_the_same_whether_something_is_there_or_not() {
    let served = Served::start(locked().1).await;
    let there = served.send(get("/sell/x")).await;
    assert_eq!(there.header("www-authenticate"), Some("Bearer realm=\"busway\""));
    for (method, path) in [
        ("GET", "/nothing"),
        ("GET", "/"),
        ("GET", "/refund/x"),
        ("POST", "/refund/x"),
        ("DELETE", "/sell/x"),
        ("HEAD", "/sell/x"),
        ("OPTIONS", "/sell/x"),
        ("OPTIONS", "/nothing"),
        ("GET", "/auth/tickets"),
        ("POST", "/auth/tickets"),
        ("PUT", "/nothing"),
        ("POST", "/events/a.b"),
        ("GET", "/openapi.json"),
        ("PROPFIND", "/sell/x"),
    ] {
        let mut connection = served.connect().await;
        connection.write(request(method, path).bytes()).await;
        if method == "HEAD" {
            let head = connection.head().await.expect("a head");
            assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
            continue;
        }
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(told(&answer), unauthorized(), "{method} {path}");
        assert_eq!(answer.text(), there.text(), "{method} {path}");
        assert_eq!(answer.header("allow"), None, "{method} {path}");
    }
}

#[tokio::test]
async fn a_key_opens_what_it_is_for_and_nothing_beside_it() {
    let (key, config) = locked();
    let served = Served::start(config).await;
    let refused = served.send(bearer(request("POST", "/refund/x"), key.as_str())).await;
    assert_eq!(told(&refused), (403, "forbidden".to_owned()));
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"busway\", error=\"insufficient_scope\""));
    for inside in ["refund", "echo", "sell", "shop"] {
        assert!(!refused.text().contains(inside), "{}", refused.text());
    }
    assert_eq!(told(&served.send(bearer(get("/nothing"), key.as_str())).await), (404, "not-found".to_owned()));
    for method in ["HEAD", "OPTIONS", "DELETE", "PROPFIND"] {
        let mut connection = served.connect().await;
        connection.write(bearer(request(method, "/refund/x"), key.as_str()).bytes()).await;
        let head = connection.head().await.expect("a head");
        assert!(head.starts_with("HTTP/1.1 405 "), "{method}: {head}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_all_alike() {
    let (key, config) = locked();
    let served = Served::start(EdgeConfig { rate: patient(), ..config }).await;
    let secret = key.as_str();
    let other = ApiKey::generate().expect("random");
    let changed = if secret.ends_with('0') { "1" } else { "0" };
    let mut texts = Vec::new();
    for wrong in [
        other.as_str(),
        &secret[..secret.len() - 1],
        &format!("{secret}0"),
        &secret.to_uppercase(),
        &format!("{}{changed}", &secret[..secret.len() - 1]),
        &format!("bw_{}", "0".repeat(72)),
        "bw_",
        "",
        "x",
        "a.b.c",
        "null",
        "undefined",
        &key.hash().to_string(),
        &"x".repeat(12_000),
    ] {
        let answer = served.send(bearer(get("/sell/x"), wrong)).await;
        assert_eq!(told(&answer), unauthorized(), "{wrong}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"busway\", error=\"invalid_token\""));
        texts.push(answer.text().to_owned());
    }
    assert!(texts.windows(2).all(|two| two[0] == two[1]), "{texts:?}");
    assert!(!texts[0].contains("bw_"), "{}", texts[0]);
    for scheme in ["Basic", "Digest", "bw_x", "Bearer\t"] {
        let answer = served.send(get("/sell/x").header("authorization", &format!("{scheme} {secret}"))).await;
        assert_eq!(told(&answer), unauthorized(), "{scheme}");
    }
    assert_eq!(served.send(get("/sell/x").header("authorization", &format!("bearer {secret}"))).await.status, 200);
}

/// As many wrong credentials as a test likes.
fn patient() -> busway_gateway::edge::rate::RateConfig {
    busway_gateway::edge::rate::RateConfig {
        failed: "1000/s".parse().expect("a rate"),
        ..busway_gateway::edge::rate::RateConfig::default()
    }
}

#[tokio::test]
async fn more_than_one_credential_is_no_credential() {
    let (key, config) = locked();
    let served = Served::start(config).await;
    let good = format!("Bearer {}", key.as_str());
    for two in [
        get("/sell/x").header("authorization", &good).header("authorization", &good),
        get("/sell/x").header("authorization", &good).header("authorization", "Bearer x"),
        get("/sell/x").header("authorization", "Bearer x").header("Authorization", &good),
        get("/sell/x").header("authorization", &good).header("x-api-key", key.as_str()),
        get("/sell/x").header("x-api-key", key.as_str()).header("X-API-Key", key.as_str()),
    ] {
        assert_eq!(told(&served.send(two).await), (400, "invalid".to_owned()));
    }
    let folded = served.send(get("/sell/x").header("authorization", &format!("{good}, {good}"))).await;
    assert_eq!(told(&folded), unauthorized());
}

#[tokio::test]
async fn credentials_do_not_come_from_addresses_cookies_or_bodies() {
    let (key, config) = locked();
    let served = Served::start(config).await;
    let secret = key.as_str();
    for request in [
        get(&format!("/sell/x?access_token={secret}")),
        get(&format!("/sell/x?api_key={secret}&key={secret}&token={secret}&ticket={secret}")),
        get("/sell/x").header("cookie", &format!("authorization=Bearer {secret}; x-api-key={secret}")),
        get("/sell/x").header("proxy-authorization", &format!("Bearer {secret}")),
        get("/sell/x").header("x-authorization", &format!("Bearer {secret}")),
        get("/sell/x").header("x_api_key", secret),
        request("POST", "/sell/x")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("access_token={secret}")),
    ] {
        assert_eq!(told(&served.send(request).await), unauthorized());
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_around_its_lock() {
    let (key, config) = locked();
    let served = Served::start(EdgeConfig { rate: patient(), ..config }).await;
    for path in [
        "/shop/../sell/x",
        "/shop/%2e%2e/sell/x",
        "/shop/..%2fsell/x",
        "/shop/%2e%2e%2fsell/x",
        "/shop/..%5csell/x",
        "/shop\\..\\sell/x",
        "/shop/./../sell/x",
        "//sell/x",
        "/shop//..//sell/x",
        "/shop/..;/sell/x/../..",
        "/shop/%00/../sell",
        "/shop/x%00",
        "/shop/%c0%ae%c0%ae/sell/x/..",
        "/shop/.%2e/sell/x",
    ] {
        let anonymous = served.send(get(path)).await;
        assert_eq!(told(&anonymous), (400, "invalid".to_owned()), "{path}");
        let known = served.send(bearer(get(path), key.as_str())).await;
        assert_eq!(known.status, 400, "{path}");
    }
    // Spelled otherwise, and yet closed: none of these is the open route.
    for path in ["/Shop/x", "/SHOP/x", "/sell", "/sell/", "/%73ell/x", "/sell/x/", "/sell/x%20", "/sell/x;a=b", "/shop"]
    {
        assert_eq!(told(&served.send(get(path)).await), unauthorized(), "{path}");
    }
    // Twice encoded is once decoded: a service that decodes again has itself to blame, the route is the open one.
    let twice = served.send(get("/shop/%252e%252e/x")).await;
    assert_eq!((twice.status, twice.header("x-path")), (200, Some("/shop/%252e%252e/x")));
}

#[tokio::test]
async fn headers_that_claim_something_else_change_nothing() {
    let (key, config) = locked();
    let served = Served::start(config).await;
    for (name, value) in [
        ("x-http-method-override", "GET"),
        ("x-http-method", "GET"),
        ("x-method-override", "GET"),
        ("x-original-url", "/shop/x"),
        ("x-rewrite-url", "/shop/x"),
        ("x-forwarded-prefix", "/shop"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-busway-caller", "key:shop"),
        ("x_busway_caller", "key:shop"),
        ("x-client-cert", "shop"),
        ("x-ssl-client-s-dn", "CN=shop"),
        ("referer", "http://localhost/shop/x"),
    ] {
        let answer = served.send(get("/sell/x").header(name, value)).await;
        assert_eq!(told(&answer), unauthorized(), "{name}");
        let known = served.send(bearer(request("POST", "/refund/x"), key.as_str()).header(name, value)).await;
        assert_eq!(told(&known), (403, "forbidden".to_owned()), "{name}");
    }
    let overridden = bearer(request("DELETE", "/refund/x"), key.as_str()).header("x-http-method-override", "POST");
    assert_eq!(served.send(overridden).await.status, 405, "the method is the method");
}

#[tokio::test]
async fn the_host_opens_nothing() {
    let served = Served::start(locked().1).await;
    for text in [
        "GET /sell/x HTTP/1.1\r\nhost: shop\r\n\r\n",
        "GET /sell/x HTTP/1.1\r\nhost: localhost/shop/\r\n\r\n",
        "GET http://localhost/sell/x HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET http://localhost/sell/x HTTP/1.1\r\nhost: other\r\n\r\n",
        "GET /sell/x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET http://user:word@localhost/sell/x HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let mut connection = served.connect().await;
        connection.write(text).await;
        let answer = connection.answer().await.expect("an answer");
        assert!(matches!(answer.status, 400 | 401), "{text}: {answer:?}");
    }
}

#[tokio::test]
async fn a_service_sees_who_asks_and_never_with_what() {
    let (key, mut config) = locked();
    config.routes.push(RouteConfig { is_open: true, ..named("own", "/own/{*rest}", None) });
    let served = Served::start(config).await;
    let claimed = |request: Request| {
        request.header("x-busway-caller", "key:admin").header("x_busway_caller", "key:admin").header("x-busway-x", "1")
    };
    let secret = key.as_str();
    let asked = served.send(claimed(bearer(get("/sell/x"), secret))).await;
    assert_eq!(asked.header("x-seen-x-busway-caller"), Some("key:shop"));
    for gone in ["x-seen-authorization", "x-seen-x_busway_caller", "x-seen-x-busway-x", "x-seen-x-api-key"] {
        assert_eq!(asked.header(gone), None, "{gone}");
    }
    let own = served.send(claimed(get("/own/x").header("authorization", "Basic YTpi"))).await;
    assert_eq!(own.header("x-seen-x-busway-caller"), None);
    assert_eq!(own.header("x-seen-authorization"), Some("Basic YTpi"), "an open route may have its own way");
}

#[tokio::test]
async fn keys_change_on_a_reload_without_dropping_the_connection() {
    let (old, config) = locked();
    let served = Served::start(config.clone()).await;
    let mut connection = served.connect().await;
    assert_eq!(connection.send(bearer(get("/sell/x"), old.as_str())).await.status, 200);
    let (new, named) = key("shop", &["route:sell"]);
    let auth = AuthConfig { keys: vec![named], ..AuthConfig::default() };
    served.gateway.reload(EdgeConfig { auth, ..config }).expect("sound");
    assert_eq!(connection.send(bearer(get("/sell/x"), old.as_str())).await.status, 401);
    assert_eq!(connection.send(bearer(get("/sell/x"), new.as_str())).await.status, 200);
}

#[tokio::test]
async fn a_key_ends_when_it_is_said_to() {
    let (key, mut config) = locked();
    let served = Served::start(EdgeConfig { ..config.clone() }).await;
    let now = served.fake.now();
    config.auth.keys[0].expires = Some(now.after(Duration::from_millis(1)));
    served.gateway.reload(config.clone()).expect("sound");
    assert_eq!(served.send(bearer(get("/sell/x"), key.as_str())).await.status, 200);
    config.auth.keys[0].expires = Some(now);
    served.gateway.reload(config).expect("sound");
    assert_eq!(served.send(bearer(get("/sell/x"), key.as_str())).await.status, 401);
}

#[tokio::test]
async fn a_page_gets_a_ticket_that_is_good_for_one_stream() {
    let (key, config) = locked();
    let served = Served::start(config).await;
    let issued = served.send(bearer(request("POST", "/auth/tickets"), key.as_str())).await;
    assert_eq!((issued.status, issued.header("cache-control")), (201, Some("no-store")));
    let ticket = issued.json()["ticket"].as_str().expect("a ticket").to_owned();
    let stream = |path: &str| get(&format!("{path}?ticket={ticket}")).header("accept", "text/event-stream");
    assert_eq!(served.send(get(&format!("/sell/x?ticket={ticket}"))).await.status, 401, "no stream");
    let post = request("POST", &format!("/sell/x?ticket={ticket}")).header("accept", "text/event-stream");
    assert_eq!(served.send(post).await.status, 401, "not read");
    assert_eq!(served.send(stream("/sell/x")).await.status, 200);
    assert_eq!(served.send(stream("/sell/x")).await.status, 401, "used up");
    assert_eq!(served.send(bearer(get("/sell/x"), &ticket)).await.status, 401, "a ticket is no key");
}

#[tokio::test]
async fn who_listens_sees_what_the_scopes_say_and_is_told_when_that_is_nothing() {
    let (key, config) = key("till", &["subscribe:shop.>"]);
    let auth = AuthConfig { keys: vec![config], ..AuthConfig::default() };
    let served = Served::start(EdgeConfig { auth, ..EdgeConfig::default() }).await;
    let draft =
        |topic: &str| busway_types::Draft::new(topic.parse().expect("a topic"), format!("\"of {topic}\"").into());
    served.fake.publish(vec![draft("bank.paid"), draft("shop.sold")]).await.expect("published");
    for hidden in ["topic=bank.paid", "topic=bank.%3E"] {
        let refused = served.send(bearer(get(&format!("/events?{hidden}")), key.as_str())).await;
        assert_eq!(told(&refused), (403, "forbidden".to_owned()), "{hidden}");
    }
    let mut all = served.connect().await;
    all.write(bearer(get("/events?topic=%3E&from=start"), key.as_str()).bytes()).await;
    assert!(all.head().await.expect("a head").starts_with("HTTP/1.1 200 "));
    let mut seen = String::new();
    while !seen.contains("of shop.sold") {
        let chunk = tokio::time::timeout(crate::client::PATIENCE, all.chunk()).await.expect("in time");
        seen += &String::from_utf8_lossy(&chunk.expect("the event"));
    }
    assert!(!seen.contains("bank"), "{seen}");
}

#[tokio::test]
async fn a_route_with_events_shows_them_to_those_who_may_use_it_and_no_others() {
    let events = |name: &str, is_open| RouteConfig {
        is_open,
        target: Target::Events(vec!["shop.>".parse().expect("a pattern")]),
        ..named(name, &format!("/{name}"), None)
    };
    let (key, config) = key("till", &["route:closed"]);
    let auth = AuthConfig { keys: vec![config], ..AuthConfig::default() };
    let routes = vec![events("open", true), events("closed", false), events("other", false)];
    let served = Served::start(EdgeConfig { auth, routes, ..EdgeConfig::default() }).await;
    let data = bytes::Bytes::from_static(b"\"apple\"");
    let draft = busway_types::Draft::new("shop.sold".parse().expect("a topic"), data);
    served.fake.publish(vec![draft]).await.expect("published");
    let stream = |path: &str| get(&format!("{path}?from=start")).header("accept", "text/event-stream");
    for (request, is_let_in) in [
        (stream("/open"), true),
        (stream("/closed"), false),
        (bearer(stream("/closed"), key.as_str()), true),
        (bearer(stream("/other"), key.as_str()), false),
    ] {
        let mut connection = served.connect().await;
        connection.write(request.bytes()).await;
        let head = connection.head().await.expect("a head");
        assert_eq!(head.starts_with("HTTP/1.1 200 "), is_let_in, "{head}");
        let mut seen = String::new();
        while is_let_in && !seen.contains("apple") {
            let chunk = tokio::time::timeout(crate::client::PATIENCE, connection.chunk()).await.expect("in time");
            seen += &String::from_utf8_lossy(&chunk.expect("the event"));
        }
    }
}

#[tokio::test]
async fn whoever_takes_the_last_key_away_locks_and_does_not_open() {
    let (key, config) = locked();
    let served = Served::start(config.clone()).await;
    let nobody = AuthConfig { is_given: true, ..AuthConfig::default() };
    served.gateway.reload(EdgeConfig { auth: nobody, ..config.clone() }).expect("sound");
    assert_eq!(told(&served.send(bearer(get("/sell/x"), key.as_str())).await), unauthorized());
    let open = EdgeConfig { auth: AuthConfig::default(), ..config };
    let refused = served.gateway.reload(open).expect_err("it would open everything").to_string();
    assert!(refused.contains("restart"), "{refused}");
    assert_eq!(told(&served.send(get("/sell/x")).await), unauthorized());
}
