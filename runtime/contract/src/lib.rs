//! Event contracts: WIT interfaces whose functions are events.
//!
//! Role: what a contract is ([`Contract`], [`Type`]), which contracts a component produces and handles
//! ([`component`]), what WIT says about them ([`source`]), which topic a function has ([`ContractId::topic`]), and whether
//! both sides of a contract understand each other ([`compare`]), and documents for people and tools ([`document`]). This crate knows WIT and components, but neither wasmtime nor the bus: it runs no guest and carries
//! no event.
//!
//! A contract is plain WIT with nothing of busway's in it:
//!
//! ```wit
//! package shop:orders@1.0.0;
//! interface order-events {
//!   record order { id: string, total-cents: u64 }
//!   placed: func(key: string, event: order);                 // an event
//!   quote: func(id: string) -> result<u64, string>;          // a request: its result carries a value
//! }
//! ```
//!
//! A component that imports the interface produces its events; one that exports it handles them.
//!
//! Invariants: every [`Type`] in a [`Contract`] is carried by the bus (no resources, streams or futures), is at most
//! [`MAX_DEPTH`] deep and has at most [`MAX_NODES`] nodes as a tree, so that whoever walks one needs no bound of its own.

pub mod compare;
pub mod component;
pub mod document;
mod id;
mod key;
mod model;
pub mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod types;

pub use busway_types::InvalidTopic;
pub use id::{ContractId, IdError, RESERVED};
pub use key::{ContractKeys, InvalidKeyName, KeyError, KeyName, KeyPath, Keys};
pub use model::{Contract, Direction, Function, Kind, Param, Refused, Use};
pub use types::{Case, Docs, Enum, Field, Flags, Label, Record, Type, Variant};

/// How deep types may be nested: a record in a list in a record is three deep.
pub const MAX_DEPTH: usize = 32;

/// How many functions one contract, and all contracts of a component together, may have.
pub const MAX_FUNCTIONS: usize = 1_000;

/// How long the name of a function, parameter, field, case or flag may be.
pub const MAX_NAME: usize = 128;

/// Nodes that the parameters and the result of one function may have together, as a tree: a type that is used twice counts
/// twice.
pub const MAX_NODES: usize = 10_000;

/// Nodes of all functions of a component together.
pub const MAX_TOTAL_NODES: usize = 200_000;
