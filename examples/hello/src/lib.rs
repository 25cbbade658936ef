//! Answers `GET /` with `{"hello": "world"}`. Nothing in it is busway's: any host of `wasi:http` runs it.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query();
        let is_root = matches!(path.as_deref(), None | Some("/" | ""));
        match request.method() {
            Method::Get | Method::Head if is_root => answer(out, 200, br#"{"hello": "world"}"#),
            Method::Get | Method::Head => answer(out, 404, br#"{"error": "there is only /"}"#),
            _ => answer(out, 405, br#"{"error": "only GET"}"#),
        }
    }
}

fn answer(out: ResponseOutparam, status: u16, json: &[u8]) {
    let headers = Fields::new();
    let length = json.len().to_string();
    for (name, value) in [("content-type", "application/json"), ("content-length", length.as_str())] {
        headers.append(name, value.as_bytes()).expect("a header that may be set");
    }
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("asked for once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("asked for once");
    // Whoever went away needs no answer.
    let _ = stream.blocking_write_and_flush(json);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
