//! The `[bridges.NAME]` tables.
//!
//! Invariants: of a bridge one side is the bus and the other a broker; bridges that would copy the same messages in a circle,
//! as far as their addresses show it, are refused; a line with a login in it is in no message.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use busway_bridge::{Direction, Place};
use busway_types::{Ordering, Pattern, RetryPolicy, ServiceName, Topic};

use super::config::ServiceConfig;
use super::reader::{Document, Table};
use super::service;

/// Keys of `[bridges.NAME]`.
const KEYS: &[&str] = &["from", "to", "enabled", "key-header", "prefetch", "deduplicate", "ordering", "retry"];
/// Bridges of one node at most.
const MOST: usize = 64;
/// What the names of bridges have before them where services have theirs.
const PREFIX: &str = "bridge.";
const SIDES: &str =
    "write \"topic NAME\", or an address such as \"amqp://HOST/queue/NAME\" or \"nats://HOST/subject/NAME\"";

/// A link between the bus and a queue, exchange, subject or stream of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Its name.
    pub name: String,
    /// What it is called where services have their name: `bridge.NAME`.
    pub service: ServiceName,
    /// Whether it runs at all.
    pub enabled: bool,
    /// The header with the key.
    pub key_header: String,
    /// Which way it copies, and how.
    pub way: Way,
}

/// Which way a bridge copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a broker onto the bus.
    In {
        /// Where messages come from.
        from: Place,
        /// Where they are published.
        topic: Topic,
        /// How many are held that are not yet acknowledged.
        prefetch: usize,
        /// Whether the id that a message names is that of its event.
        deduplicate: bool,
    },
    /// From the bus to a broker.
    Out {
        /// What is given out.
        topics: Vec<Pattern>,
        /// Where it goes.
        to: Place,
        /// Which events wait for each other.
        ordering: Ordering,
        /// How often and when an event is tried again that the broker does not take.
        retry: RetryPolicy,
    },
}

impl BridgeConfig {
    /// Both sides, for people; without what is secret.
    pub fn sides(&self) -> (String, String) {
        match &self.way {
            Way::In { from, topic, .. } => (from.to_string(), format!("topic {topic}")),
            Way::Out { topics, to, .. } => {
                let topics: Vec<&str> = topics.iter().map(Pattern::as_str).collect();
                (format!("topic {}", topics.join(" ")), to.to_string())
            }
        }
    }

    /// Whether it takes messages from a broker.
    pub fn comes_in(&self) -> bool {
        matches!(self.way, Way::In { .. })
    }

    /// Whether what this bridge copies is copied by `next` again.
    fn feeds(&self, next: &Self) -> bool {
        match (&self.way, &next.way) {
            (Way::In { topic, .. }, Way::Out { topics, .. }) => topics.iter().any(|pattern| pattern.matches(topic)),
            (Way::Out { to, .. }, Way::In { from, .. }) => to.feeds(from),
            _ => false,
        }
    }
}

/// The bridges of the manifest, whose folder is `base`.
pub(super) fn read(
    root: &Table<'_>,
    services: &BTreeMap<ServiceName, ServiceConfig>,
    base: &Path,
) -> Vec<BridgeConfig> {
    let mut bridges: Vec<(BridgeConfig, Range<usize>)> = Vec::new();
    // The names are the operator's, so that no key of this table is unknown.
    let Some(names) = root.names("bridges") else { return Vec::new() };
    for (name, span, value) in names.entries() {
        let document = root.document;
        let Some(table) = value.get_ref().as_table() else {
            let help = format!("write [bridges.{name}] and its settings below");
            document.note(value.span(), format!("`{name}` in [bridges] is not a table"), Some(help));
            continue;
        };
        if bridges.len() == MOST {
            document.note(span, format!("more than {MOST} bridges"), None);
            break;
        }
        let table = Table::new(document, format!("[bridges.{name}]"), value.span(), table, KEYS);
        let Some(service) = service_name(name, &span, document) else { continue };
        if services.contains_key(&service) {
            let problem = format!("a service is called `{service}`, as the subscription of this bridge is to be");
            document.note(span.clone(), problem, Some("give one of them another name".to_owned()));
        }
        bridges.extend(bridge(&table, name, service, base).map(|bridge| (bridge, span)));
    }
    refuse_circles(root.document, &bridges);
    bridges.into_iter().map(|(bridge, _)| bridge).collect()
}

fn service_name(name: &str, span: &Range<usize>, document: &Document<'_>) -> Option<ServiceName> {
    let parsed = format!("{PREFIX}{name}").parse();
    if parsed.is_err() || name.is_empty() {
        let most = ServiceName::MAX_BYTES - PREFIX.len();
        let shown: String = name.chars().take(80).collect();
        let problem =
            format!("`{shown}` is not the name of a bridge; use 1 to {most} letters, digits, `-`, `_` or `.`");
        document.note(span.clone(), problem, None);
        return None;
    }
    parsed.ok()
}

/// One side of a bridge.
enum Side {
    Topics(Vec<String>),
    Place(Box<Place>),
}

