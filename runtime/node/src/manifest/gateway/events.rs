//! `[gateway.events]`: what everybody may publish and see while nobody is asked who they are.

use busway_gateway::edge::EventsConfig;

use super::super::reader::Table;

/// Keys of `[gateway.events]`.
const KEYS: &[&str] = &["topics"];

/// The table `events` of `[gateway]`.
pub(super) fn read(gateway: &Table<'_>) -> EventsConfig {
    let Some(table) = gateway.table("events", "[gateway.events]".to_owned(), KEYS) else {
        return EventsConfig::default();
    };
    if table.has("topics") && gateway.has("auth") {
        let problem = "`topics` is for a gateway without [gateway.auth]; with it `publish:` and `subscribe:` of `scopes` \
                       say who may publish and see what";
        table.note("topics", problem);
    }
    EventsConfig { topics: table.list("topics") }
}
