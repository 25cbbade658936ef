//! Passes small typed events on: from guest to guest.

#![expect(unsafe_code, missing_docs, clippy::pedantic, reason = "what wit-bindgen generates")]

use exports::test::values::bench::{Guest, Line, MiddleEvent, SmallEvent};
use test::values::bench_out;

wit_bindgen::generate!({ path: ["../../wit", "wit/values.wit"], world: "test:values/typed-forward", generate_all });

struct Forward;

impl Guest for Forward {
    fn small(key: String, event: SmallEvent) {
        let SmallEvent { id, sku, quantity, cents, paid } = event;
        bench_out::small(&key, &bench_out::SmallEvent { id, sku, quantity, cents, paid });
    }
    fn middle(_: String, _: MiddleEvent) {}
    fn large(_: String, _: Vec<Line>) {}
}

export!(Forward);
