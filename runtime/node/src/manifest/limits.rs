//! The `[limits]` table.

use std::time::Duration;

use busway_types::Limits;

use super::reader::Table;
use super::units::format_bytes;

pub(super) const KEYS: &[&str] = &[
    "event-bytes",
    "key-bytes",
    "headers",
    "batch-events",
    "outbox-events",
    "outbox-bytes",
    "hops",
    "inflight-bytes",
    "publish-wait",
    "backlog-bytes",
    "window-events",
    "window-bytes",
    "parked",
    "dead-letters",
    "delayed-events",
    "delayed-bytes",
    "chunk-events",
    "recent-bytes",
    "memory-bytes",
    "dedup-window",
    "dedup-ids",
    "disk-bytes",
    "kv-key-bytes",
    "kv-value-bytes",
    "kv-bytes",
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn bytes(table: &Table<'_>, key: &str, least: u64, most: u64, field: &mut usize) {
    if let Some(value) = table.bytes(key, least..=most) {
        *field = value as usize;
    }
}

fn count(table: &Table<'_>, key: &str, most: u64, field: &mut usize) {
    if let Some(value) = table.integer(key, 1..=most) {
        *field = value as usize;
    }
}

/// The limits; what the table does not say stays at its default.
pub(super) fn read(table: &Table<'_>) -> Limits {
    let mut limits = Limits::default();
    let l = &mut limits;
    bytes(table, "event-bytes", 64, 64 * MIB, &mut l.event_bytes);
    bytes(table, "key-bytes", 16, 4 * KIB, &mut l.key_bytes);
    count(table, "headers", 1_000, &mut l.headers);
    count(table, "batch-events", 100_000, &mut l.batch_events);
    count(table, "outbox-events", 100_000, &mut l.outbox_events);
    bytes(table, "outbox-bytes", KIB, GIB, &mut l.outbox_bytes);
    if let Some(hops) = table.integer("hops", 1..=255) {
        l.hops = hops as u8;
    }
    bytes(table, "inflight-bytes", KIB, 16 * GIB, &mut l.inflight_bytes);
    if let Some(wait) = table.duration("publish-wait", Duration::ZERO..=Duration::from_mins(1)) {
        l.publish_wait = wait;
    }
    bytes(table, "backlog-bytes", KIB, 64 * GIB, &mut l.backlog_bytes);
    count(table, "window-events", 1_000_000, &mut l.window_events);
    bytes(table, "window-bytes", KIB, 16 * GIB, &mut l.window_bytes);
    count(table, "parked", 10_000_000, &mut l.parked);
    count(table, "dead-letters", 10_000_000, &mut l.dead_letters);
    count(table, "delayed-events", 10_000_000, &mut l.delayed_events);
    bytes(table, "delayed-bytes", KIB, 64 * GIB, &mut l.delayed_bytes);
    count(table, "chunk-events", 65_536, &mut l.chunk_events);
    bytes(table, "recent-bytes", KIB, 64 * GIB, &mut l.recent_bytes);
    bytes(table, "memory-bytes", MIB, 1_024 * GIB, &mut l.memory_bytes);
    if let Some(window) = table.duration("dedup-window", Duration::ZERO..=Duration::from_hours(7 * 24)) {
        l.dedup_window = window;
    }
    if let Some(ids) = table.integer("dedup-ids", 1_000..=100_000_000) {
        l.dedup_ids = ids as usize;
    }
    if let Some(disk) = table.bytes("disk-bytes", 256 * MIB..=1_024 * 1_024 * GIB) {
        l.disk_bytes = disk;
    }
    bytes(table, "kv-key-bytes", 16, 4 * KIB, &mut l.kv_key_bytes);
    bytes(table, "kv-value-bytes", 64, 64 * MIB, &mut l.kv_value_bytes);
    bytes(table, "kv-bytes", KIB, 64 * GIB, &mut l.kv_bytes);
    fitting(table, &limits);
    limits
}

/// What has to hold between limits, or some event could never pass.
fn fitting(table: &Table<'_>, limits: &Limits) {
    let event = limits.event_bytes;
    let holders = [
        ("outbox-bytes", limits.outbox_bytes),
        ("inflight-bytes", limits.inflight_bytes),
        ("backlog-bytes", limits.backlog_bytes),
        ("window-bytes", limits.window_bytes),
        ("delayed-bytes", limits.delayed_bytes),
    ];
    for (key, holds) in holders {
        if holds < event {
            let named = if table.has(key) { key } else { "event-bytes" };
            table.note(
                named,
                format!(
                    "`{key}` ({}) is less than `event-bytes` ({}), so that the largest event would never pass",
                    format_bytes(holds as u64),
                    format_bytes(event as u64)
                ),
            );
        }
    }
}
