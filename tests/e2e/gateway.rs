//! The gateway of a real node: where it listens, how it follows the manifest, how it ends.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use busway_tests::programs;
use busway_types::{Clock as _, SystemClock};

use crate::harness::App;
use crate::process::{NodeProcess, PATIENCE, ask, command};

const LISTEN: &str = "[gateway]\nlisten = \"127.0.0.1:0\"";
const ROUTE: &str = "[[gateway.routes]]\npath = \"/hello\"\nservice = \"hello\"\n";

/// Status and body of a GET; none when nobody answers there.
pub(crate) fn get(url: &str) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.get(url).call().ok()?;
    Some((response.status().as_u16(), response.body_mut().read_to_string().expect("text")))
}

async fn asked(addr: SocketAddr, path: &str) -> (u16, String) {
    let url = format!("http://{addr}{path}");
    tokio::task::spawn_blocking(move || get(&url)).await.expect("asked").expect("an answer")
}

async fn until(what: &str, addr: SocketAddr, path: &str, wanted: u16) {
    let came = async {
        while asked(addr, path).await.0 != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, came).await.unwrap_or_else(|_| panic!("{what}: no {wanted}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_gateway_of_the_manifest_is_served_and_a_mistake_changes_nothing() {
    let app = App::new().with(programs::COUNT, "count").manifest(LISTEN);
    let bus = app.run().await;
    let addr = bus.node.gateway_addr().expect("a gateway");
    assert_eq!(asked(addr, "/health/ready").await.0, 200);
    assert_eq!(asked(addr, "/hello").await.0, 404);

    app.write("busway.toml", format!("{LISTEN}\n{ROUTE}").as_bytes());
    // The route is there; no such service runs.
    until("a route that came", addr, "/hello", 503).await;
    assert!(bus.status().await.refused.is_empty(), "nothing is left to be told");

    app.write("busway.toml", format!("{LISTEN}\n{ROUTE}{ROUTE}").as_bytes());
    bus.until("two routes for one path are told", |status| {
        status.refused.iter().any(|file| file.reason.contains("`/hello` and `/hello` are for the same path"))
    })
    .await;
    assert_eq!(asked(addr, "/hello").await.0, 503, "what was before goes on");

    app.write("busway.toml", LISTEN.as_bytes());
    until("a route that went", addr, "/hello", 404).await;
    bus.until("nothing more to be told", |status| status.refused.is_empty()).await;
    app.write("busway.toml", format!("{LISTEN}\n[limits]\nheaders = 7\n").as_bytes());
    bus.until("what the gateway is not", |s| s.refused.iter().any(|f| f.reason.contains("restart the node"))).await;
    bus.stop().await;
}

#[tokio::test]
async fn without_an_address_there_is_no_gateway() {
    let bus = App::new().with(programs::COUNT, "count").manifest("[gateway.limits]\nheaders = 50").run().await;
    assert_eq!((bus.node.gateway_addr(), bus.status().await.node.gateway), (None, None));
    bus.stop().await;
}

#[test]
fn run_listens_where_it_is_told_and_says_so() {
    let app = App::new().with(programs::COUNT, "count");
    let runtime = tempfile::tempdir().expect("a folder");
    let told = runtime.path().join("stderr");
    let folder = app.path().display().to_string();
    let started = command(runtime.path(), &["run", &folder, "--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&told).expect("a file"))
        .spawn();
    let mut node = NodeProcess(started.expect("the node starts"));
    assert!(ask(runtime.path(), &["status"], "").contains("gateway: http://127.0.0.1:"));
    let said = || std::fs::read_to_string(&told).expect("its words");
    let clock = SystemClock::new();
    let began = clock.now();
    let url = loop {
        let said = said();
        if let Some((_, rest)) = said.split_once("gateway ") {
            break rest.lines().next().expect("an address").trim().to_owned();
        }
        assert!(clock.now().since(began) < PATIENCE, "{said}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(get(&format!("{url}/health/live")).map(|(status, _)| status), Some(200));
    assert_eq!(get(&format!("{url}/v1/status")).map(|(status, _)| status), Some(404), "the admin API is not there");
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
    assert_eq!(get(&format!("{url}/health/live")), None);
}
