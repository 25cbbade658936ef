//! The gateway of a real node: where it listens, how it follows the manifest, how it ends.

use std::net::SocketAddr;
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

/// A node process, and what it says.
pub(crate) struct Told {
    pub(crate) node: NodeProcess,
    pub(crate) runtime: tempfile::TempDir,
}

impl Told {
    pub(crate) fn start(app: &App, arguments: &[&str]) -> Self {
        Self::start_with(&app.path().display().to_string(), arguments, &[])
    }

    /// Runs an app in an environment with these variables.
    pub(crate) fn start_with(app: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let runtime = tempfile::tempdir().expect("a folder");
        let told = |name| std::fs::File::create(runtime.path().join(name)).expect("a file");
        let arguments: Vec<&str> = ["run", app].into_iter().chain(arguments.iter().copied()).collect();
        let mut node = command(runtime.path(), &arguments);
        node.envs(environment.iter().copied()).stdout(told("stdout")).stderr(told("stderr"));
        Self { node: NodeProcess(node.spawn().expect("the node starts")), runtime }
    }

    /// Everything that it has said.
    pub(crate) fn said(&self) -> String {
        let said = |name| std::fs::read_to_string(self.runtime.path().join(name)).expect("its words");
        said("stdout") + &said("stderr")
    }

    /// What follows a word on its line, once the node has said it.
    pub(crate) fn after(&self, word: &str) -> String {
        let clock = SystemClock::new();
        let began = clock.now();
        loop {
            let said = std::fs::read_to_string(self.runtime.path().join("stderr")).expect("its words");
            // A line is complete when it is ended.
            if let Some((rest, _)) = said.split_once(word).and_then(|(_, rest)| rest.split_once('\n')) {
                return rest.trim().to_owned();
            }
            assert!(clock.now().since(began) < PATIENCE, "no {word:?}: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self) -> String {
        self.after("  gateway ")
    }
}

#[test]
fn run_listens_where_it_is_told_and_says_so() {
    let app = App::new().with(programs::COUNT, "count");
    let mut told = Told::start(&app, &["--listen", "127.0.0.1:0"]);
    let url = told.url();
    assert!(ask(told.runtime.path(), &["status"], "").contains(&format!("gateway: {url}, ")));
    assert_eq!(get(&format!("{url}/health/live")).map(|(status, _)| status), Some(200));
    assert_eq!(get(&format!("{url}/v1/status")).map(|(status, _)| status), Some(404), "the admin API is not there");
    told.node.signal("-TERM");
    assert_eq!(told.node.ended(), Some(0));
    assert_eq!(get(&format!("{url}/health/live")), None);
}

#[test]
fn a_self_made_certificate_is_kept_beside_the_data_and_can_be_trusted() {
    let app = App::new().with(programs::COUNT, "count");
    app.write("busway.toml", format!("{LISTEN}\n[gateway.tls]\nself-made = true\n").as_bytes());
    let data = app.path().join("data").display().to_string();
    let mut trusted = String::new();
    for _ in 0..2 {
        let mut told = Told::start(&app, &["--data", &data]);
        let url = told.url();
        let port = url.strip_prefix("https://127.0.0.1:").expect("https");
        let file = told.after("trust it with curl --cacert ");
        assert!(file.starts_with(&data), "{file}");
        let certificate = std::fs::read_to_string(&file).expect("the certificate");
        assert!(trusted.is_empty() || trusted == certificate, "it is made once");
        trusted = certificate;
        assert_eq!(tls_get(&file, &format!("https://localhost:{port}/health/live")), Some(200));
        told.node.signal("-TERM");
        assert_eq!(told.node.ended(), Some(0));
    }
}

#[test]
fn what_a_gateway_lacks_is_told_at_the_start_and_by_check() {
    let app = App::new().with(programs::COUNT, "count");
    let routes = "[[gateway.routes]]\npath = \"/count\"\nservice = \"count\"\n\
                  [[gateway.routes]]\npath = \"/quotes/{sku}\"\nrequest = \"shop:orders/quotes.quote\"\n";
    app.write("busway.toml", format!("[gateway]\nlisten = \"0.0.0.0:0\"\n{ROUTE}{routes}").as_bytes());
    let expected = [
        "the gateway at 0.0.0.0:",
        "the route `/hello`: the service `hello` does not run",
        "the route `/count`: the service `count` does not export wasi:http/incoming-handler",
        "the route `/quotes/{sku}`: no service answers `shop:orders/quotes.quote`",
    ];
    let runtime = tempfile::tempdir().expect("a folder");
    let folder = app.path().display().to_string();
    let checked = ask(runtime.path(), &["check", &folder], "");
    for advice in expected {
        assert!(checked.contains(&format!("warning {advice}")), "{advice}: {checked}");
    }
    let mut told = Told::start(&app, &[]);
    told.url();
    for advice in expected {
        told.after(advice);
    }
    told.node.signal("-TERM");
    assert_eq!(told.node.ended(), Some(0));
}

/// The status of a GET by a client that trusts one certificate.
fn tls_get(trusts: &str, url: &str) -> Option<u16> {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};
    let pem = std::fs::read(trusts).expect("the certificate");
    let roots = RootCerts::from(vec![Certificate::from_pem(&pem).expect("a certificate")]);
    let tls = TlsConfig::builder().root_certs(roots).build();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
    Some(agent.get(url).call().ok()?.status().as_u16())
}

const IDLE: usize = 10_000;

/// More than the buffers of a connection that is kept alive.
const BYTES_EACH: usize = 48 * 1024;

#[cfg(target_os = "linux")]
#[test]
#[expect(clippy::print_stdout, reason = "a figure for the documents")]
fn ten_thousand_idle_connections_cost_little_and_hold_up_nobody() {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let wanted = IDLE as u64 + 500;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        assert!(maximum.is_none_or(|maximum| maximum >= wanted + 100), "ulimit -Hn has to allow {wanted} open files");
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).expect("more open files");
    }
    let app = App::new().with(programs::COUNT, "count");
    let limits = format!("connections = {0}\nconnections-per-client = {0}\nidle-time = \"10m\"", IDLE + 10);
    app.write("busway.toml", format!("{LISTEN}\n[gateway.limits]\n{limits}\n").as_bytes());
    let told = Told::start(&app, &[]);
    let url = told.url();
    let addr = url.strip_prefix("http://").expect("plain");
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", told.node.0.id())).expect("Linux says");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
    };
    let question = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answered = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream.write_all(question).expect("asked");
        let mut answer = [0; 512];
        let read = stream.read(&mut answer).expect("an answer");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    };
    answered(&mut TcpStream::connect(addr).expect("a connection"));
    let before = resident();
    let mut idle: Vec<TcpStream> = (0..IDLE).map(|_| TcpStream::connect(addr).expect("a connection")).collect();
    // Each is used once and kept alive.
    idle.iter_mut().for_each(answered);
    let each = resident().saturating_sub(before) / IDLE;
    println!("{IDLE} idle connections take {each} bytes of the node each");
    assert!(each < BYTES_EACH, "{each} bytes each");
    let open = format!("{},{:03} connections", IDLE / 1_000, IDLE % 1_000);
    let status = ask(told.runtime.path(), &["status"], "");
    assert!(status.contains(&open), "{status}");
    let mut another = TcpStream::connect(addr).expect("a connection");
    (0..100).for_each(|_| answered(&mut another));
    // They are still there.
    idle.iter_mut().step_by(999).for_each(answered);
}
