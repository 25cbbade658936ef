//! A service without the SDK, to prove that `wit/bus.wit` suffices: publishes each event's data in upper case to
//! `public.raw.out`.

#![expect(unsafe_code, missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

use busway::bus::producer::{Message, publish};
use exports::busway::bus::handler::{Event, Failure, Guest};

wit_bindgen::generate!({ path: "../../wit", world: "service" });

struct Upper;

impl Guest for Upper {
    fn subscriptions() -> Vec<String> {
        vec!["public.raw".into()]
    }

    fn handle(event: Event) -> Result<(), Failure> {
        publish(&Message {
            topic: "public.raw.out".into(),
            key: event.key,
            content_type: event.content_type,
            headers: event.headers,
            data: event.data.to_ascii_uppercase(),
            id: None,
            delay_ms: None,
            expires_ms: None,
        })
        .map(drop)
        .map_err(|refusal| Failure::Retry(refusal.to_string()))
    }
}

export!(Upper);
