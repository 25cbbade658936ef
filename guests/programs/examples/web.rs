//! Answers HTTP, each path in another way: the well-behaved ones first, then those that a host has to live with.

use std::time::Duration;

use serde_json::json;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, StreamError};

wasip2::http::proxy::export!(Web);

struct Web;

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let whole = request.path_with_query().unwrap_or_default();
        let (path, query) = whole.split_once('?').unwrap_or((&whole, ""));
        match path.rsplit('/').next().unwrap_or_default() {
            "echo" => echo(&request, out),
            "seen" => text(out, 200, &seen(&request)),
            "wait" => {
                std::thread::sleep(millis(query));
                text(out, 200, "waited");
            }
            "drip" => drip(out, query),
            "publish" => publish(&request, out),
            "fetch" => fetch(out, query),
            "log" => {
                eprintln!("a line for the log");
                text(out, 200, "logged");
            }
            "spin" => loop {
                std::hint::black_box(());
            },
            "bomb" => {
                let mut hoard: Vec<Vec<u8>> = Vec::new();
                loop {
                    hoard.push(vec![1; 1 << 20]);
                    std::hint::black_box(&hoard);
                }
            }
            "trap" => panic!("told to"),
            "break" => {
                let body = begin(out, 200);
                write(&body, b"the first half");
                panic!("told to, in the middle");
            }
            "none" => {}
            "error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("told to".into())))),
            "" => text(out, 200, "hello"),
            _ => text(out, 404, "no such path"),
        }
    }
}

fn millis(query: &str) -> Duration {
    Duration::from_millis(query.parse().unwrap_or(100))
}

/// Sends the head of the answer.
fn begin(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("asked for once");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn write(body: &OutgoingBody, bytes: &[u8]) {
    let stream = body.write().expect("asked for once");
    // Whoever does not want the rest is no reason to fail.
    let _ = bytes.chunks(4096).try_for_each(|part| stream.blocking_write_and_flush(part));
}

fn text(out: ResponseOutparam, status: u16, text: &str) {
    let body = begin(out, status);
    write(&body, text.as_bytes());
    let _ = OutgoingBody::finish(body, None);
}

fn method(request: &IncomingRequest) -> String {
    match request.method() {
        Method::Get => "GET".into(),
        Method::Post => "POST".into(),
        Method::Other(name) => name,
        other => format!("{other:?}"),
    }
}

/// What the guest sees of the request.
fn seen(request: &IncomingRequest) -> String {
    let headers: Vec<_> = request.headers().entries();
    let headers: Vec<_> =
        headers.into_iter().map(|(name, value)| json!([name, String::from_utf8_lossy(&value)])).collect();
    let environment: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    json!({
        "method": method(request),
        "path": request.path_with_query(),
        "authority": request.authority(),
        "scheme": match request.scheme() { Some(Scheme::Http) => "http", Some(Scheme::Https) => "https", _ => "other" },
        "headers": headers,
        "environment": environment,
        "files": std::fs::read_dir("/").is_ok(),
    })
    .to_string()
}

/// Each part of the body as it comes; none for the end.
fn part(stream: &InputStream) -> Result<Option<Vec<u8>>, StreamError> {
    match stream.blocking_read(64 * 1024) {
        Ok(part) => Ok(Some(part)),
        Err(StreamError::Closed) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives the body back while it still comes.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("asked for once");
    let body = begin(out, 200);
    {
        let (from, to) = (incoming.stream().expect("asked for once"), body.write().expect("asked for once"));
        while let Ok(Some(bytes)) = part(&from) {
            for part in bytes.chunks(4096) {
                if to.blocking_write_and_flush(part).is_err() {
                    return;
                }
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// A line every so many milliseconds, until nobody reads them any more.
fn drip(out: ResponseOutparam, query: &str) {
    let body = begin(out, 200);
    {
        let stream = body.write().expect("asked for once");
        while stream.blocking_write_and_flush(b"drop\n").is_ok() {
            std::thread::sleep(millis(query));
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// Publishes the body to `public.web` and answers with the id of the event.
fn publish(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("asked for once");
    let mut data = Vec::new();
    {
        let stream = incoming.stream().expect("asked for once");
        while let Ok(Some(bytes)) = part(&stream) {
            data.extend(bytes);
        }
    }
    drop(IncomingBody::finish(incoming));
    let topic = if data == b"elsewhere" { "secret.web" } else { "public.web" };
    match busway_guest::publish(topic).data(data).send() {
        Ok(id) => text(out, 200, &id),
        Err(refusal) => text(out, 403, &refusal.to_string()),
    }
}

/// Asks `http://QUERY/` and answers with the status, or with the error's name.
fn fetch(out: ResponseOutparam, authority: &str) {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_path_with_query(Some("/")).expect("a path");
    request.set_authority(Some(authority)).expect("an authority");
    let answer = outgoing_handler::handle(request, None).and_then(|pending| {
        pending.subscribe().block();
        pending.get().expect("it is ready").expect("asked for once")
    });
    match answer {
        Ok(response) => text(out, 200, &response.status().to_string()),
        Err(error) => text(out, 502, &format!("{error:?}")),
    }
}
