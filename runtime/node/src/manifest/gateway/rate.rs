//! `[gateway.rate]`: how often somebody may ask.

use busway_gateway::edge::rate::{Networks, Rate, RateConfig};

use super::super::reader::Table;

/// Keys of `[gateway.rate]`.
const KEYS: &[&str] = &["requests", "burst", "failed", "clients", "trusted-proxies"];

/// The table `rate` of `[gateway]`; what it does not say stays at its default.
pub(in crate::manifest) fn read(gateway: &Table<'_>) -> RateConfig {
    let mut config = RateConfig::default();
    let Some(table) = gateway.table("rate", "[gateway.rate]".to_owned(), KEYS) else { return config };
    if let Some(requests) = read_rate(&table, "requests") {
        config.requests = requests;
    } else if let Some(burst) = table.integer("burst", 1..=u64::from(Rate::MOST)) {
        config.requests = config.requests.with_burst(burst as u32);
    }
    if let Some(failed) = table.parsed::<Rate>("failed") {
        // As many at once as in the whole time: somebody who mistypes does so several times in a row.
        config.failed = failed.with_burst(failed.count());
    }
    if let Some(clients) = table.integer("clients", 1_000..=10_000_000) {
        config.clients = clients as usize;
    }
    if let Some(networks) = table.list("trusted-proxies") {
        config.trusted_proxies = Networks(networks);
    }
    config
}

/// A rate under `key`, with `burst` beside it, of a table or of a route.
pub(in crate::manifest) fn read_rate(table: &Table<'_>, key: &str) -> Option<Rate> {
    let burst = table.integer("burst", 1..=u64::from(Rate::MOST));
    let rate: Rate = table.parsed(key)?;
    Some(burst.map_or(rate, |burst| rate.with_burst(burst as u32)))
}
