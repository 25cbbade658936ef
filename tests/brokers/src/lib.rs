//! Real brokers for tests and for trying things out.
//!
//! Role: installs a broker once under `target/brokers`, starts it on a free port of the loopback interface with its files
//! under a temporary folder, waits until it answers, and stops it by its process id. Used by tests, which own what they
//! start ([`Nats::start`], [`Rabbit::start`]), and by `cargo xtask brokers`, whose brokers go on ([`up`], [`down`]).
//!
//! Invariants: nothing listens beyond the loopback interface; nothing is written outside of `target/brokers` and the
//! broker's own temporary folder; only processes that this started are ended. A broker that a test owns ends with the
//! test, also when that is killed: a shell beside it waits for the end of a pipe.

mod install;
mod nats;
mod process;
mod rabbit;
mod running;
mod server;

pub use nats::Nats;
pub use rabbit::{Rabbit, Tls};
pub use running::{Running, down, up};

use std::path::{Path, PathBuf};

/// Where brokers are installed and where it is noted which of them run.
pub(crate) fn folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).join("target/brokers")
}
