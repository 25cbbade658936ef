//! The `[gateway]` table.
//!
//! Each sub-table has a file here, which fills in the settings of one part of the gateway. To add one: its key in [`KEYS`],
//! its file, a line in [`read`].

mod auth;
#[cfg(test)]
mod auth_tests;
mod cors;
mod events;
mod limits;
mod live;
mod rate;
mod routes;
mod tls;

use std::net::SocketAddr;
use std::path::Path;

use busway_gateway::edge::EdgeConfig;

use super::reader::Table;

/// Keys of `[gateway]`.
const KEYS: &[&str] = &["listen", "tls", "limits", "cors", "auth", "events", "rate", "live", "routes"];

/// What the manifest says about the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where it listens, when the manifest says so. Without an address there is no gateway.
    pub listen: Option<SocketAddr>,
    /// Everything else.
    pub edge: EdgeConfig,
}

/// The settings of the gateway, with files taken from `base`; what the manifest does not say stays at its default.
pub(super) fn read(root: &Table<'_>, base: &Path) -> GatewayConfig {
    let Some(table) = root.table("gateway", "[gateway]".to_owned(), KEYS) else { return GatewayConfig::default() };
    let edge = EdgeConfig {
        tls: tls::read(&table, base),
        cors: cors::read(&table),
        limits: limits::read(&table),
        auth: auth::read(&table, base),
        events: events::read(&table),
        rate: rate::read(&table),
        live: live::read(&table),
        routes: routes::read(&table, base),
    };
    if let Err(error) = edge.check() {
        table.note("routes", error);
    }
    GatewayConfig { listen: table.parsed("listen"), edge }
}

#[cfg(test)]
mod tests;
