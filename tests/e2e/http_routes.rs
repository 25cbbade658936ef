//! Routes that lead to components: from a client's connection through the gateway of a real node to an instance and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use busway_tests::{programs, root, services};

use crate::gateway::get;
use crate::harness::{App, Bus};

const HELLO: &str = r#"{"hello": "world"}"#;

/// A gateway with a route to `NAME` for each given path.
fn routes(to: &[(&str, &str)]) -> String {
    let route = |(path, name): &(&str, &str)| format!("[[gateway.routes]]\npath = \"{path}\"\nservice = \"{name}\"\n");
    format!("[gateway]\nlisten = \"127.0.0.1:0\"\n{}", to.iter().map(route).collect::<String>())
}

fn addr(bus: &Bus) -> SocketAddr {
    bus.node.gateway_addr().expect("a gateway")
}

/// Status and body of a GET.
async fn asked(addr: SocketAddr, path: &str) -> (u16, String) {
    let url = format!("http://{addr}{path}");
    tokio::task::spawn_blocking(move || get(&url)).await.expect("asked").expect("an answer")
}

async fn post(addr: SocketAddr, path: &str, body: &'static str) -> (u16, String) {
    let url = format!("http://{addr}{path}");
    let send = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = agent.post(url).header("x-request-id", "r-9").send(body).expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
    };
    tokio::task::spawn_blocking(send).await.expect("asked")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_of_hello_answers_as_its_readme_says() {
    let readme = std::fs::read_to_string(root().join("examples/hello/README.md")).expect("a README");
    let manifest = std::fs::read_to_string(root().join("examples/hello/busway.toml")).expect("a manifest");
    let (_, shown) = readme.split_once("$ curl http://127.0.0.1:8080/\n").expect("it shows a request");
    let shown = shown.lines().next().expect("and its answer");
    assert!(manifest.contains("listen = \"127.0.0.1:8080\""), "where the README asks");
    let app = App::new().manifest(&manifest.replace(":8080", ":0"));
    std::fs::create_dir(app.path().join("services")).expect("a folder");
    app.put(services::HELLO, "services/hello");
    let bus = app.run().await;
    assert_eq!(asked(addr(&bus), "/").await, (200, shown.to_owned()));
    let http = bus.service("hello").await.http.expect("it answers HTTP");
    assert_eq!((http.requests, http.answered, http.failed), (1, 1, 0));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_sees_the_request_as_other_hosts_show_it_and_its_failures_are_told_without_reasons() {
    let app = App::new()
        .manifest(&routes(&[("/web/{*rest}", "web"), ("/gone", "gone"), ("/count", "count")]))
        .service("web", programs::WEB, "timeout = \"300ms\"\n[services.web.http]\nidle-timeout = \"5s\"\n")
        .service("count", programs::COUNT, "");
    let bus = app.run().await;
    let addr = addr(&bus);
    let (status, seen) = asked(addr, "/web/seen?a=b%20c").await;
    let seen: serde_json::Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!((status, &seen["path"], &seen["scheme"]), (200, &"/web/seen?a=b%20c".into(), &"http".into()));
    assert_eq!(seen["authority"], addr.to_string());
    assert!(seen["headers"].to_string().contains("x-request-id"), "{seen}");
    assert_eq!(asked(addr, "/web/").await, (200, "hello".to_owned()), "below a path is the path itself too");
    for (path, status) in
        [("/web/trap", 502), ("/web/none", 502), ("/web/wait?5000", 504), ("/gone", 503), ("/count", 503)]
    {
        let (found, document) = asked(addr, path).await;
        assert_eq!(found, status, "{path}: {document}");
        assert!(!document.contains("told to"), "why is for the log: {document}");
    }
    assert_eq!(post(addr, "/web/publish", "x").await.0, 200);
    let published = bus.tail("public.web").await;
    assert_eq!((published.len(), published[0].source.as_deref()), (1, Some("web")));
    assert_eq!(published[0].correlation.as_deref(), Some("r-9"), "an event knows its request");
    assert_eq!(post(addr, "/web/publish", "elsewhere").await.0, 403);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_component_answers_http_and_handles_events_in_two_pools() {
    let app = App::new().manifest(&routes(&[("/hits", "web_events")])).service(
        "web_events",
        programs::WEB_EVENTS,
        "self = true\n",
    );
    let bus = app.run().await;
    for _ in 0..20 {
        assert_eq!(post(addr(&bus), "/hits", "").await.0, 200);
    }
    bus.idle().await;
    assert_eq!(bus.service("web_events").await.acked, 20);
    assert_eq!(asked(addr(&bus), "/hits").await, (200, "20 1".to_owned()), "key-value is shared, memory is not");
    assert_ne!(bus.kv("web_events", "seen").await.as_deref(), Some("1"), "an instance handles many events");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_load_fails_no_request() {
    const LOOPS: usize = 4;
    // More often than one client may by default.
    let often = "\n[gateway.rate]\nrequests = \"100000/s\"\nburst = 100000\n";
    let app = App::new().with(services::HELLO, "hello").manifest(&format!("{}{often}", routes(&[("/", "hello")])));
    // The service is a file of the folder, so that another file swaps it.
    let bus = app.run().await;
    let addr = addr(&bus);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let loops: Vec<_> = (0..LOOPS)
        .map(|_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::task::spawn_blocking(move || {
                let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
                while !stop.load(Ordering::Relaxed) {
                    let mut response = agent.get(format!("http://{addr}/")).call().expect("an answer");
                    let body = response.body_mut().read_to_string().expect("a whole body");
                    let known = body == HELLO || body == "hello";
                    assert!(response.status() == 200 && known, "{} {body}", response.status());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let first = bus.service("hello").await.version;
    let mut before = first;
    for component in [programs::WEB, services::HELLO, programs::WEB] {
        app.put(component, "hello");
        let old = before.clone();
        bus.until("the other version runs", |status| status.services.iter().all(|s| s.version != old)).await;
        before = bus.service("hello").await.version;
        // Some requests for each version.
        let now = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < now + 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(loops.iter().all(|running| !running.is_finished()), "no loop ends by itself");
        }
    }
    stop.store(true, Ordering::Relaxed);
    for running in loops {
        running.await.expect("no request failed");
    }
    assert_eq!(asked(addr, "/").await, (200, "hello".to_owned()));
    bus.stop().await;
}
