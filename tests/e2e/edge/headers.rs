//! What of a request reaches a component and an event: neither the connection nor a second request hidden in it; its id and
//! its trace.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::gateway::Told;
use crate::process::{PATIENCE, ask};

use super::curl::curl;
use super::doors::{everything, ready};
use super::until;

/// What comes back for these bytes, to the end of the connection.
fn raw(url: &str, bytes: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").expect("plain")).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    // Whoever has heard enough does not read the rest.
    let _ = stream.write_all(bytes.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Every event on topics that a pattern selects.
fn events(told: &Told, pattern: &str) -> Vec<Value> {
    let lines = ask(told.runtime.path(), &["tail", pattern, "--from", "start", "--json", "--no-follow"], "");
    lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["event"].take()).collect()
}

#[test]
fn a_component_sees_the_request_and_nothing_of_its_connection() {
    let app = everything("");
    let told = Told::start(&app, &[]);
    let url = ready(&told);
    let answer = raw(
        &url,
        "GET /web/seen HTTP/1.1\r\nhost: shop.example\r\nconnection: close, x-hop, x-request-id\r\nx-hop: 1\r\n\
         keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nte: trailers\r\ntrailer: x-late\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nx-busway-caller: key:admin\r\nx_busway_caller: key:admin\r\n\
         x-request-id: r-1\r\ntraceparent: made up\r\nx-kept: one\r\nx-kept: two\r\ncookie: a=b\r\n\
         authorization: Basic YTpi\r\n\r\n",
    );
    let (_, body) = answer.split_once('{').expect("JSON");
    let (body, _) = body.rsplit_once('}').expect("JSON");
    let seen: Value = serde_json::from_str(&format!("{{{body}}}")).expect("JSON");
    let mut headers: Vec<_> = seen["headers"].as_array().expect("a list").clone();
    headers.sort_by_key(ToString::to_string);
    let wanted = json!([
        ["authorization", "Basic YTpi"],
        ["cookie", "a=b"],
        ["x-busway-client", "127.0.0.1"],
        ["x-kept", "one"],
        ["x-kept", "two"],
        ["x-request-id", "r-1"],
    ]);
    // Without authentication a component may have its own.
    assert_eq!(Value::from(headers), wanted);
    assert_eq!((&seen["authority"], &seen["environment"]), (&"shop.example".into(), &json!([])));
}

#[test]
fn nothing_that_is_hidden_behind_a_request_reaches_a_component() {
    let app = everything("[gateway.limits]\nidle-time = \"300ms\"\nheader-time = \"300ms\"\nbody-time = \"300ms\"\n");
    let told = Told::start(&app, &[]);
    let url = ready(&told);
    let hidden = "POST /web/publish HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\nhidden";
    let head = "POST /web/echo HTTP/1.1\r\nhost: h\r\n";
    let length = hidden.len();
    for (what, bytes) in [
        (
            "length and chunks",
            format!("{head}content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", length + 5),
        ),
        (
            "chunks and length",
            format!("{head}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("two lengths", format!("{head}content-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}")),
        ("a list of lengths", format!("{head}content-length: 0, {length}\r\n\r\n{hidden}")),
        ("a folded header", format!("{head}x: a\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a line within a header", format!("{head}x: a\rcontent-length: 0\r\n\r\n{hidden}")),
        ("a blank before the colon", format!("{head}content-length : 0\r\n\r\n{hidden}")),
        ("chunked in disguise", format!("{head}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a chunk that is too long", format!("{head}transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n{hidden}")),
        (
            "an upgrade",
            format!("{head}connection: upgrade\r\nupgrade: h2c\r\ncontent-length: {length}\r\n\r\n{hidden}"),
        ),
    ] {
        let answers = raw(&url, &bytes);
        assert!(answers.matches("HTTP/1.1 ").count() <= 1 + answers.matches("POST /web").count(), "{what}: {answers}");
    }
    assert_eq!(events(&told, "public.web"), Vec::<Value>::new(), "nothing that was hidden was done");
    // The same bytes without a trick are two requests.
    let honest = raw(&url, &format!("{head}content-length: 0\r\n\r\n{hidden}"));
    assert_eq!(honest.matches("HTTP/1.1 200").count(), 2, "{honest}");
    until("the second one is done", || events(&told, "public.web").len() == 1);
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// However a request becomes events, they say which request it was.
#[test]
fn events_carry_the_id_and_the_trace_of_the_request_that_they_come_from() {
    let app = everything("");
    let told = Told::start(&app, &[]);
    let url = ready(&told);
    let ids = ["x-request-id: r-9", &format!("traceparent: {TRACE}")].map(str::to_owned);
    let with = |more: &[&str], path: &str| {
        let url = format!("{url}{path}");
        let reply = curl(&[&["--header", &ids[0], "--header", &ids[1]], more, &[&url]].concat());
        assert!((200..300).contains(&reply.status), "{reply:?}");
        assert_eq!(reply.header("x-request-id"), Some("r-9"));
    };
    let cloud = r#"{"specversion":"1.0","id":"1","source":"/s","type":"public.ids","data":1}"#;
    let (structured, batched) =
        ("content-type: application/cloudevents+json", "content-type: application/cloudevents-batch+json");
    with(&["--data", "{}"], "/events/public.ids");
    with(&["--header", "content-type: application/x-ndjson", "--data-binary", "1\n2\n"], "/events/public.ids");
    let lines = "{\"topic\":\"public.ids\",\"data\":3}\n";
    with(&["--header", "content-type: application/x-ndjson", "--data-binary", lines], "/events");
    with(&["--header", structured, "--data", cloud], "/events");
    with(&["--header", batched, "--data", &format!("[{}]", cloud.replace("\"1\"", "\"2\""))], "/events");
    with(&["--data", "{}"], "/web/publish");
    with(&[], "/quotes/double?key=k&n=1");
    for (pattern, count) in [("public.ids", 6), ("public.web", 1), ("test.values.v1.answers.told", 1)] {
        until("the events", || events(&told, pattern).len() >= count);
        for event in events(&told, pattern) {
            assert_eq!((&event["correlation"], &event["traceparent"]), (&"r-9".into(), &TRACE.into()), "{event}");
        }
    }
    // What an event is about is its publisher's to say, and whoever names no request is given an id.
    with(&["--header", "busway-correlation: order-7", "--data", "{}"], "/events/public.own");
    assert_eq!(events(&told, "public.own")[0]["correlation"], "order-7");
    let made = curl(&["--data", "{}", &format!("{url}/events/public.made")]);
    let event = &events(&told, "public.made")[0];
    assert_eq!(event["correlation"].as_str(), made.header("x-request-id"), "{event}");
    assert_eq!(event["traceparent"], Value::Null);
}
