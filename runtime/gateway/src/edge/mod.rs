//! The gateway: HTTP in, answers out, live push.
//!
//! ```text
//!   listen (TCP, TLS, HTTP/1.1 and 2, limits) --> auth (who, may they) --> events | ask | http | live --> EdgeBackend
//! ```
//!
//! Role: turns HTTP into calls of [`EdgeBackend`] and back. Invariants: nothing reaches the backend that was not
//! authenticated and authorised as the configuration says; every refusal is a problem document (RFC 9457); every
//! buffer, connection and wait has a bound with a default that is safe on the open internet. Never here: decisions
//! about events, anything of the admin API.

pub mod auth;
mod backend;

pub use backend::{BoxedBody, EdgeBackend, EdgeError, EdgeReply, EdgeRequest};
