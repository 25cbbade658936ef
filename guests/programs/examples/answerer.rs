//! Answers requests; what it does depends on what it is asked about.

#![expect(unsafe_code, missing_docs, clippy::pedantic, reason = "what wit-bindgen generates")]

use busway::bus::key_value::increment;
use exports::test::values::quotes::{Guest, Point};
use test::values::{answers, quotes};

wit_bindgen::generate!({ path: ["../../wit", "wit/values.wit"], world: "test:values/answerer", generate_all });

struct Answerer;

impl Guest for Answerer {
    fn quote(key: String, about: String, n: u32) -> Result<u64, String> {
        answers::told(&format!("answering {about}"));
        increment("asked", 1).expect("granted");
        match about.as_str() {
            "double" => Ok(u64::from(n) * 2),
            "error" => Err(format!("no quote for {n}")),
            "trap" => panic!("no more quotes"),
            "slow" => loop {
                std::hint::black_box(n);
            },
            "wait" => {
                std::thread::sleep(std::time::Duration::from_millis(n.into()));
                Ok(u64::from(n))
            }
            // Asks whoever answers the same, itself included.
            "again" => quotes::quote(&key, "double", n).map_err(|error| format!("asked again: {error}")),
            other => Err(format!("what is {other}?")),
        }
    }

    fn points(n: u32) -> Vec<Point> {
        (0..n).map(|n| Point { x: f64::from(n), y: 0.5 }).collect()
    }
}

export!(Answerer);
