//! `[gateway.events]`.

use busway_types::Pattern;

/// Which events everybody may publish and see while no authentication is configured. With it scopes decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsConfig {
    /// The topics. When nothing is said it is every topic where only this machine can reach the gateway, and none where
    /// others can.
    pub topics: Option<Vec<Pattern>>,
}
