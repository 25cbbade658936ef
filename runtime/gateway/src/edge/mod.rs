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
//!
//! `router.rs` says what a request passes in which order, and how a further part plugs in.

mod advice;
mod ask;
pub mod auth;
mod backend;
mod body;
mod config;
mod context;
mod cors;
mod events;
mod figures;
mod file;
mod health;
mod limits;
mod listen;
mod live;
mod openapi;
mod pages;
mod path;
mod problem;
pub mod rate;
mod router;
mod routes;
mod serve;
mod service;
mod tls;
mod units;

pub use advice::Served;
pub use ask::{FunctionName, InvalidFunctionName, RequestTarget};
pub use backend::{BoxedBody, EdgeBackend, EdgeError, EdgeReply, EdgeRequest};
pub use body::Buffered;
pub use config::{EdgeConfig, EdgeConfigError};
pub use context::{Peer, PeerCertificate, RequestContext};
pub use cors::{CorsConfig, Origins};
pub use events::EventsConfig;
pub use events::cloud::cloudevent;
pub use figures::EdgeFigures;
pub use file::ServedFile;
pub use limits::EdgeLimits;
pub use listen::{EdgeServeError, bind};
pub use live::{LiveConfig, SocketIoConfig, SocketIoNamespace};
pub use problem::{Problem, Refusal};
pub(crate) use routes::Matched;
pub use routes::{RouteConfig, Target};
pub use serve::{Edge, Gateway, Setup};
pub use tls::{CertificateSource, ClientCa, TlsConfig, TlsError};
