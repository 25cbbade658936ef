//! `[gateway.cors]`.

use std::time::Duration;

use busway_gateway::edge::{CorsConfig, Origins};
use http::HeaderValue;

use super::super::reader::Table;

/// Keys of `[gateway.cors]`.
const KEYS: &[&str] = &["origins", "methods", "headers", "expose", "credentials", "max-age"];

pub(super) fn read(gateway: &Table<'_>) -> Option<CorsConfig> {
    let table = gateway.table("cors", "[gateway.cors]".to_owned(), KEYS)?;
    let Some(origins) = table.list::<String>("origins") else {
        if !table.has("origins") {
            let help = Some("such as origins = [\"https://shop.example\"], or [\"*\"] for every page".to_owned());
            table.document.note(table.span.clone(), "[gateway.cors] needs `origins`".to_owned(), help);
        }
        return None;
    };
    let mut cors = CorsConfig::new(read_origins(&table, &origins));
    if let Some(methods) = table.list("methods") {
        cors.methods = methods;
    }
    if let Some(headers) = table.list("headers") {
        cors.headers = headers;
    }
    if let Some(expose) = table.list("expose") {
        cors.expose = expose;
    }
    cors.credentials = table.boolean("credentials").unwrap_or(false);
    if cors.credentials && cors.origins == Origins::Any {
        table.note(
            "credentials",
            "`credentials` with every origin would let any page act as its visitor; list the origins",
        );
    }
    if let Some(age) = table.duration("max-age", Duration::ZERO..=Duration::from_hours(24)) {
        cors.max_age = age;
    }
    Some(cors)
}

fn read_origins(table: &Table<'_>, origins: &[String]) -> Origins {
    if origins.iter().any(|origin| origin == "*") {
        if origins.len() > 1 {
            table.note("origins", "`*` is every origin; list it alone");
        }
        return Origins::Any;
    }
    let mut listed = Vec::new();
    for origin in origins {
        // A browser sends scheme, host and port, in lower case, and nothing after it.
        let (scheme, host) = origin.split_once("://").unwrap_or_default();
        let is_plain = host.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/?#@,".contains(&b));
        match HeaderValue::from_str(origin) {
            Ok(value) if matches!(scheme, "http" | "https") && !host.is_empty() && is_plain => listed.push(value),
            _ => {
                let shown: String = origin.chars().take(80).collect();
                table.note(
                    "origins",
                    format!("`{shown}` is no origin; write scheme and host, such as https://shop.example"),
                );
            }
        }
    }
    Origins::Listed(listed)
}
