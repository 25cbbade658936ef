//! Takes typed events of three sizes and does nothing with them: what the typed lane itself costs.

#![expect(unsafe_code, missing_docs, clippy::pedantic, reason = "what wit-bindgen generates")]

use exports::test::values::bench::{Guest, Line, MiddleEvent, SmallEvent};

wit_bindgen::generate!({ path: ["../../wit", "wit/values.wit"], world: "test:values/typed-echo", generate_all });

struct Echo;

impl Guest for Echo {
    fn small(_: String, _: SmallEvent) {}
    fn middle(_: String, _: MiddleEvent) {}
    fn large(_: String, _: Vec<Line>) {}
}

export!(Echo);
