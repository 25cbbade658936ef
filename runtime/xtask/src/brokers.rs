//! `cargo xtask brokers`: real brokers to try things with.

use std::ffi::OsString;

use anyhow::Result;
use busway_brokers::{Running, down, up};

use crate::process::{print, say};

/// Starts or stops; none when neither was asked for.
pub(crate) fn run(arguments: &[OsString]) -> Option<Result<()>> {
    match arguments {
        [word] if word == "up" => Some(up().map(|running| {
            tell(&running);
            say("`cargo xtask brokers down` stops them and removes what they keep");
        })),
        [word] if word == "down" => Some(down().map(|stopped| tell(&stopped))),
        _ => None,
    }
}

fn tell(brokers: &[Running]) {
    for broker in brokers {
        print(&format!("{}\n", broker.url));
    }
}
