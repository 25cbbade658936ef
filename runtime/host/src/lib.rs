//! The host: the only crate that knows wasmtime.
//!
//! Role: loads components, ties them to services, and runs guest code on bounded lanes. What a guest does beyond
//! computing goes through [`Bus`], which the embedder implements. This crate spawns no task, keeps no event, decides
//! nothing about redelivery, and knows no engine.
//!
//! The way of a component: bytes -> [`Host::compile`] -> [`Compiled`] -> [`Compiled::link`] -> [`Linked`] ->
//! [`Linked::lane`] -> [`Lane`] (or [`Linked::start_task`], or [`Linked::http`] -> [`HttpPool`]).
//!
//! Invariants:
//! - a guest never panics, stalls or exhausts the host: time, memory, threads, output and what a call may pass are bounded;
//! - guests run on this crate's threads only, never on a runtime's workers;
//! - an instance that trapped or timed out is never used again.

mod bindings;
mod cache;
mod capability;
mod compiled;
mod epoch;
mod floor;
mod host;
mod http;
pub mod inspect;
mod invoke;
mod lane;
mod linked;
mod settings;
mod slots;
mod state;
mod task;
mod threads;
mod typed;
mod wait;

pub use cache::content_hash;
pub use capability::{Bus, NoBus, Refusal, log_to_tracing};
pub use compiled::{Compiled, LoadError};
pub use host::{Compiling, Host, HostConfig, HostError, Progress};
pub use http::{Admitted, HttpBody, HttpError, HttpPool, HttpSettings, HttpStats};
pub use inspect::{InspectError, Inspection, Problem};
pub use lane::{Binding, Handles, Lane, LaneSettings, LaneSink, LaneStats, NotTaken};
pub use linked::{LinkError, Linked};
pub use settings::{FileGrant, Grants, Instancing, ServiceSettings};
pub use task::{GuestError, TaskEnd, TaskHandle, TaskSettings};
pub use typed::{
    Answer, Answered, Answering, Ask, MAX_VALUES, Mismatch, NotAsked, Request, RequestError, Unknown, check,
    check_with_key,
};
