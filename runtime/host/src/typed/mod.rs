//! The typed lane: contracts as the bus carries them.
//!
//! Role: ties the functions of a contract to the bus. A call of an imported function becomes an event whose data is JSON
//! ([`produce`]); an event becomes a call of an exported function ([`handle`]); what a handler answers becomes an outcome, and
//! what the bus refuses an answer ([`failure`]). The mapping between values and JSON is in [`read`] and [`write`] and is described
//! in the README ("Typed events as JSON").
//!
//! Invariant: everything that depends on the contract alone is worked out once, when the component is linked.

mod failure;
mod handle;
mod key;
mod mismatch;
mod produce;
pub(crate) mod read;
mod request;
#[cfg(test)]
mod tests;
pub(crate) mod write;

pub(crate) use handle::{Handled, Warm};
pub use mismatch::Mismatch;
pub(crate) use produce::{Next, link};
pub use read::{MAX_VALUES, Unknown, check, check_with_key};
pub use request::{Answer, Answered, Answering, Ask, NotAsked, Request, RequestError};
