//! Socket.IO, spoken by hand. Real clients: `tests/e2e/socketio.rs`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use busway_gateway::edge::{EdgeBackend as _, EdgeConfig, LiveConfig, SocketIoConfig, SocketIoNamespace, Target};
use busway_types::{Draft, Logged};
use serde_json::{Value, json};

use super::{A_WHILE, publish, route, soon};
use crate::client::{Answer, get, request};
use crate::fake::lock;
use crate::served::Served;
use crate::websocket::{Frame, Socket, upgrade};

pub(super) const PATH: &str = "/socket.io/?EIO=4";

pub(super) fn namespace() -> SocketIoNamespace {
    let (incoming, outgoing) = ("chat.in".parse().expect("a topic"), "chat.out".parse().expect("a topic"));
    SocketIoNamespace { names: vec!["my response".to_owned()], ..SocketIoNamespace::new(incoming, outgoing) }
}

pub(super) fn chat(namespace: SocketIoNamespace, live: LiveConfig) -> EdgeConfig {
    let namespaces = [("/".to_owned(), namespace)].into();
    let routes = vec![route("/socket.io", Target::SocketIo(SocketIoConfig { namespaces }))];
    EdgeConfig { live, routes, ..EdgeConfig::default() }
}

async fn start(namespace: SocketIoNamespace) -> Served {
    Served::start(chat(namespace, LiveConfig::default())).await
}

/// A client over a WebSocket.
pub(super) struct Client {
    pub(super) socket: Socket,
    acks: u32,
}

impl Client {
    pub(super) async fn open(served: &Served, auth: &str) -> Self {
        Self::try_open(served, auth).await.expect("connected")
    }

    /// Connects, or gives what it is told instead.
    pub(super) async fn try_open(served: &Served, auth: &str) -> Result<Self, String> {
        let mut socket = Socket::open(served, &format!("{PATH}&transport=websocket")).await;
        assert!(socket.text().await.starts_with("0{\"sid\""));
        socket.say(&format!("40{auth}")).await;
        let mut client = Self { socket, acks: 0 };
        let told = client.packet().await;
        if told.starts_with("40{\"sid\"") { Ok(client) } else { Err(told) }
    }

    /// The next packet that is no ping; those are answered.
    pub(super) async fn packet(&mut self) -> String {
        loop {
            let text = self.socket.text().await;
            if text != "2" {
                return text;
            }
            self.socket.say("3").await;
        }
    }

    /// Emits and gives the answer; what comes before it is lost.
    pub(super) async fn ask(&mut self, name: &str, data: Value) -> Value {
        self.acks += 1;
        self.socket.say(&format!("42{}{}", self.acks, json!([name, data]))).await;
        let wanted = format!("43{}", self.acks);
        loop {
            if let Some(answer) = self.packet().await.strip_prefix(&wanted) {
                return serde_json::from_str::<Value>(answer).expect("JSON")[0].take();
            }
        }
    }

    async fn join(served: &Served, room: &str) -> Self {
        let mut client = Self::open(served, "").await;
        assert!(client.ask("join", room.into()).await["cursor"].is_string());
        client
    }

    pub(super) async fn event(&mut self) -> Value {
        let text = self.packet().await;
        serde_json::from_str(text.strip_prefix("42").unwrap_or_else(|| panic!("{text} is no event"))).expect("JSON")
    }

    pub(super) async fn hears_nothing(&mut self) -> bool {
        tokio::time::timeout(A_WHILE, self.packet()).await.is_err()
    }
}

