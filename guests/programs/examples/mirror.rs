//! Sends back every value that it gets, through contracts that know nothing of busway, and fails as it is told.

#![expect(unsafe_code, missing_docs, clippy::pedantic, reason = "what wit-bindgen generates")]

use busway::bus::context::{Options, current, with_next};
use busway::bus::types::Header;
use exports::test::values::inputs::{Everything, Failure, Guest};
use test::values::outputs;

wit_bindgen::generate!({ path: ["../../wit", "wit/values.wit"], world: "test:values/mirror", generate_all });

struct Mirror;

impl Guest for Mirror {
    fn all(key: String, value: Everything) {
        outputs::all(&key, &value);
    }

    fn nothing() {
        outputs::nothing();
    }

    fn fail(how: Failure) -> Result<(), Failure> {
        // Must not be seen: the delivery fails.
        outputs::nothing();
        Err(how)
    }

    fn complain(text: String) -> Result<(), String> {
        if text == "refused" {
            // A key that is too long cannot be published; the error says so.
            return outputs::refused(&"k".repeat(300), &text);
        }
        Err(text)
    }

    fn dressed(text: String) {
        let envelope = current().map(|e| format!("{} {} {}", e.topic, e.attempt, e.hops)).unwrap_or_default();
        let headers = vec![Header { name: "seen".into(), value: envelope }];
        let options =
            Options { key: Some("dress".into()), id: None, headers, delay_ms: None, expires_ms: Some(60_000) };
        with_next(&options).expect("well formed");
        outputs::dressed(&text);
        outputs::dressed("plain");
    }
}

export!(Mirror);
