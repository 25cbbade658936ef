//! The gateway of a real `busway run` as those outside meet it: its locks, its encryption, what it does under load and at
//! its end. Clients are curl and, where single bytes or one connection matter, sockets.

mod certificates;
mod curl;
pub(crate) mod doors;
mod drain;
mod headers;
mod leaks;
mod overload;
mod readmes;
pub(crate) mod tls;
mod tokens;

use std::time::Duration;

use busway_types::{Clock as _, SystemClock};

use crate::gateway::Told;
use crate::process::{PATIENCE, ask};

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    let began = clock.now();
    while !is_so() {
        assert!(clock.now().since(began) < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Requests whose answers have not begun.
fn in_flight(told: &Told) -> u64 {
    let status = ask(told.runtime.path(), &["status", "--json"], "");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status["node"]["gateway"]["in_flight"].as_u64().expect("a number")
}
