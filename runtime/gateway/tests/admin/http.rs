//! A served fake, and a client that speaks just enough HTTP/1.1 to see what is really on the wire.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use busway_gateway::{AdminConfig, AdminToken, ServeError};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake::Fake;

pub(crate) const TOKEN: &str = "sesame";

pub(crate) struct Served {
    addr: SocketAddr,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    server: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    pub(crate) async fn start(fake: Fake) -> Self {
        Self::start_with(fake, AdminConfig::new(AdminToken::new(TOKEN))).await
    }

    #[expect(clippy::disallowed_methods, reason = "a test has no node to spawn for it")]
    pub(crate) async fn start_with(fake: Fake, config: AdminConfig) -> Self {
        let listener = busway_gateway::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A dropped sender stops the server as well.
            let _ = stopped.await;
        };
        let server = tokio::spawn(busway_gateway::serve(listener, Arc::new(fake), config, shutdown));
        Self { addr, stop: Mutex::new(Some(stop)), server }
    }

    pub(crate) fn stop(&self) {
        drop(self.stop.lock().expect("the stop").take());
    }

    pub(crate) async fn ended(self) {
        self.server.await.expect("the server's task").expect("the server");
    }

    pub(crate) async fn open(&self, request: &Request) -> Open {
        let mut stream = TcpStream::connect(self.addr).await.expect("a connection");
        stream.write_all(request.text().as_bytes()).await.expect("sent");
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head).await.expect("a line") > 2 {}
        Open { reader, head }
    }

    pub(crate) async fn send(&self, request: &Request) -> Answer {
        let Open { mut reader, head } = self.open(request).await;
        let mut raw = String::new();
        reader.read_to_string(&mut raw).await.expect("a body");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let mut answer = Answer { status, head, body: raw };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunk(&answer.body);
        }
        answer
    }
}

fn unchunk(mut raw: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = raw.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        body.push_str(&rest[..size]);
        raw = &rest[size + 2..];
    }
    body
}

pub(crate) struct Open {
    reader: BufReader<TcpStream>,
    head: String,
}

impl Open {
    /// The next line that holds JSON, passing over the sizes of chunks.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.reader.read_line(&mut line).await.expect("a line"), 0, "the stream ended");
            if line.starts_with('{') {
                return line;
            }
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).next()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

pub(crate) struct Request {
    line: String,
    host: String,
    headers: String,
    token: bool,
    body: String,
}

pub(crate) fn request(method: &str, path: &str) -> Request {
    Request {
        line: format!("{method} {path} HTTP/1.1"),
        host: "localhost".into(),
        headers: String::new(),
        token: true,
        body: String::new(),
    }
}

impl Request {
    pub(crate) fn without_token(mut self) -> Self {
        self.token = false;
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers = format!("{}{name}: {value}\r\n", self.headers);
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    fn text(&self) -> String {
        let Self { line, host, headers, token, body } = self;
        let token = if *token { format!("Authorization: Bearer {TOKEN}\r\n") } else { String::new() };
        format!(
            "{line}\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n{token}{headers}\r\n{body}",
            body.len()
        )
    }
}
