//! What an operator wants to run: `busway.toml`, or a folder of components with no configuration at all.
//!
//! Role: turns text and folders into plain, checked values ([`ServiceConfig`], [`BusConfig`], `Limits`) with defaults
//! filled in. Every mistake is told with its place, the source line and the nearest thing that would be right, all
//! mistakes at once.
//!
//! Invariants: a value that left here is within its bounds; nothing is granted that was not written down, except topics
//! under `public.` and a service's own key-value. Never here: looking into components, starting anything.

mod app;
mod bridges;
mod bus;
mod config;
mod contracts;
mod error;
mod gateway;
mod http;
mod limits;
mod parse;
mod reader;
mod schedule;
mod service;
mod topics;
mod units;

pub(crate) use app::components;
pub use app::{App, MANIFEST, RefusedComponent};
pub use bridges::{BridgeConfig, Way};
pub use bus::{BusConfig, Durability, EngineUrl, InvalidBus};
pub use config::{Denied, FileGrant, Instances, NetworkGrant, Origin, RunPolicy, ServiceConfig};
pub use error::{Finding, LoadError};
pub use gateway::GatewayConfig;
pub use http::HttpConfig;
pub use parse::Manifest;
pub use schedule::Schedule;
pub use units::{InvalidUnit, format_bytes, format_duration, parse_bytes, parse_duration};

#[cfg(test)]
mod tests;
