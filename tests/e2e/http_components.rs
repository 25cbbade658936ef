//! Components that answer HTTP, as the host runs them: what they see, what holds them, and what they cannot do.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use busway_host::{
    Answering, Bus, Host, HostConfig, HttpBody, HttpError, HttpPool, HttpSettings, NoBus, Refusal, Request as Asked,
    ServiceSettings,
};
use busway_tests::{programs, services};
use busway_types::{Clock as _, Draft, Event, EventId, KvRead, KvVersion, KvWrite, ServiceName, SystemClock};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::mpsc;

/// How long anything here may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(50);

/// A bus that notes what is published and logged.
#[derive(Default)]
struct Noted {
    published: Mutex<Vec<Draft>>,
    lines: Mutex<Vec<String>>,
}

impl Bus for Noted {
    fn admit(&self, service: &ServiceName, draft: Draft, id: Option<EventId>) -> Result<Event, Refusal> {
        NoBus.admit(service, draft, id)
    }

    fn publish_blocking(&self, _: &ServiceName, drafts: Vec<Draft>) -> Result<Vec<EventId>, Refusal> {
        // As a bus on disk does: whoever publishes waits.
        std::thread::sleep(Duration::from_millis(5));
        if drafts.iter().any(|draft| draft.topic.as_str().starts_with("secret.")) {
            return Err(Refusal::Denied("no grant".into()));
        }
        let ids = drafts.iter().map(|_| "019aa000-0000-7000-8000-000000000001".parse().expect("an id")).collect();
        self.published.lock().expect("a lock").extend(drafts);
        Ok(ids)
    }

    fn request(&self, service: &ServiceName, request: Asked) -> Answering {
        NoBus.request(service, request)
    }

    fn kv_get(&self, service: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), Refusal> {
        NoBus.kv_get(service, key)
    }

    fn kv_keys(
        &self,
        service: &ServiceName,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Box<str>>, Refusal> {
        NoBus.kv_keys(service, prefix, after, limit)
    }

    fn kv_bytes(&self, service: &ServiceName) -> usize {
        NoBus.kv_bytes(service)
    }

    fn kv_write_blocking(&self, _: &ServiceName, _: Vec<KvRead>, _: Vec<KvWrite>) -> Result<(), Refusal> {
        Ok(())
    }

    fn log(&self, _: &ServiceName, _: tracing::Level, message: &str, _: &[(String, String)]) {
        self.lines.lock().expect("a lock").push(message.to_owned());
    }
}

/// A pool of one program.
struct Web {
    pool: HttpPool,
    bus: Arc<Noted>,
}

fn settings(timeout: Duration) -> HttpSettings {
    HttpSettings { first_byte: timeout, ..HttpSettings::new(timeout) }
}

/// The program `web` with these settings.
fn with(http: HttpSettings, change: impl FnOnce(&mut ServiceSettings)) -> Web {
    Web::of(programs::WEB, http, change)
}

/// With nothing that a test meets by accident.
fn patient() -> Web {
    with(settings(PATIENCE), |_| {})
}

impl Web {
    fn of(program: &str, http: HttpSettings, change: impl FnOnce(&mut ServiceSettings)) -> Self {
        let host = Host::new(HostConfig::default()).expect("a host");
        let mut settings = ServiceSettings::new("web".parse().expect("a name"));
        change(&mut settings);
        let bus = Arc::new(Noted::default());
        let compiled = host.compile("web", &std::fs::read(program).expect("built")).expect("it compiles");
        let linked = compiled.link(&host, settings, bus.clone()).expect("it links");
        Self { pool: linked.http(http).expect("it answers HTTP"), bus }
    }

    async fn ask(&self, request: Request<HttpBody>) -> Result<Response<HttpBody>, HttpError> {
        self.pool.admit().await?.handle(request).await
    }

    async fn get(&self, path: &str) -> Result<Response<HttpBody>, HttpError> {
        self.ask(request("GET", path, "")).await
    }

    /// The status and the text of an answer.
    async fn text(&self, path: &str) -> (u16, String) {
        read(self.get(path).await.expect("answered")).await
    }

    async fn error(&self, path: &str) -> HttpError {
        self.get(path).await.map(drop).expect_err("not answered")
    }

