//! `[gateway.limits]`.

use std::time::Duration;

use busway_gateway::edge::EdgeLimits;

use super::super::reader::Table;

/// Keys of `[gateway.limits]`.
const KEYS: &[&str] = &[
    "connections",
    "connections-per-client",
    "requests-at-once",
    "header-bytes",
    "headers",
    "body-bytes",
    "buffered-bytes",
    "handshake-time",
    "header-time",
    "idle-time",
    "body-time",
    "write-time",
    "request-time",
    "streams",
    "drain-delay",
    "drain-time",
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn count(table: &Table<'_>, key: &str, most: u64, field: &mut usize) {
    if let Some(value) = table.integer(key, 1..=most) {
        *field = value as usize;
    }
}

fn bytes(table: &Table<'_>, key: &str, least: u64, most: u64, field: &mut usize) {
    if let Some(value) = table.bytes(key, least..=most) {
        *field = value as usize;
    }
}

fn time(table: &Table<'_>, key: &str, least: Duration, most: Duration, field: &mut Duration) {
    if let Some(value) = table.duration(key, least..=most) {
        *field = value;
    }
}

pub(super) fn read(gateway: &Table<'_>) -> EdgeLimits {
    let mut limits = EdgeLimits::default();
    let Some(table) = gateway.table("limits", "[gateway.limits]".to_owned(), KEYS) else { return limits };
    let l = &mut limits;
    let (short, hour) = (Duration::from_millis(10), Duration::from_hours(1));
    count(&table, "connections", 1_000_000, &mut l.connections);
    count(&table, "connections-per-client", 1_000_000, &mut l.connections_per_client);
    count(&table, "requests-at-once", 1_000_000, &mut l.requests_at_once);
    bytes(&table, "header-bytes", 8 * KIB, MIB, &mut l.header_bytes);
    count(&table, "headers", 1_000, &mut l.headers);
    bytes(&table, "body-bytes", KIB, 4 * GIB, &mut l.body_bytes);
    bytes(&table, "buffered-bytes", MIB, 256 * GIB, &mut l.buffered_bytes);
    time(&table, "handshake-time", short, hour, &mut l.handshake_time);
    time(&table, "header-time", short, hour, &mut l.header_time);
    time(&table, "idle-time", short, hour, &mut l.idle_time);
    time(&table, "body-time", short, hour, &mut l.body_time);
    time(&table, "write-time", short, hour, &mut l.write_time);
    time(&table, "request-time", short, hour, &mut l.request_time);
    if let Some(streams) = table.integer("streams", 1..=10_000) {
        l.streams = streams as u32;
    }
    time(&table, "drain-delay", Duration::ZERO, hour, &mut l.drain_delay);
    time(&table, "drain-time", Duration::ZERO, hour, &mut l.drain_time);
    limits
}
