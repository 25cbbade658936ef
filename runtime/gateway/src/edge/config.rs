//! Everything that can be set about the gateway.
//!
//! Role: plain values with safe defaults; the node fills them in from `[gateway]` of the manifest. Each part of the gateway
//! keeps its own settings beside its code and has one field here. Invariant: a configuration can be exchanged while
//! requests are served ([`super::Gateway::reload`]).

use super::auth::AuthConfig;
use super::cors::CorsConfig;
use super::events::EventsConfig;
use super::limits::EdgeLimits;
use super::live::LiveConfig;
use super::rate::RateConfig;
use super::router;
use super::routes::RouteConfig;
use super::tls::{TlsConfig, TlsError};

/// The settings of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeConfig {
    /// `[gateway.tls]`; without it connections are not encrypted.
    pub tls: Option<TlsConfig>,
    /// `[gateway.cors]`; without it no page of another origin may use the gateway.
    pub cors: Option<CorsConfig>,
    /// `[gateway.limits]`.
    pub limits: EdgeLimits,
    /// `[gateway.live]`.
    pub live: LiveConfig,
    /// `[gateway.auth]`.
    pub auth: AuthConfig,
    /// `[gateway.events]`.
    pub events: EventsConfig,
    /// `[gateway.rate]`.
    pub rate: RateConfig,
    /// `[[gateway.routes]]`, in the order of the manifest.
    pub routes: Vec<RouteConfig>,
}

impl EdgeConfig {
    /// Whether it can be served.
    pub fn check(&self) -> Result<(), EdgeConfigError> {
        router::table(self).map(drop)
    }
}

/// Why a configuration cannot be served. The one before stays in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeConfigError {
    /// The path of a route cannot be one, or is taken.
    #[error("the route `{name}` has a path that cannot be served: `{path}`: {problem}")]
    Path {
        /// The route.
        name: String,
        /// Its path.
        path: String,
        /// Why.
        problem: String,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What checks credentials is not there, or is of no use.
    #[error("{0}")]
    Auth(String),
    /// Two routes for the same requests.
    #[error("the routes `{first}` and `{second}` are for the same path and method; take one out")]
    Twice {
        /// The one that was there.
        first: String,
        /// The one that came after it.
        second: String,
    },
}
