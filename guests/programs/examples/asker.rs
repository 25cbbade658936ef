//! Asks what it is told to ask, and publishes what it was told.

#![expect(unsafe_code, missing_docs, clippy::pedantic, reason = "what wit-bindgen generates")]

use exports::test::values::questions::Guest;
use test::values::{answers, quotes};

wit_bindgen::generate!({ path: ["../../wit", "wit/values.wit"], world: "test:values/asker", generate_all });

struct Asker;

impl Guest for Asker {
    fn ask(about: String, n: u32) {
        answers::told(&format!("{about}: {:?}", quotes::quote("k", &about, n)));
    }

    fn ask_points(n: u32) {
        let points = quotes::points(n);
        answers::told(&format!(
            "{} points, the last at {:?}",
            points.len(),
            points.last().map(|point| (point.x, point.y))
        ));
    }
}

export!(Asker);
