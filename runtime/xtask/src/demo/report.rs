//! What the node says about itself: the part of `busway status --json` and `busway kv list --json` that the demo reads.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::expect::Counts;

/// `busway status --json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Report {
    pub(super) bus: Bus,
    pub(super) services: Vec<Service>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Bus {
    /// The offset after the newest event.
    pub(super) head: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) acked: u64,
    pub(super) published: u64,
    pub(super) retried: u64,
    pub(super) dead_lettered: u64,
    pub(super) trapped: u64,
    pub(super) timed_out: u64,
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) memory_bytes: u64,
    pub(super) subscriptions: Vec<Subscription>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Subscription {
    ready: u64,
    in_flight: u64,
    parked: u64,
    backlog_events: u64,
}

impl Service {
    /// What the demo compares.
    pub(super) fn counts(&self) -> Counts {
        let Self { acked, published, retried, dead_lettered, trapped, timed_out, .. } = *self;
        Counts { acked, published, retried, dead_lettered, trapped, timed_out }
    }

    /// Events that are not settled yet.
    pub(super) fn open(&self) -> u64 {
        let open = |sub: &Subscription| sub.backlog_events.max(sub.ready + sub.in_flight) + sub.parked;
        self.subscriptions.iter().map(open).sum()
    }
}

impl Report {
    /// The service of that name.
    pub(super) fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Whether nothing waits anywhere.
    pub(super) fn is_quiet(&self) -> bool {
        self.services.iter().all(|service| service.open() == 0)
    }
}

/// `busway kv list --json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Entries {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
struct Entry {
    key: String,
    data: Option<serde_json::Value>,
}

impl Entries {
    /// The entries that are integers.
    pub(super) fn integers(&self) -> BTreeMap<String, i64> {
        let integer = |entry: &Entry| Some((entry.key.clone(), entry.data.as_ref()?.as_i64()?));
        self.entries.iter().filter_map(integer).collect()
    }
}
