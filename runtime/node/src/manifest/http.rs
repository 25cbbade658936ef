//! The `[services.NAME.http]` tables: how a service that exports `wasi:http/incoming-handler` answers.

use std::time::Duration;

use super::reader::Table;

pub(super) const KEYS: &[&str] = &["concurrency", "queue", "idle-timeout", "computing-time"];

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

/// How a service answers HTTP. The time until its answer begins is the service's `timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Requests, each in an instance of its own, at the same time: 1 to 10,000.
    pub concurrency: usize,
    /// Requests that wait for an instance; none for four times `concurrency`. Further ones get 503.
    pub queue: Option<usize>,
    /// How long nothing may move in either body once the answer has begun.
    pub idle: Duration,
    /// How long one request may compute in all; waiting is no computing.
    pub computing: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        use busway_host::HttpSettings;
        Self {
            concurrency: HttpSettings::CONCURRENCY,
            queue: None,
            idle: HttpSettings::IDLE,
            computing: HttpSettings::COMPUTING,
        }
    }
}

pub(super) fn read(table: &Table<'_>) -> HttpConfig {
    let mut http = HttpConfig::default();
    if let Some(concurrency) = table.integer("concurrency", 1..=10_000) {
        http.concurrency = concurrency as usize;
    }
    http.queue = table.integer("queue", 0..=100_000).map(|queue| queue as usize);
    if let Some(idle) = table.duration("idle-timeout", MS..=DAY) {
        http.idle = idle;
    }
    if let Some(computing) = table.duration("computing-time", MS..=DAY) {
        http.computing = computing;
    }
    http
}
