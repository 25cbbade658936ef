//! Live push behind a lock: who sees what, and until when.

use std::sync::atomic::Ordering;

use busway_gateway::edge::auth::{ApiKey, AuthConfig, KeyConfig};
use busway_gateway::edge::{EdgeConfig, LiveConfig, RouteConfig, Setup, SocketIoNamespace, Target};
use busway_types::Timestamp;
use serde_json::{Value, json};

use super::socketio::{Client, PATH, chat, header, last, namespace};
use super::sse::Stream;
use super::{A_WHILE, publish, route, soon};
use crate::client::{get, request};
use crate::fake::Fake;
use crate::security::{bearer, key};
use crate::served::Served;
use crate::websocket::{Frame, Socket, upgrade};

fn with_keys(keys: Vec<KeyConfig>) -> EdgeConfig {
    EdgeConfig { auth: AuthConfig { keys, ..AuthConfig::default() }, ..EdgeConfig::default() }
}

fn numbers(from: u64, to: u64) -> impl Iterator<Item = Value> {
    (from..to).map(|n| json!({ "n": n }))
}

async fn stream(served: &Served, path: &str, key: &ApiKey) -> Stream {
    Stream::open_with(served, bearer(get(path), key.as_str())).await
}

async fn socket(served: &Served, path: &str, key: &ApiKey) -> Socket {
    Socket::open_with(served, bearer(upgrade(path), key.as_str())).await
}

/// What the end of a stream gives as its reason.
async fn end_of(stream: &mut Stream) -> String {
    loop {
        let line = soon(stream.line()).await.expect("an end is told");
        if line.event.as_deref() == Some("end") {
            return line.json()["reason"].as_str().expect("a reason").to_owned();
        }
    }
}

