//! Answers HTTP and handles events: two pools of one component. `POST` publishes to `public.hits`; the handler counts those
//! events; `GET` gives the count, and how many requests and events this instance has seen.

use std::sync::atomic::{AtomicU32, Ordering};

use busway_guest::{kv, publish};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// Requests and events that this instance has seen.
static SEEN: AtomicU32 = AtomicU32::new(0);

wasip2::http::proxy::export!(Web);

busway_guest::service!(subscribe = ["public.hits"], |_event| {
    let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    kv::set("seen", seen.to_string().as_bytes())?;
    kv::increment("hits", 1)?;
    Ok(())
});

struct Web;

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = if matches!(request.method(), Method::Post) {
            let sent = publish("public.hits").text("hit").send();
            sent.unwrap_or_else(|refusal| refusal.to_string())
        } else {
            let hits = kv::get("hits").ok().flatten().unwrap_or_default();
            format!("{} {seen}", String::from_utf8_lossy(&hits))
        };
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("asked for once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("asked for once");
        let _ = stream.blocking_write_and_flush(answer.as_bytes());
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
