//! A busway node: the one crate that puts the parts together and spawns tasks.
//!
//! Role: runs the dispatcher over an engine and the lanes of the host, starts, swaps and stops services, and serves the
//! admin API. Decides nothing that the dispatcher, the engine or the host decide.
//!
//! ```text
//!   Publisher --> Engine --appended--> Driver(Machine) --chunks--> Lanes --reports--> Driver --settle--> Engine
//!                                        ^ attach, swap, detach
//!                                     Supervisor <-- files of the app
//! ```

mod admin;
mod bridges;
mod bus;
mod contracts;
mod dead_log;
mod driver;
mod edge;
mod error;
mod inbox;
mod inner;
pub mod manifest;
mod metrics;
mod node;
mod opening;
mod publisher;
mod reading;
mod requests;
mod services;
mod spread;
mod task_set;

pub use driver::ReportTap;
pub use error::{NodeError, StartError};
pub use metrics::ServiceFigures;
pub use node::{Node, NodeOptions};
pub use opening::{engine_facts, engine_guarantees};
pub use publisher::{PublishError, Publisher};
pub use services::{Examined, examine};