pub(super) async fn last(served: &Served, topic: &str) -> Logged {
    soon(async {
        loop {
            let found =
                lock(&served.fake.events).iter().rev().find(|logged| logged.event.topic.as_str() == topic).cloned();
            if let Some(found) = found {
                return found;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

pub(super) fn header(logged: &Logged, name: &str) -> String {
    let found = logged.event.headers.iter().find(|(known, _)| **known == *name);
    found.map_or_else(|| panic!("{name} in {:?}", logged.event.headers), |(_, value)| value.to_string())
}

#[tokio::test]
async fn everyone_in_the_room_and_no_one_else_gets_the_response() {
    let served = start(namespace()).await;
    let (mut ada, mut bob, mut eve) =
        (Client::join(&served, "a").await, Client::join(&served, "a").await, Client::join(&served, "e").await);
    let answer = ada.ask("my event", json!({ "room": "a", "text": "hi" })).await;
    let logged = last(&served, "chat.in.my-event").await;
    assert_eq!(answer["id"], logged.event.id.to_string(), "answered with the event that is safe now");
    assert_eq!(&*logged.event.data, br#"{"room":"a","text":"hi"}"#);
    assert_eq!(logged.event.key.as_ref().map(busway_types::Key::as_str), Some("a"), "a room is in order");
    assert_eq!(
        (header(&logged, "socketio-event"), header(&logged, "socketio-namespace")),
        ("my event".into(), "/".into())
    );
    publish(&served, "chat.out.my-response", [json!({ "room": "a", "text": "hi" })]).await;
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event().await, json!(["my response", { "room": "a", "text": "hi" }]));
    }
    // One client alone, by the id that its events carry; everybody but one.
    let mut only = Draft::new("chat.out.secret".parse().expect("a topic"), r#""psst""#.into());
    only.headers.push(("socketio-client".into(), header(&logged, "socketio-client").into()));
    let mut but = Draft::new("chat.out.joined".parse().expect("a topic"), r#"{"room":"a"}"#.into());
    but.headers.push(("socketio-except".into(), header(&logged, "socketio-client").into()));
    served.fake.publish(vec![only, but]).await.expect("published");
    assert_eq!(ada.event().await, json!(["secret", "psst"]));
    assert_eq!(bob.event().await, json!(["joined", { "room": "a" }]));
    assert!(ada.hears_nothing().await && bob.hears_nothing().await && eve.hears_nothing().await);
    // Who has left hears nothing; an event without a room is for nobody.
    assert_eq!(bob.ask("leave", json!({ "room": "a" })).await, json!({}));
    publish(&served, "chat.out.my-response", [json!({ "room": "a" }), json!({ "text": "x" })]).await;
    assert_eq!(ada.event().await, json!(["my response", { "room": "a" }]));
    assert!(ada.hears_nothing().await && bob.hears_nothing().await && eve.hears_nothing().await);
}

#[tokio::test]
async fn nobody_but_socketio_says_who_emitted_an_event() {
    let served = start(namespace()).await;
    let post = async |topic: &str, name: &str| {
        let event = request("POST", &format!("/events/{topic}")).header(&format!("busway-header-{name}"), "key:ada");
        served.send(event.body("1")).await
    };
    for (topic, name) in [
        ("chat.in.x", "socketio-caller"),
        ("chat.in.x", "Socketio-Client"),
        ("chat.in.x", "socketio-event"),
        ("other", "socketio-caller"),
        ("other", "socketio-namespace"),
    ] {
        let refused = post(topic, name).await;
        assert_eq!((refused.status, refused.problem().as_str()), (403, "forbidden"), "{topic} {name}");
        assert_eq!(refused.json()["parameter"], name.to_ascii_lowercase());
    }
    let headers = json!([{ "name": "SocketIO-Caller", "value": "key:ada" }]);
    let line = json!({ "topic": "chat.in.x", "data": 1, "headers": headers }).to_string();
    let lines = request("POST", "/events").header("content-type", "application/x-ndjson").body(line.clone());
    let refused = served.send(lines).await;
    assert_eq!((refused.status, refused.json()["index"].as_u64()), (403, Some(0)));
    let mut socket = Socket::open(&served, "/events").await;
    socket.say(&format!(r#"{{"publish":{line}}}"#)).await;
    assert_eq!(socket.json().await["error"]["parameter"], "SocketIO-Caller");
    assert!(lock(&served.fake.events).is_empty(), "nothing of it was published");
    // What goes out is addressed by whoever may publish it, and a topic that only begins alike is another one.
    for (topic, name) in [("chat.out.x", "socketio-client"), ("chat.inn.x", "socketio-event"), ("chat.in.x", "colour")]
    {
        assert_eq!(post(topic, name).await.status, 202, "{topic} {name}");
    }
}

#[tokio::test]
async fn polling_does_the_same() {
    let served = start(namespace()).await;
    let client = Polling::join(&served, "a").await;
    client.post("421[\"my event\",{\"room\":\"a\"}]").await;
    assert!(client.poll().await.starts_with("431[{\"id\""));
    publish(&served, "chat.out.my-response", [json!({ "room": "a", "n": 1 }), json!({ "room": "b" })]).await;
    assert_eq!(client.poll().await, "42[\"my response\",{\"n\":1,\"room\":\"a\"}]");
    let unknown = served.send(get(&format!("{PATH}&transport=polling&sid=AAAAAAAAAAAAAAAA"))).await;
    assert_eq!(unknown.status, 400);
}

/// A client that only polls.
struct Polling<'s> {
    served: &'s Served,
    path: String,
}

impl<'s> Polling<'s> {
    async fn join(served: &'s Served, room: &str) -> Self {
        let polled = format!("{PATH}&transport=polling");
        let open = served.send(get(&polled)).await;
        let open: Value = serde_json::from_str(&open.text()[1..]).expect("JSON");
        let client = Self { served, path: format!("{polled}&sid={}", open["sid"].as_str().expect("an id")) };
        client.post("40").await;
        assert!(client.poll().await.starts_with("40{"));
        client.post(&format!("420{}", json!(["join", room]))).await;
        assert!(client.poll().await.starts_with("430["));
        client
    }

    async fn post(&self, text: &str) {
        let answer: Answer = self.served.send(request("POST", &self.path).body(text)).await;
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }

    /// What comes next that is no ping; those are answered.
    async fn poll(&self) -> String {
        loop {
            let answer = self.served.send(get(&self.path)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let packets: Vec<_> = answer.text().split('\x1e').filter(|packet| *packet != "2").collect();
            if let [packet] = packets[..] {
                return packet.to_owned();
            }
            self.post("3").await;
        }
    }
}

#[tokio::test]
async fn whoever_polls_waits_for_longer_than_a_request_may_take_and_in_nobodys_way() {
    let mut config = chat(namespace(), LiveConfig::default());
    config.limits.request_time = Duration::from_millis(400);
    config.limits.requests_at_once = 2;
    let served = Served::start(config).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Polling::join(&served, "a").await);
    }
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(served.gateway.edge().figures().in_flight, 0, "who waits is not being answered");
        assert_eq!(served.send(get("/nothing")).await.status, 404, "there is room for others");
        publish(&served, "chat.out.x", [json!({ "room": "a" })]).await;
    };
    let polls = futures_util::future::join_all(clients.iter().map(Polling::poll));
    let (told, ()) = tokio::join!(polls, meanwhile);
    assert_eq!(told, vec![r#"42["x",{"room":"a"}]"#; 4]);
}

#[tokio::test]
async fn a_reload_of_the_bounds_is_for_whoever_comes_in_from_then_on() {
    let live = LiveConfig { listeners_per_caller: 1, messages_per_second: 2, ..LiveConfig::default() };
    let served = Served::start(chat(namespace(), live.clone())).await;
    let mut first = Client::join(&served, "a").await;
    let polled = format!("{PATH}&transport=polling");
    assert_eq!(served.send(get(&polled)).await.status, 429);
    let wider = LiveConfig { listeners_per_caller: 3, messages_per_second: 50, ..live };
    served.gateway.reload(chat(namespace(), wider.clone())).expect("sound");
    let mut second = Client::join(&served, "a").await;
    for _ in 0..20 {
        assert!(second.ask("x", json!({})).await["id"].is_string(), "as often as is allowed now");
    }
    publish(&served, "chat.out.x", [json!({ "room": "a" })]).await;
    assert_eq!((first.event().await[0].clone(), second.event().await[0].clone()), (json!("x"), json!("x")));
    // What one message may have is the transport's own: its clients come back to another server.
    let smaller = LiveConfig { message_bytes: 1_000, ..wider };
    served.gateway.reload(chat(namespace(), smaller)).expect("sound");
    for client in [&mut first, &mut second] {
        while matches!(client.socket.next().await, Frame::Text(_)) {}
    }
    let mut third = Client::join(&served, "a").await;
    third.socket.say(&format!("42{}", json!(["x", "y".repeat(2_000)]))).await;
    let mut last = third.socket.next().await;
    while matches!(last, Frame::Text(_) | Frame::Ping) {
        last = third.socket.next().await;
    }
    assert!(matches!(last, Frame::End | Frame::Close(_)), "{last:?}");
}

#[tokio::test]
async fn what_the_gateway_missed_for_its_clients_they_are_told() {
    let served = start(namespace()).await;
    let mut client = Client::join(&served, "a").await;
    // The log loses its beginning faster than it is read.
    served.fake.oldest.store(3, Ordering::Relaxed);
    publish(&served, "chat.out.x", (0..5).map(|n| json!({ "room": "a", "n": n }))).await;
    assert_eq!(client.event().await, json!(["missed", { "events": 3 }]));
    for wanted in [3, 4] {
        assert_eq!(client.event().await[1]["n"], wanted);
    }
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed() {
    let served = start(SocketIoNamespace { cursors: true, ..namespace() }).await;
    let mut client = Client::join(&served, "a").await;
    publish(&served, "chat.out.my-response", [json!({ "room": "a", "n": 1 })]).await;
    let event = client.event().await;
    let cursor = event[2]["cursor"].as_str().expect("a cursor").to_owned();
    drop(client);
    let more = (2..400).map(|n| json!({ "room": if n % 2 == 0 { "a" } else { "b" }, "n": n }));
    publish(&served, "chat.out.my-response", more).await;
    let auth = json!({ "rooms": ["a"], "from": cursor }).to_string();
    let mut again = Client::open(&served, &auth).await;
    publish(&served, "chat.out.my-response", [json!({ "room": "a", "n": 400 })]).await;
    for wanted in (2..=400).filter(|n| n % 2 == 0) {
        assert_eq!(again.event().await[1]["n"], wanted);
    }
    assert!(again.hears_nothing().await);
}

#[tokio::test]
async fn a_client_that_reads_slowly_loses_nothing_and_delays_nobody() {
    let served = start(namespace()).await;
    let (mut slow, mut quick) = (Client::join(&served, "a").await, Client::join(&served, "a").await);
    let padding = "x".repeat(8_000);
    for chunk in 0..20 {
        let events = (chunk * 100..chunk * 100 + 100).map(|n| json!({ "room": "a", "n": n, "padding": padding }));
        publish(&served, "chat.out.x", events).await;
    }
    for client in [&mut quick, &mut slow] {
        for wanted in 0..2_000 {
            assert_eq!(client.event().await[1]["n"], wanted, "in order, without gap and repetition");
        }
    }
    assert!(slow.hears_nothing().await && quick.hears_nothing().await);
}

#[tokio::test]
async fn mistakes_and_bounds_are_answered_with_problems() {
    let live = LiveConfig { messages_per_second: 8, message_bytes: 2_000, ..LiveConfig::default() };
    let served = Served::start(chat(SocketIoNamespace { rooms_per_client: 1, ..namespace() }, live)).await;
    let mut client = Client::open(&served, "").await;
    for (name, data, status) in
        [("join", json!(7), 400), ("join", json!("x".repeat(129)), 400), ("", json!({}), 400), ("a..b", json!({}), 400)]
    {
        assert_eq!(client.ask(name, data).await["error"]["status"], status, "{name}");
    }
    assert!(client.ask("join", json!("a")).await["error"].is_null());
    assert_eq!(client.ask("join", json!("b")).await["error"]["status"], 429, "one room too many");
    // Without an acknowledgement a mistake comes as an event.
    client.socket.say(r#"42["join",7]"#).await;
    assert_eq!(client.event().await[0], "problem");
    client.socket.say(r#"451-["x",{"_placeholder":true,"num":0}]"#).await;
    client.socket.frame(0x82, &[1, 2, 3]).await;
    assert_eq!(client.event().await[1]["status"], 400, "binary arguments");
    let mut refused = 0;
    for _ in 0..20 {
        refused += u32::from(client.ask("x", json!({})).await["error"]["status"] == 429);
    }
    assert!(refused > 0, "faster than allowed");
    let mut large = Client::open(&served, "").await;
    large.socket.say(&format!("42{}", json!(["x", "y".repeat(3_000)]))).await;
    // The server's own ping may come first.
    let mut last = large.socket.next().await;
    while matches!(last, Frame::Text(_) | Frame::Ping) {
        last = large.socket.next().await;
    }
    assert!(matches!(last, Frame::End | Frame::Close(_)), "{last:?}");
}

#[tokio::test]
async fn sessions_are_bounded_and_foreign_pages_kept_out() {
    let live = LiveConfig { listeners_per_caller: 1, ..LiveConfig::default() };
    let served = Served::start(chat(namespace(), live)).await;
    let polled = format!("{PATH}&transport=polling");
    let foreign = served.send(get(&polled).header("origin", "https://evil.test")).await;
    assert_eq!(foreign.status, 403);
    let client = Client::open(&served, "").await;
    assert_eq!(served.send(get(&polled)).await.status, 429);
    assert_eq!(served.send(upgrade(&format!("{PATH}&transport=websocket"))).await.status, 429);
    drop(client);
    soon(async { while served.send(get(&polled)).await.status != 200 {} }).await;
}

#[tokio::test]
async fn the_end_of_the_gateway_or_of_the_route_ends_the_connection() {
    let served = start(namespace()).await;
    let mut client = Client::join(&served, "a").await;
    served.gateway.reload(chat(namespace(), LiveConfig::default())).expect("the same");
    publish(&served, "chat.out.x", [json!({ "room": "a" })]).await;
    assert_eq!(client.event().await[0], "x", "a route that stays keeps its clients");
    served
        .gateway
        .reload(chat(SocketIoNamespace { broadcast: true, ..namespace() }, LiveConfig::default()))
        .expect("sound");
    while matches!(client.socket.next().await, Frame::Text(_)) {}
    let mut other = Client::open(&served, "").await;
    publish(&served, "chat.out.x", [json!({})]).await;
    assert_eq!(other.event().await[0], "x", "to everybody");
    served.stop();
    while matches!(other.socket.next().await, Frame::Text(_)) {}
    served.ended().await;
}