#[tokio::test]
async fn a_stream_shows_what_the_scopes_of_its_caller_cover_and_nothing_else() {
    let (shop, shops) = key("shop", &["subscribe:shop.*"]);
    let (deep, deeps) = key("deep", &["subscribe:shop.*.*.*"]);
    let (blind, blinds) = key("blind", &["publish:shop.>", "route:*"]);
    let served = Served::start(with_keys(vec![shops, deeps, blinds])).await;
    assert_eq!(served.send(get("/events?topic=%3E")).await.status, 401);
    let mut sees = stream(&served, "/events?topic=%3E", &shop).await;
    let mut nothing = stream(&served, "/events?topic=shop.%3E&from=start", &deep).await;
    let mut both = socket(&served, "/events", &shop).await;
    both.say(r#"{"subscribe":["shop.>","bank.>"],"ref":1}"#).await;
    assert_eq!(both.json().await["ok"], 1);
    publish(&served, "bank.a", numbers(0, 1)).await;
    publish(&served, "shop.a.b", numbers(1, 2)).await;
    publish(&served, "shop.a", numbers(2, 3)).await;
    assert_eq!(sees.numbers(1).await, [2], "`shop.*` is one token more");
    assert_eq!(both.json().await["event"]["data"]["n"], 2);
    assert!(tokio::time::timeout(A_WHILE, nothing.line()).await.is_err());
    // Who can never be shown anything is told. What a scope allows to publish it does not allow to see.
    for (topics, key, status) in [("topic=shop.a", &blind, 403), ("topic=shop", &shop, 403), ("topic=a", &deep, 403)] {
        let refused = served.send(bearer(get(&format!("/events?{topics}")), key.as_str())).await;
        assert_eq!((refused.status, refused.problem().as_str()), (status, "forbidden"), "{topics}");
    }
    both.say(r#"{"subscribe":["bank.>"],"name":"b"}"#).await;
    assert_eq!(both.json().await["error"]["status"], 403);
    both.say(r#"{"publish":{"topic":"shop.a","data":1},"ref":2}"#).await;
    assert_eq!(both.json().await["error"]["status"], 403);
    let mut publisher = socket(&served, "/events", &blind).await;
    publisher.say(r#"{"publish":{"topic":"shop.a","data":{"n":3}},"ref":3}"#).await;
    assert_eq!(publisher.json().await["ok"], 3);
    assert_eq!(sees.numbers(1).await, [3]);
}

#[tokio::test]
async fn strangers_see_nothing_of_a_public_gateway_but_the_topics_that_are_listed() {
    let setup = Setup { seed: 7, folder: None, is_public: true };
    let served = Served::start_as(Fake::default(), EdgeConfig::default(), setup).await;
    publish(&served, "visits.a", numbers(0, 1)).await;
    let closed = served.send(get("/events?topic=%3E")).await;
    assert_eq!(closed.status, 403);
    assert!(closed.text().contains("[gateway.events] topics"), "{}", closed.text());
    let listed = |topic: &str| {
        let mut config = EdgeConfig::default();
        config.events.topics = Some(vec![topic.parse().expect("a pattern")]);
        config
    };
    served.gateway.reload(listed("news.>")).expect("sound");
    let mut former = Stream::open_with(&served, get("/events?topic=%3E")).await;
    served.gateway.reload(listed("visits.>")).expect("sound");
    assert_eq!(end_of(&mut former).await, "credential", "whoever came in under the former rule comes back");
    let mut open = Stream::open_with(&served, get("/events?topic=%3E&from=start")).await;
    publish(&served, "orders.a", numbers(1, 2)).await;
    publish(&served, "visits.a", numbers(2, 3)).await;
    assert_eq!(open.numbers(2).await, [0, 2]);
}

#[tokio::test]
async fn an_event_is_named_by_its_own_caller_whichever_way_it_comes_in() {
    let (ada, adas) = key("ada", &["publish:a"]);
    let (eve, eves) = key("eve", &["publish:a"]);
    let served = Served::start(with_keys(vec![adas, eves])).await;
    let over_socket = async |key: &ApiKey, name: &str| {
        let mut socket = socket(&served, "/events", key).await;
        socket.say(&json!({ "publish": { "topic": "a", "id": name, "data": 1 } }).to_string()).await;
        socket.json().await["event"].as_str().expect("an id").to_owned()
    };
    let over_http = async |key: &ApiKey, name: &str| {
        let event = bearer(request("POST", "/events/a"), key.as_str()).header("idempotency-key", name).body("1");
        served.send(event).await.json()["id"].as_str().expect("an id").to_owned()
    };
    let of_ada = over_socket(&ada, "1").await;
    assert_eq!((over_socket(&ada, "1").await, over_http(&ada, "1").await), (of_ada.clone(), of_ada.clone()));
    // Nobody suppresses what somebody else sends, by its name or by its id.
    let of_eve = over_socket(&eve, "1").await;
    assert_eq!((over_http(&eve, "1").await, of_eve != of_ada), (of_eve, true));
    let next = over_http(&ada, "2").await;
    let squatted = over_socket(&eve, &next).await;
    assert_ne!(squatted, next);
    assert_eq!(crate::fake::lock(&served.fake.events).len(), 4, "each of them once");
}

#[tokio::test]
async fn a_page_shows_its_key_as_a_subprotocol_and_is_answered_with_one() {
    let (ada, adas) = key("ada", &["subscribe:a"]);
    let served = Served::start(with_keys(vec![adas])).await;
    for (offered, status, taken) in [
        (format!("busway, busway.bearer.{}", ada.as_str()), "101", true),
        (format!("busway.bearer.{}, busway", ada.as_str()), "101", true),
        (format!("busway.bearer.{}", ada.as_str()), "101", false),
        ("busway, busway.bearer.bw_nonsense".to_owned(), "401", false),
    ] {
        let mut connection = served.connect().await;
        connection.write(upgrade("/events").header("sec-websocket-protocol", &offered).bytes()).await;
        let head = soon(connection.head()).await.expect("an answer").to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{offered}: {head}");
        // A browser ends a connection for which none of those is taken that it offered.
        assert_eq!(head.contains("sec-websocket-protocol: busway\r\n"), taken, "{offered}: {head}");
        assert!(!head.contains("bearer."), "{head}");
    }
}

#[tokio::test]
async fn a_credential_that_goes_ends_what_was_opened_with_it_and_nothing_else() {
    let (gone, goes) = key("gone", &["subscribe:>", "route:live"]);
    let (stays, kept) = key("stays", &["subscribe:>", "route:live"]);
    let live = RouteConfig { name: "live".into(), ..route("/live", Target::Events(vec![">".parse().expect("one")])) };
    let config = |keys: &[&KeyConfig], routes: &[&RouteConfig]| EdgeConfig {
        routes: routes.iter().copied().cloned().collect(),
        ..with_keys(keys.iter().copied().cloned().collect())
    };
    let served = Served::start(config(&[&goes, &kept], &[&live])).await;
    let mut ends = stream(&served, "/events?topic=a", &gone).await;
    let mut ends_too = stream(&served, "/live", &gone).await;
    let mut closes = socket(&served, "/live", &gone).await;
    let mut goes_on = stream(&served, "/live", &stays).await;
    let mut socket_goes_on = socket(&served, "/events", &stays).await;
    socket_goes_on.say(r#"{"subscribe":["a"]}"#).await;
    socket_goes_on.json().await;

    // Another key under the same name is another one.
    let another = KeyConfig { sha256: key("x", &[]).1.sha256, ..goes.clone() };
    served.gateway.reload(config(&[&another, &kept], &[&live])).expect("sound");
    assert_eq!((end_of(&mut ends).await.as_str(), end_of(&mut ends_too).await.as_str()), ("credential", "credential"));
    assert_eq!(soon(closes.next()).await, Frame::Close(4003));
    publish(&served, "a", numbers(0, 1)).await;
    assert_eq!(goes_on.numbers(1).await, [0]);
    assert_eq!(socket_goes_on.json().await["event"]["data"]["n"], 0);

    // A route that is another one: whoever comes back finds that.
    let narrow = RouteConfig { target: Target::Events(vec!["b".parse().expect("one")]), ..live };
    served.gateway.reload(config(&[&another, &kept], &[&narrow])).expect("sound");
    assert_eq!(end_of(&mut goes_on).await, "renew");
    assert!(socket_goes_on.is_silent(A_WHILE).await, "it came by no route");
    let fewer = KeyConfig { scopes: kept.scopes[..1].to_vec(), ..kept };
    served.gateway.reload(config(&[&fewer], &[&narrow])).expect("sound");
    assert_eq!(soon(socket_goes_on.next()).await, Frame::Close(4003), "other scopes are another permission");
}

#[tokio::test]
async fn a_credential_that_expires_ends_its_streams() {
    let (brief, config) = key("brief", &["subscribe:>", "route:chat"]);
    let config = KeyConfig { expires: Some(Timestamp(1_200)), ..config };
    let mut all = with_keys(vec![config]);
    all.routes = named(chat(namespace(), LiveConfig::default())).routes;
    let served = Served::start(all).await;
    let mut ends = stream(&served, "/events?topic=a", &brief).await;
    let mut closes = socket(&served, "/events", &brief).await;
    let mut leaves = Client::open(&served, &json!({ "token": brief.as_str() }).to_string()).await;
    assert!(tokio::time::timeout(A_WHILE, ends.line()).await.is_err(), "the clock of the node stands still");
    served.fake.now.store(1_200, Ordering::Relaxed);
    assert_eq!(end_of(&mut ends).await, "credential");
    assert_eq!(soon(closes.next()).await, Frame::Close(4003));
    assert_eq!(soon(leaves.packet()).await, "41", "disconnected");
    assert_eq!(served.send(bearer(get("/events?topic=a"), brief.as_str())).await.status, 401);
}

/// The same with `chat` as the name of its route.
fn named(mut config: EdgeConfig) -> EdgeConfig {
    config.routes[0].name = "chat".into();
    config
}

fn token(key: &ApiKey) -> String {
    json!({ "token": key.as_str() }).to_string()
}

#[tokio::test]
async fn a_socketio_client_shows_who_it_is_when_it_connects() {
    let (ada, adas) = key("ada", &["route:chat", "subscribe:rooms.tea"]);
    let (eve, eves) = key("eve", &["route:other", "subscribe:>"]);
    let guarded = SocketIoNamespace { rooms: Some("rooms".parse().expect("a topic")), ..namespace() };
    let mut config = named(chat(guarded, LiveConfig::default()));
    config.auth.keys = vec![adas, eves];
    let served = Served::start(config.clone()).await;

    let refused = async |auth: &str| Client::try_open(&served, auth).await.err().expect("it is refused");
    assert!(refused("").await.starts_with("44{\"message\":\"show who you are"));
    assert!(refused(r#"{"token":"bw_nonsense"}"#).await.contains("not accepted"));
    assert!(refused(&token(&eve)).await.contains("does not allow"), "no scope for the route");
    assert!(refused(&json!({ "token": ada.as_str(), "rooms": ["coffee"] }).to_string()).await.contains("subscribe:"));
    // In a header it is the transport that is refused, or let in.
    let polled = format!("{PATH}&transport=polling");
    assert_eq!(served.send(bearer(get(&polled), "bw_nonsense")).await.status, 401);
    assert_eq!(served.send(bearer(get(&polled), eve.as_str())).await.status, 403);
    assert_eq!(served.send(bearer(get(&polled), ada.as_str())).await.status, 200);

    let mut client = Client::open(&served, &token(&ada)).await;
    assert_eq!(client.ask("join", json!("coffee")).await["error"]["status"], 403);
    assert!(client.ask("join", json!("tea")).await["cursor"].is_string());
    client.ask("my event", json!({ "room": "tea" })).await;
    let logged = last(&served, "chat.in.my-event").await;
    assert_eq!(header(&logged, "socketio-caller"), "key:ada");
    let text = format!("{:?}", logged.event);
    assert!(!text.contains(&ada.as_str()[3..]), "the credential goes nowhere");
    publish(&served, "chat.out.x", [json!({ "room": "coffee" }), json!({ "room": "tea" })]).await;
    assert_eq!(client.event().await, json!(["x", { "room": "tea" }]), "what is said in other rooms is not heard");

    config.auth.keys.remove(0);
    served.gateway.reload(config).expect("sound");
    assert_eq!(soon(client.packet()).await, "41", "disconnected");
    let before = crate::fake::lock(&served.fake.events).len();
    client.socket.say(r#"42["my event",{"room":"tea"}]"#).await;
    publish(&served, "chat.out.x", [json!({ "room": "tea" })]).await;
    // Who goes on over a transport without a namespace loses that as well.
    let mut heard = client.socket.next().await;
    while heard == Frame::Text("2".to_owned()) {
        // Whether it is still there was asked before.
        heard = client.socket.next().await;
    }
    assert!(matches!(&heard, Frame::End | Frame::Close(_)) || heard == Frame::Text("1".to_owned()), "{heard:?}");
    assert_eq!(crate::fake::lock(&served.fake.events).len(), before + 1, "and nothing of it is published");
    assert!(refused(&token(&ada)).await.contains("not accepted"), "the way back in is closed as well");
}

#[tokio::test]
async fn places_are_counted_for_who_shows_what_and_not_for_an_address() {
    let (ada, adas) = key("ada", &["route:chat", "subscribe:>"]);
    let (bob, bobs) = key("bob", &["route:chat", "subscribe:>"]);
    let mut config = named(chat(namespace(), LiveConfig { listeners_per_caller: 1, ..LiveConfig::default() }));
    config.auth.keys = vec![adas, bobs];
    let served = Served::start(config).await;
    // Each transport is opened by a stranger of one address, and counts for whoever connects over it.
    let _ada = Client::open(&served, &token(&ada)).await;
    let _bob = Client::open(&served, &token(&bob)).await;
    let again = Client::try_open(&served, &token(&ada)).await.err().expect("one too many");
    assert!(again.contains("listens too often"), "{again}");
    let stream = served.send(bearer(get("/events?topic=a"), ada.as_str())).await;
    assert_eq!(stream.status, 429, "a place is a place, whatever it is for");
    assert_eq!(served.send(request("POST", "/events/a")).await.status, 401);
}
