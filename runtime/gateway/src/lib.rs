//! The HTTP sides of a node: the admin API for its operator, and the gateway for everybody else.
//!
//! Two listeners, two trees: [`admin`] (a token, loopback by default) and [`edge`] (TLS, authentication, limits that are
//! safe on the open internet). They share nothing but the values of events. Neither spawns a task of the node, and
//! neither decides anything about events.

pub mod admin;
pub mod edge;

pub use admin::{
    AdminBackend, AdminConfig, AdminToken, GRACE, NoEntropy, Reply, ServeError, TailBatch, TailRead, api, bind, serve,
};
