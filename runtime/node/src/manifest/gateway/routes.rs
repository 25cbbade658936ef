//! `[[gateway.routes]]`.
//!
//! To add a kind of target: its key in [`TARGETS`], and its reading in [`target`].

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use busway_gateway::edge::{RequestTarget, RouteConfig, Target};
use http::StatusCode;

use super::super::reader::Table;
use super::live;

/// Keys of `[[gateway.routes]]`.
const KEYS: &[&str] = &[
    "name", "path", "method", "auth", "rate", "burst", "timeout", "request", "body", "errors", "service", "events",
    "socketio", "file",
];

/// The keys of which a route has exactly one.
const TARGETS: &[&str] = &["request", "service", "events", "socketio", "file"];

/// The most routes; each is looked at when the manifest is read and when a document of them is made.
const MOST: usize = 10_000;

pub(super) fn read(gateway: &Table<'_>, base: &Path) -> Vec<RouteConfig> {
    if !gateway.has("routes") {
        return Vec::new();
    }
    let tables = gateway.tables("routes", KEYS);
    if tables.len() > MOST {
        gateway.note("routes", format!("more than {MOST} routes"));
        return Vec::new();
    }
    tables.iter().filter_map(|table| route(table, base)).collect()
}

fn route(table: &Table<'_>, base: &Path) -> Option<RouteConfig> {
    let path = table.string("path");
    if !table.has("path") {
        let help = Some("such as path = \"/orders/{id}\"".to_owned());
        table.document.note(table.span.clone(), "a route needs a `path`".to_owned(), help);
    }
    let name = table.string("name").or(path);
    let method = table.parsed("method");
    let is_open = table.word("auth", &[("none", true)]).unwrap_or(false);
    let timeout = table.duration("timeout", Duration::from_millis(1)..=Duration::from_hours(1));
    let rate = super::rate::read_rate(table, "rate");
    let target = target(table, base);
    Some(RouteConfig { name: name?.into(), path: path?.into(), method, is_open, rate, timeout, target: target? })
}

fn target(table: &Table<'_>, base: &Path) -> Option<Target> {
    let given: Vec<&str> = TARGETS.iter().copied().filter(|key| table.has(key)).collect();
    if given.len() != 1 {
        let problem = match given.len() {
            0 => "a route leads nowhere".to_owned(),
            _ => format!("a route leads to one thing, not to {}", given.join(" and ")),
        };
        let help = Some(format!("give it one of: {}", TARGETS.join(", ")));
        table.document.note(table.span.clone(), problem, help);
        return None;
    }
    if given != ["request"] {
        for key in ["body", "errors"].into_iter().filter(|key| table.has(key)) {
            table.document.note(table.key_place(key), format!("`{key}` goes with `request` alone"), None);
        }
    }
    match given[..] {
        ["request"] => request(table),
        ["events"] => live::events(table),
        ["socketio"] => live::socketio(table),
        ["file"] => live::file(table, base),
        _ => table.parsed("service").map(Target::Service),
    }
}

/// `request = "shop:orders/quotes.quote"`, and which statuses its errors have.
fn request(table: &Table<'_>) -> Option<Target> {
    let function = table.parsed("request");
    let body = table.string("body").map(Into::into);
    let mut errors = BTreeMap::new();
    if let Some(given) = table.names("errors") {
        for (case, span, _) in given.entries() {
            let Some(status) = given.integer(case, 400..=599) else { continue };
            match StatusCode::from_u16(status as u16) {
                Ok(status) => drop(errors.insert(case.into(), status)),
                Err(error) => table.document.note(span, error.to_string(), None),
            }
        }
    }
    Some(Target::Request(RequestTarget { function: function?, body, errors }))
}
