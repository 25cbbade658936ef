//! API keys from the command that makes them to what they open, over every kind of route; and that nothing tells them.

use std::io::{BufRead as _, BufReader};
use std::process::Output;

use busway_tests::programs;

use crate::gateway::Told;
use crate::harness::App;
use crate::process::{PATIENCE, once};

use super::curl::{Reply, try_curl};
use super::leaks::Leaks;

/// A key as `busway gateway key` makes it, and the lines of the manifest that it prints.
pub(crate) fn make_key(name: &str, scopes: &[&str]) -> (String, String) {
    let mut arguments = vec!["gateway", "key", name];
    for scope in scopes {
        arguments.extend(["--scope", scope]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let Output { status, stdout, stderr } = once(folder.path(), &arguments, "");
    let (key, told) = (String::from_utf8(stdout).expect("text"), String::from_utf8(stderr).expect("text"));
    assert!(status.success(), "{told}");
    let key = key.trim_end().to_owned();
    assert!(!told.contains(&key), "the key is on stdout, and nowhere else");
    let (_, lines) = told.split_once("\n\n").expect("lines for the manifest");
    (key, lines.to_owned())
}

/// Routes of every kind: to a component, to a function, to events, to a file, to rooms, an open one and a rare one.
pub(super) const ROUTES: &str = r#"
[[gateway.routes]]
name = "web"
path = "/web/{*rest}"
service = "web"

[[gateway.routes]]
name = "quote"
path = "/quotes/{about}"
method = "GET"
request = "test:values/quotes.quote"

[[gateway.routes]]
name = "live"
path = "/live"
events = ["public.>"]

[[gateway.routes]]
name = "page"
path = "/page"
file = "page.html"

[[gateway.routes]]
name = "chat"
path = "/socket.io"
socketio = { in = "chat.in", out = "chat.out" }

[[gateway.routes]]
name = "open"
path = "/open/{*rest}"
service = "web"
auth = "none"

[[gateway.routes]]
name = "rare"
path = "/rare"
service = "web"
rate = "2/h"
burst = 2
"#;

/// What the routes lead to, behind a gateway with these settings.
pub(crate) fn everything(gateway: &str) -> App {
    let app = App::new();
    app.write("page.html", b"<p>a page</p>");
    let service = |name, component, settings| format!("[services.{name}]\ncomponent = {component:?}\n{settings}\n");
    let services = [
        service("web", programs::WEB, "timeout = \"20s\""),
        service("answerer", programs::ANSWERER, "timeout = \"20s\""),
        service("count", programs::COUNT, ""),
    ];
    let services = services.concat();
    let manifest = format!("{services}[gateway]\nlisten = \"127.0.0.1:0\"\n{gateway}\n{ROUTES}");
    app.write("busway.toml", manifest.as_bytes());
    app
}

/// The gateway once every service runs.
pub(crate) fn ready(told: &Told) -> String {
    let url = told.url();
    let health = format!("{url}/health/ready");
    super::until("readiness", || try_curl(&["--insecure", &health]).is_ok_and(|reply| reply.status == 200));
    url
}

fn asked(leaks: &mut Leaks, method: &str, url: &str, headers: &[&str]) -> Reply {
    let mut arguments = vec!["--request", method];
    for header in headers {
        arguments.extend(["--header", header]);
    }
    if method == "POST" {
        arguments.extend(["--data", "{}"]);
    }
    arguments.push(url);
    leaks.curl(&arguments)
}

#[test]
fn keys_open_what_their_scopes_say_and_nothing_tells_them() {
    let (shop, shop_lines) = make_key("shop", &["publish:public.>", "route:web", "route:quote", "route:rare"]);
    let (till, till_lines) = make_key("till", &["subscribe:public.>", "route:live", "route:page", "route:chat"]);
    let (stranger, _) = make_key("stranger", &["route:*"]);
    // The stranger tries more often than strangers may.
    let app = everything(&format!("[gateway.rate]\nfailed = \"1000/s\"\n{shop_lines}\n{till_lines}"));
    let told = Told::start_with(&app.path().display().to_string(), &["--log", "trace"], &[]);
    let url = ready(&told);
    let mut leaks = Leaks::default();
    for key in [&shop, &till, &stranger] {
        leaks.keep(key);
    }
    let [shop, till, stranger] = [&shop, &till, &stranger].map(|key| format!("authorization: Bearer {key}"));
    for (method, path, nobody, shop_may, till_may) in [
        ("GET", "/health/ready", 200, 200, 200),
        ("GET", "/open/", 200, 200, 200),
        ("GET", "/web/", 401, 200, 403),
        ("GET", "/quotes/double?key=k&n=2", 401, 200, 403),
        ("GET", "/page", 401, 403, 200),
        // Socket.IO has a packet of its own for a key, which comes later; `show who you are` is what it answers then.
        ("GET", "/socket.io/?EIO=4&transport=polling", 200, 403, 200),
        ("GET", "/openapi.json", 401, 200, 200),
        ("GET", "/nothing", 401, 404, 404),
        ("POST", "/events/public.count", 401, 202, 403),
        ("POST", "/events/secret.count", 401, 403, 403),
        ("GET", "/events?topic=secret.%3E", 401, 403, 403),
        ("DELETE", "/page", 401, 403, 405),
    ] {
        let url = format!("{url}{path}");
        for (who, header, wanted) in
            [("nobody", "x-nothing: x", nobody), ("shop", &*shop, shop_may), ("till", &*till, till_may)]
        {
            let reply = asked(&mut leaks, method, &url, &[header]);
            assert_eq!(reply.status, wanted, "{who} {method} {path}: {reply:?}");
        }
        // What was not issued for this gateway is worth nothing, whatever it says it may.
        if nobody == 401 || path.starts_with("/socket.io") {
            assert_eq!(asked(&mut leaks, method, &url, &[&stranger]).status, 401, "{path}");
        }
    }
    for (path, wanted) in [("/web/trap", 502), ("/web/none", 502), ("/quotes/trap?key=k&n=2", 502)] {
        let failed = asked(&mut leaks, "GET", &format!("{url}{path}"), &[&shop]);
        assert_eq!(failed.status, wanted, "{path}: {failed:?}");
    }
    rarely(&mut leaks, &format!("{url}/rare"), &shop);
    leaks.none(&told);
}

/// A route that a client may use twice in an hour.
fn rarely(leaks: &mut Leaks, url: &str, key: &str) {
    for left in ["1", "0"] {
        let reply = asked(leaks, "GET", url, &[key]);
        assert_eq!(reply.status, 404, "the component has no such path");
        assert_eq!(reply.header("ratelimit-policy"), Some("\"client\";q=2000;w=2, \"route\";q=2;w=3600"));
        let told = reply.header("ratelimit").expect("what is left");
        assert!(told.contains(&format!("\"route\";r={left};t=")), "{told}");
    }
    let refused = asked(leaks, "GET", url, &[key]);
    assert_eq!((refused.status, refused.problem()), (429, "too-many".to_owned()));
    let after: u32 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=1_800).contains(&after), "{after}");
}

