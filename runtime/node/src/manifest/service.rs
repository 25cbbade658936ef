//! The `[services.NAME]` tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use busway_types::{Ordering, RetryPolicy, ServiceName, StartAt, Topic};

use super::config::{FileGrant, Instances, Origin, RunPolicy, ServiceConfig};
use super::http;
use super::reader::Table;
use super::schedule::Schedule;

pub(super) const KEYS: &[&str] = &[
    "component",
    "enabled",
    "subscribe",
    "publish",
    "concurrency",
    "ordering",
    "retry",
    "timeout",
    "memory",
    "instances",
    "key-value",
    "env",
    "files",
    "network",
    "http",
    "config",
    "run",
    "schedule",
    "emit",
    "from",
    "self",
];

const RETRY_KEYS: &[&str] = &["attempts", "backoff", "backoff-max", "jitter"];
const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

/// The service; a key that cannot be used is noted and stays at its default.
pub(super) fn read(table: &Table<'_>, name: ServiceName, manifest: &Path, base: &Path) -> ServiceConfig {
    let component = component(table, &name, base);
    let mut service = ServiceConfig::default_for(name, component);
    service.origin = Origin::Manifest(manifest.to_owned());
    service.subscribe = table.list("subscribe");
    if let Some(publish) = table.list("publish") {
        service.publish = publish;
        service.publish_is_given = true;
    }
    if let Some(concurrency) = table.integer("concurrency", 1..=64) {
        service.concurrency = concurrency as usize;
    }
    let orderings = [("strict", Ordering::Strict), ("key", Ordering::Key), ("none", Ordering::None)];
    set(&mut service.ordering, table.word("ordering", &orderings));
    service.retry = retry(table);
    service.task_timeout = table.duration("timeout", MS..=HOUR);
    set(&mut service.timeout, service.task_timeout);
    if let Some(memory) = table.bytes("memory", 1 << 20..=4 << 30) {
        service.memory_bytes = memory as usize;
    }
    set(
        &mut service.instances,
        table.word("instances", &[("reused", Instances::Reused), ("per-event", Instances::PerEvent)]),
    );
    set(&mut service.key_value, table.boolean("key-value"));
    set(&mut service.enabled, table.boolean("enabled"));
    set(&mut service.own_events, table.boolean("self"));
    service.env = table.strings("env");
    service.config = table.strings("config");
    service.files = table.tables("files", &["host", "guest", "write"]).iter().filter_map(|f| file(f, base)).collect();
    service.network = table.list("network").unwrap_or_default();
    if let Some(http) = table.table("http", format!("`http` of {}", table.name), http::KEYS) {
        service.http = http::read(&http);
    }
    let runs = [("once", RunPolicy::Once), ("always", RunPolicy::Always), ("never", RunPolicy::Never)];
    set(&mut service.run, table.word("run", &runs));
    set(&mut service.start, start(table));
    service.schedule = schedule(table);
    service
}

/// Where a new subscription begins.
fn start(table: &Table<'_>) -> Option<StartAt> {
    match table.string("from")? {
        "now" => Some(StartAt::Now),
        "start" => Some(StartAt::Start),
        text => {
            let time = busway_gateway::api::parse_rfc3339(text);
            if time.is_none() {
                let wanted = "`from` is \"now\", \"start\" or a time such as \"2026-01-31T09:05:00Z\"";
                table.note("from", format!("`{}` is no place to start from; {wanted}", text.escape_debug()));
            }
            time.map(StartAt::Time)
        }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn component(table: &Table<'_>, name: &ServiceName, base: &Path) -> PathBuf {
    let Some(text) = table.string("component") else { return base.join(format!("{name}.wasm")) };
    if text.starts_with("oci://") {
        table.note("component", "components from a registry (oci://) are not available in this version; give a path");
    } else if text.is_empty() {
        table.note("component", "`component` is empty; give the path of a .wasm file");
    }
    base.join(text)
}

/// The `retry` of a table.
pub(super) fn retry(table: &Table<'_>) -> RetryPolicy {
    let mut retry = RetryPolicy::default();
    let name = format!("`retry` of {}", table.name);
    let Some(table) = table.table("retry", name, RETRY_KEYS) else { return retry };
    if let Some(attempts) = table.integer("attempts", 1..=1_000) {
        retry.attempts = attempts as u32;
    }
    set(&mut retry.backoff, table.duration("backoff", MS..=24 * HOUR));
    match table.duration("backoff-max", MS..=24 * 7 * HOUR) {
        Some(most) if most < retry.backoff => {
            table.note("backoff-max", "`backoff-max` is shorter than `backoff`, the first wait");
        }
        Some(most) => retry.backoff_max = most,
        None => retry.backoff_max = retry.backoff_max.max(retry.backoff),
    }
    if let Some(jitter) = table.integer("jitter", 0..=100) {
        retry.jitter_percent = jitter as u8;
    }
    retry
}

fn file(table: &Table<'_>, base: &Path) -> Option<FileGrant> {
    let (host, guest) = (table.string("host"), table.string("guest"));
    for (key, value) in [("host", host), ("guest", guest)] {
        if value.is_none() && !table.has(key) {
            table.note(key, format!("`{key}` is missing; write {{ host = \"data\", guest = \"/data\" }}"));
        }
    }
    let (host, guest) = (host?, guest?);
    let write = table.boolean("write").unwrap_or(false);
    if !guest.starts_with('/') || guest.split('/').any(|part| part == "..") {
        table.note("guest", "the guest's path has to be absolute, such as \"/data\"");
        return None;
    }
    Some(FileGrant { host: base.join(host), guest: guest.to_owned(), write })
}

fn schedule(table: &Table<'_>) -> Option<Schedule> {
    let emit: Option<Topic> = table.parsed("emit");
    let pattern = table.string("schedule");
    match (pattern, table.has("emit")) {
        (Some(_), false) => {
            table.note("schedule", "`schedule` needs `emit = \"TOPIC\"`: the event to publish at those times");
            None
        }
        (None, true) if !table.has("schedule") => {
            table.note("emit", "`emit` needs `schedule = \"CRON\"`: when to publish, such as \"*/5 * * * *\"");
            None
        }
        (Some(pattern), true) => {
            let made = Schedule::new(pattern, emit?);
            made.map_err(|reason| {
                let help =
                    "five fields in UTC: minute, hour, day of month, month, day of week; such as \"0 6 * * MON\"";
                let shown: String = pattern.chars().take(60).collect();
                let problem = format!("`{shown}` is not a cron pattern: {reason}");
                table.document.note(table.place("schedule"), problem, Some(help.to_owned()));
            })
            .ok()
        }
        (None, _) => None,
    }
}
