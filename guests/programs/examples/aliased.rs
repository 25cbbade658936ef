//! Passes the host far more than it has itself: ten thousand strings that all are the same 64 KiB of its memory, which
//! the host would have to copy into 640 MiB of its own. Data `headers`: as the headers of one event; `messages`: as the
//! data of as many events; anything else is acknowledged. If it survives, `public.aliased.out` says what it was told.
//!
//! Without the SDK, because bindings that borrow allow the aliasing in safe Rust.

#![expect(unsafe_code, missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

use busway::bus::producer::{Message, Refusal, publish, publish_many};
use busway::bus::types::HeaderParam;
use exports::busway::bus::handler::{Event, Failure, Guest};

wit_bindgen::generate!({
    path: "../../wit",
    world: "service",
    ownership: Borrowing { duplicate_if_necessary: true },
});

const COPIES: usize = 10_000;
const BYTES: usize = 64 * 1024;

fn message<'a>(headers: &'a [HeaderParam<'a>], data: &'a [u8]) -> Message<'a> {
    let topic = "public.aliased.out";
    Message { topic, key: None, content_type: None, headers, data, id: None, delay_ms: None, expires_ms: None }
}

struct Aliased;

impl Guest for Aliased {
    fn subscriptions() -> Vec<String> {
        vec!["public.aliased".into()]
    }

    fn handle(event: Event) -> Result<(), Failure> {
        let text = "x".repeat(BYTES);
        let told: Result<usize, Refusal> = match event.data.as_slice() {
            b"headers" => {
                let headers = vec![HeaderParam { name: "alias", value: &text }; COPIES];
                publish(message(&headers, b"")).map(|_| 1)
            }
            b"messages" => publish_many(&vec![message(&[], text.as_bytes()); COPIES]).map(|ids| ids.len()),
            _ => return Ok(()),
        };
        let told = match told {
            Ok(accepted) => format!("accepted {accepted}"),
            Err(refusal) => format!("refused {refusal:?}"),
        };
        publish(message(&[], told.as_bytes())).map(drop).map_err(|refusal| Failure::Reject(refusal.to_string()))
    }
}

export!(Aliased);
