//! What each engine that this build has guarantees, and who sees to it.
//!
//! Role: the table of ARCHITECTURE ("Guarantees"), for `busway engine show`; a test holds the two together.

/// The engines of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// `memory:`
    Memory,
    /// `file:DIR`
    File,
    /// `nats://HOST`
    Nats,
    /// `amqp://HOST`
    Amqp,
}

/// One row of the table for one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantee {
    /// What is guaranteed.
    pub what: &'static str,
    /// `native`: whatever keeps the events does it. `host`: busway does it. `no` or `not yet`: not available. Else when.
    pub how: &'static str,
}

/// What is guaranteed, by `memory:`, `file:`, `nats:` and `amqp:`.
const ROWS: [(&str, [&str; 4]); 15] = [
    ("acknowledged survives the process", ["no", "native", "native", "native"]),
    (
        "acknowledged survives a power cut of the machine",
        ["no", "native", "with replicas, or `sync_interval: always`", "with replicas"],
    ),
    ("acknowledgement, publications and key-value in one commit", ["host", "host", "host", "host"]),
    ("order by key, strict order", ["host", "host", "host", "host"]),
    ("back-off, delay, expiry, dead letters with reason and attempts", ["host", "host", "host", "host"]),
    ("fan-out, competing consumers, payloads and headers as published", ["host", "host", "host", "host"]),
    ("backpressure: publishers wait, then are told `overloaded`", ["host", "host", "host", "host"]),
    ("deduplication by topic and id, across owners", ["host", "host", "host", "host"]),
    ("key-value with conflicts found at commit", ["host", "host", "host", "host"]),
    ("replay, start at a time, trace", ["recent events", "host", "host", "host"]),
    ("several nodes, of which one owns the bus and another takes over", ["no", "no", "native", "native"]),
    ("the work of one bus spread over nodes", ["no", "no", "host", "host"]),
    ("key-value, parked and delayed events larger than memory", ["no", "host", "no", "no"]),
    ("goes on by itself when the broker was restarted or away", ["no broker", "no broker", "host", "host"]),
    ("a stale owner changes nothing", ["one process", "file lock", "native", "host (reads back)"]),
];

/// What an engine guarantees.
pub fn guarantees(kind: EngineKind) -> impl Iterator<Item = Guarantee> {
    ROWS.iter().map(move |(what, [memory, file, nats, amqp])| {
        let how = match kind {
            EngineKind::Memory => memory,
            EngineKind::File => file,
            EngineKind::Nats => nats,
            EngineKind::Amqp => amqp,
        };
        Guarantee { what, how }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_of_the_documents() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md")).expect("read");
        let (_, table) = text.split_once("### Guarantees\n").expect("the section");
        let rows = table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').take(5).map(|cell| cell.trim().to_owned()).collect()
        };
        let documented: Vec<_> = rows.skip(2).map(cells).collect();
        let built: Vec<Vec<String>> = ROWS
            .iter()
            .map(|(what, how)| std::iter::once(*what).chain(how.iter().copied()).map(ToOwned::to_owned).collect())
            .collect();
        assert_eq!(documented, built);
    }
}
