//! The admin API of a node: for its operator, on a listener of its own, never for the open internet.
//!
//! Role: turns HTTP into calls of [`AdminBackend`] and back. `ADMIN.md` beside this crate describes the routes, [`api`]
//! holds the values, [`serve`] the server.
//!
//! Invariants: every route but health needs the token; every request has bounds on its size and time; a reader of
//! events is served at its own pace from the log and is told what it missed; every refusal is a problem document
//! (RFC 9457). Never here: tasks (the node spawns [`serve`]), decisions about events, anything a guest can reach.

pub mod api;
mod backend;
mod guard;
mod routes;
mod server;
mod tail;
mod token;

pub use backend::{AdminBackend, Reply, TailBatch, TailRead};
pub use server::{AdminConfig, GRACE, ServeError, bind, serve};
pub use token::{AdminToken, NoEntropy};