/// A page has no header to show its key with.
#[test]
fn a_ticket_opens_one_stream_and_is_told_to_nobody_else() {
    let (till, lines) = make_key("till", &["subscribe:public.>", "publish:public.>"]);
    let app = everything(&lines);
    let told = Told::start_with(&app.path().display().to_string(), &["--log", "trace"], &[]);
    let url = ready(&told);
    let mut leaks = Leaks::default();
    leaks.keep(&till);
    let key = format!("x-api-key: {till}");
    asked(&mut leaks, "POST", &format!("{url}/events/public.tickets"), &[&key]);
    // What this answers is the ticket, so it is not looked at.
    let issued = try_curl(&["--request", "POST", "--header", &key, &format!("{url}/auth/tickets")]).expect("an answer");
    let ticket = issued.json()["ticket"].as_str().expect("a ticket").to_owned();
    leaks.keep(&ticket);
    let stream = format!("{url}/events?topic=public.%3E&from=start&ticket={ticket}");
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let opened = agent.get(&stream).header("accept", "text/event-stream").call().expect("let in");
    let mut lines = BufReader::new(opened.into_body().into_reader()).lines();
    let event = lines.find_map(|line| line.ok()?.strip_prefix("data: ").map(str::to_owned)).expect("an event");
    assert!(event.contains("public.tickets"), "{event}");
    let again = asked(&mut leaks, "GET", &stream, &["accept: text/event-stream"]);
    assert_eq!(again.status, 401, "it is used up");
    leaks.none(&told);
}