    fn logged(&self, part: &str) -> bool {
        self.bus.lines.lock().expect("a lock").iter().any(|line| line.contains(part))
    }

    async fn until_drained(&self) {
        let drained = async {
            while !self.pool.is_drained() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, drained).await.expect("nothing runs any more");
    }
}

/// Something that goes on beside the test.
fn spawn<T: Send + 'static>(beside: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(beside)
}

fn boxed(body: impl Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static) -> HttpBody {
    body.map_err(|never| match never {}).boxed_unsync()
}

fn request(method: &str, path: &str, body: &str) -> Request<HttpBody> {
    let body = boxed(Full::new(Bytes::from(body.to_owned())));
    let request = Request::builder().method(method).uri(path).header("host", "shop.example:8080");
    request.body(body).expect("a request")
}

async fn read(response: Response<HttpBody>) -> (u16, String) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    (head.status.as_u16(), String::from_utf8(body.to_vec()).expect("text"))
}

/// A body whose parts come from a channel.
struct Parts(mpsc::Receiver<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

fn streamed(path: &str) -> (mpsc::Sender<Bytes>, Request<HttpBody>) {
    let (sender, parts) = mpsc::channel(1);
    (sender, request("POST", path, "").map(|_| boxed(Parts(parts))))
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_answers_as_any_host_of_wasi_http_lets_it() {
    let hello = Web::of(services::HELLO, settings(PATIENCE), |_| {});
    let response = hello.get("/").await.expect("answered");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(read(response).await, (200, r#"{"hello": "world"}"#.to_owned()));
    assert_eq!(hello.text("/other").await.0, 404);
    let head = hello.ask(request("HEAD", "/", "")).await.expect("answered");
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"18".parse().expect("a value")));
    hello.until_drained().await;
    let stats = hello.pool.stats();
    assert_eq!((stats.taken, stats.answered, stats.failed), (3, 3, 0));
    assert!(stats.memory_bytes > 0 && stats.busy_ns > 0);
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn web() {
    let web = patient();
    let mut asked = request("POST", "/a/seen?b=c%20d", "x");
    asked.headers_mut().insert("x-request-id", "r-1".parse().expect("a value"));
    asked.headers_mut().insert("connection", "close".parse().expect("a value"));
    let (status, seen) = read(web.ask(asked).await.expect("answered")).await;
    let seen: serde_json::Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!((status, &seen["method"], &seen["path"]), (200, &"POST".into(), &"/a/seen?b=c%20d".into()));
    assert_eq!((&seen["authority"], &seen["scheme"]), (&"shop.example:8080".into(), &"http".into()));
    assert_eq!(seen["headers"], serde_json::json!([["x-request-id", "r-1"]]), "nothing of the connection");
    assert_eq!((&seen["environment"], &seen["files"]), (&serde_json::json!([]), &false.into()), "nothing was granted");
    assert_eq!(web.text("/log").await.0, 200);
    web.until_drained().await;
    assert!(web.logged("a line for the log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_bodies_are_streamed_and_neither_runs_ahead_of_its_reader() {
    const PART: usize = 64 * 1024;
    const PARTS: usize = 512;
    let web = patient();
    let (sender, asked) = streamed("/echo");
    let mut echoed = web.ask(asked).await.expect("answered before the request ended").into_body();
    let sending = spawn(async move {
        for part in 0..PARTS {
            sender.send(Bytes::from(vec![part as u8; PART])).await.expect("somebody reads");
        }
    });
    // Nobody reads: what is on its way stays small, and whoever sends waits.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!sending.is_finished());
    let mut received = 0;
    while let Some(frame) = echoed.frame().await {
        for byte in frame.expect("a part").into_data().expect("data") {
            assert_eq!(byte, (received / PART) as u8, "at {received}");
            received += 1;
        }
    }
    assert_eq!(received, PART * PARTS);
    web.until_drained().await;
    assert!(web.pool.stats().memory_bytes < 8 * 1024 * 1024, "32 MiB went through {:?}", web.pool.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_ends_the_request_before_and_after_the_answer_began() {
    let web = with(HttpSettings { idle: Duration::from_millis(200), ..settings(Duration::from_millis(300)) }, |_| {});
    let (sender, asked) = streamed("/publish");
    let stalled = web.ask(asked).await.map(drop).expect_err("it waits for the rest of the body");
    assert!(matches!(&stalled, HttpError::BodyStalled(why) if why.contains("300 ms")), "{stalled}");
    drop(sender);
    let (sender, asked) = streamed("/echo");
    let mut echoed = web.ask(asked).await.expect("answered").into_body();
    sender.send(Bytes::from_static(b"a")).await.expect("read");
    assert_eq!(echoed.frame().await.expect("a frame").expect("a part").into_data().expect("data"), "a");
    let broken = echoed.frame().await.expect("not an end").map(drop);
    assert!(broken.is_err_and(|error| error.to_string().contains("middle of its answer")));
    let slow = web.error("/wait?60000").await;
    assert!(matches!(&slow, HttpError::TimedOut(why) if why.contains("no answer within 300 ms")), "{slow}");
    web.until_drained().await;
    assert_eq!(web.pool.stats().timed_out, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn spinning_requests_end_and_do_not_keep_others_waiting() {
    let web = Arc::new(with(settings(Duration::from_secs(2)), |_| {}));
    let spinning: Vec<_> = (0..6)
        .map(|_| {
            let web = web.clone();
            spawn(async move { web.error("/spin").await })
        })
        .collect();
    while web.pool.stats().running < 6 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let clock = SystemClock::new();
    let mut slowest = Duration::ZERO;
    let mut answered = 0;
    loop {
        let began = clock.monotonic_ns();
        assert_eq!(web.text("/").await, (200, "hello".to_owned()));
        slowest = slowest.max(Duration::from_nanos(clock.monotonic_ns() - began));
        answered += 1;
        if spinning.iter().all(tokio::task::JoinHandle::is_finished) {
            break;
        }
    }
    for spun in spinning {
        let error = spun.await.expect("it ends");
        assert!(matches!(&error, HttpError::TimedOut(_)), "{error}");
    }
    // Nobody waited until the spinning ones had ended.
    assert!(answered > 5 && slowest < Duration::from_secs(2), "{answered} answered, the slowest in {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_compute_for_a_bounded_time_whatever_its_client_grants() {
    let web = with(HttpSettings { computing: Duration::from_millis(50), ..settings(PATIENCE) }, |_| {});
    let error = web.error("/spin").await;
    assert!(matches!(&error, HttpError::TimedOut(why) if why.contains("computed longer than 50 ms")), "{error}");
    assert_eq!(web.text("/wait?200").await.0, 200, "waiting is no computing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_in_a_guest_ends_its_request_alone_and_says_why_in_the_log() {
    let web = with(settings(PATIENCE), |settings| settings.memory_bytes = 16 * 1024 * 1024);
    for (path, why) in [
        ("/bomb", "memory limit of 16 MiB"),
        ("/trap", "told to"),
        ("/none", "without an answer"),
        ("/error", "told to"),
    ] {
        let error = web.error(path).await;
        assert!(matches!(&error, HttpError::Failed(reason) if reason.contains(why)), "{path}: {error}");
        assert!(web.logged(&format!("GET {path} was not answered: ")), "{:?}", web.bus.lines);
    }
    let mut half = web.get("/break").await.expect("the head of an answer").into_body();
    let first = half.frame().await.expect("a frame").expect("a part").into_data().expect("data");
    assert_eq!(first, "the first half");
    assert!(half.frame().await.expect("not an end").is_err(), "an answer that broke off never looks whole");
    assert!(web.logged("was not answered to its end"));
    assert_eq!(web.text("/").await.0, 200);
    web.until_drained().await;
    assert_eq!(web.pool.stats().failed, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_instances_and_its_queue_a_pool_refuses_at_once() {
    let http = HttpSettings { concurrency: 2, queue: 1, queue_time: Duration::from_millis(300), ..settings(PATIENCE) };
    let web = Arc::new(with(http, |_| {}));
    let running = [web.get("/drip").await.expect("answered"), web.get("/drip").await.expect("answered")];
    let waiting = spawn({
        let web = web.clone();
        async move { web.error("/").await }
    });
    while web.pool.stats().waiting == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(web.error("/").await, HttpError::Overloaded("web".into()), "the queue is full");
    assert_eq!(waiting.await.expect("it ends"), HttpError::Overloaded("web".into()), "it waited for long enough");
    assert!((web.pool.load() - 1.0).abs() < f64::EPSILON);
    drop(running);
    web.until_drained().await;
    assert_eq!(web.text("/").await.0, 200);
    assert_eq!(web.pool.stats().overloaded, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_away_ends_the_request() {
    let web = patient();
    let mut dripping = web.get("/drip?20").await.expect("answered").into_body();
    dripping.frame().await.expect("a frame").expect("a part");
    drop(dripping);
    web.until_drained().await;
    assert_eq!(web.pool.stats().cancelled, 1);
    for path in ["/wait?60000", "/spin"] {
        let gone = tokio::time::timeout(Duration::from_millis(200), web.get(path)).await;
        assert!(gone.is_err(), "{path}");
        web.until_drained().await;
    }
    assert_eq!((web.pool.stats().cancelled, web.pool.stats().failed), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_knows_its_request_and_what_is_not_granted_is_refused() {
    let web = Arc::new(patient());
    let mut asked = request("POST", "/publish", "one");
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    asked.headers_mut().insert("traceparent", traceparent.parse().expect("a value"));
    asked.headers_mut().insert("x-request-id", "r-7".parse().expect("a value"));
    let (status, id) = read(web.ask(asked).await.expect("answered")).await;
    assert_eq!((status, id.len()), (200, 36));
    {
        let published = web.bus.published.lock().expect("a lock");
        let origin = &published[0].causality;
        assert_eq!(origin.source.as_ref().map(ServiceName::as_str), Some("web"));
        assert_eq!((origin.traceparent.as_deref(), origin.correlation.as_deref()), (Some(traceparent), Some("r-7")));
    }
    let (status, why) = read(web.ask(request("POST", "/publish", "elsewhere")).await.expect("answered")).await;
    assert_eq!(status, 403, "{why}");
    // Publishing waits; others go on meanwhile.
    let many = (0..64).map(|_| {
        let web = web.clone();
        spawn(async move { read(web.ask(request("POST", "/publish", "x")).await.expect("answered")).await.0 })
    });
    for answered in many.collect::<Vec<_>>() {
        assert_eq!(answered.await.expect("it ends"), 200);
    }
    assert_eq!(web.bus.published.lock().expect("a lock").len(), 65);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pool_finishes_what_it_took_and_a_stopped_one_ends_it() {
    let web = patient();
    let running = web.get("/drip?5").await.expect("answered");
    let waited = web.pool.admit().await.expect("admitted");
    web.pool.close();
    assert_eq!(web.error("/").await, HttpError::Closed);
    assert_eq!(read(waited.handle(request("GET", "/", "")).await.expect("answered")).await.0, 200);
    assert!(!web.pool.is_drained());
    web.pool.stop();
    web.until_drained().await;
    assert!(running.into_body().collect().await.is_err(), "what was ended does not look whole");
}

/// A server that says nothing but that it is there.
async fn neighbour() -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_asks_only_the_hosts_that_were_granted() {
    let address = neighbour().await;
    let denied = patient();
    let (status, error) = denied.text(&format!("/fetch?{address}")).await;
    assert_eq!(status, 502);
    assert!(error.contains("HttpRequestDenied"), "{error}");
    assert!(denied.logged(&format!("network = [\"{address}\"]")), "{:?}", denied.bus.lines);
    let granted = with(settings(PATIENCE), |settings| settings.grants.network = vec![address.to_string()]);
    assert_eq!(granted.text(&format!("/fetch?{address}")).await, (200, "204".to_owned()));
    let (_, error) = granted.text(&format!("/fetch?localhost:{}", address.port())).await;
    assert!(error.contains("HttpRequestDenied"), "a name that was not granted, wherever it leads: {error}");
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn web_events() {
    let web = Web::of(programs::WEB_EVENTS, settings(PATIENCE), |_| {});
    assert_eq!(read(web.ask(request("POST", "/", "")).await.expect("answered")).await.1.len(), 36);
    for _ in 0..3 {
        assert_eq!(web.text("/").await.1, " 1", "an instance sees one request");
    }
}