fn side(table: &Table<'_>, key: &str, direction: Direction, base: &Path) -> Option<Side> {
    let Some(text) = table.string(key) else {
        if !table.has(key) {
            let problem = format!("{} needs `{key}`", table.name);
            table.document.note(table.span.clone(), problem, Some(SIDES.to_owned()));
        }
        return None;
    };
    if text.contains('@') {
        // There is a login in it.
        table.document.hide(&table.place(key));
    }
    if let Some(topics) = text.strip_prefix("topic ") {
        return Some(Side::Topics(topics.split_whitespace().map(str::to_owned).collect()));
    }
    if !Place::is_meant(text) {
        let problem = format!("`{key}` of {} is neither a topic nor the address of a place", table.name);
        table.document.note(table.place(key), problem, Some(SIDES.to_owned()));
        return None;
    }
    let place = Place::parse(text, direction).map_err(|error| table.note(key, error)).ok()?;
    Some(Side::Place(Box::new(place.relative_to(base))))
}

fn bridge(table: &Table<'_>, name: &str, service: ServiceName, base: &Path) -> Option<BridgeConfig> {
    let from = side(table, "from", Direction::From, base);
    let to = side(table, "to", Direction::To, base);
    let enabled = table.boolean("enabled").unwrap_or(true);
    let key_header = key_header(table);
    let way = match (from?, to?) {
        (Side::Place(from), Side::Topics(topics)) => inward(table, *from, &topics),
        (Side::Topics(topics), Side::Place(to)) => outward(table, &topics, *to),
        (Side::Topics(_), Side::Topics(_)) | (Side::Place(_), Side::Place(_)) => {
            let problem =
                format!("{} connects the bus with a broker: one side is a topic, the other an address", table.name);
            table.document.note(table.place("to"), problem, Some(SIDES.to_owned()));
            None
        }
    };
    Some(BridgeConfig { name: name.to_owned(), service, enabled, key_header, way: way? })
}

fn key_header(table: &Table<'_>) -> String {
    let given = table.string("key-header");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match given {
        Some(name) if (1..=128).contains(&name.len()) && name.chars().all(fits) => name.to_owned(),
        Some(_) => {
            table.note("key-header", "the name of a header has 1 to 128 letters, digits, `-`, `_` and `.`");
            busway_bridge::KEY_HEADER.to_owned()
        }
        None => busway_bridge::KEY_HEADER.to_owned(),
    }
}

fn inward(table: &Table<'_>, from: Place, topics: &[String]) -> Option<Way> {
    only_for(table, &["ordering", "retry"], "that gives events to a broker");
    let prefetch = table.integer("prefetch", 1..=1_000).unwrap_or(256) as usize;
    let deduplicate = table.boolean("deduplicate").unwrap_or(true);
    let [topic] = topics else {
        table.note("to", "`to` is one topic, such as \"topic orders.new\"");
        return None;
    };
    let topic = topic.parse().map_err(|error| table.note("to", error)).ok()?;
    Some(Way::In { from, topic, prefetch, deduplicate })
}

fn outward(table: &Table<'_>, topics: &[String], to: Place) -> Option<Way> {
    only_for(table, &["prefetch", "deduplicate"], "that takes messages from a broker");
    let orderings = [("strict", Ordering::Strict), ("key", Ordering::Key), ("none", Ordering::None)];
    let ordering = table.word("ordering", &orderings).unwrap_or_default();
    let retry = service::retry(table);
    let parse = |topic: &String| topic.parse().map_err(|error| table.note("from", error)).ok();
    let topics: Vec<Pattern> = topics.iter().filter_map(parse).collect();
    if topics.is_empty() {
        table.note("from", "`from` says no topic; write \"topic NAME\", or \"topic PATTERN PATTERN\" for several");
        return None;
    }
    Some(Way::Out { topics, to, ordering, retry })
}

fn only_for(table: &Table<'_>, keys: &[&str], which: &str) {
    for key in keys.iter().filter(|key| table.has(key)) {
        table.document.note(table.key_place(key), format!("`{key}` is only for a bridge {which}"), None);
    }
}

/// Notes bridges that copy the same messages in a circle.
fn refuse_circles(document: &Document<'_>, bridges: &[(BridgeConfig, Range<usize>)]) {
    let enabled: Vec<&(BridgeConfig, Range<usize>)> = bridges.iter().filter(|(bridge, _)| bridge.enabled).collect();
    for (first, (bridge, span)) in enabled.iter().enumerate() {
        // Each circle is told once, at the first of its bridges.
        let later: Vec<&BridgeConfig> = enabled[first..].iter().map(|(bridge, _)| bridge).collect();
        if let Some(path) = circle(&later) {
            let names: Vec<String> = path.iter().map(|at| format!("`{}`", later[*at].name)).collect();
            let problem = format!(
                "messages would go in a circle for ever: what {} copies is copied again by {}",
                names[0],
                names[1..].iter().chain(&names[..1]).map(String::as_str).collect::<Vec<_>>().join(", then by ")
            );
            let help = format!("let `{}`, or one of the others, use another topic or another place", bridge.name);
            document.note(span.clone(), problem, Some(help));
        }
    }
}

/// A way from the first bridge back to it, without those before it.
fn circle(bridges: &[&BridgeConfig]) -> Option<Vec<usize>> {
    let mut came_from: Vec<Option<usize>> = vec![None; bridges.len()];
    let mut open = vec![0];
    while let Some(at) = open.pop() {
        for next in (0..bridges.len()).filter(|next| bridges[at].feeds(bridges[*next])) {
            if next == 0 {
                let before = |at: &usize| (*at != 0).then(|| came_from[*at]).flatten();
                let mut path: Vec<usize> = std::iter::successors(Some(at), before).collect();
                path.reverse();
                return Some(path);
            }
            if came_from[next].is_none() {
                came_from[next] = Some(at);
                open.push(next);
            }
        }
    }
    None
}

#[cfg(test)]
#[path = "bridges_tests.rs"]
mod tests;
