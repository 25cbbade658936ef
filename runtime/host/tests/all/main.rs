//! The host's behaviour, one module each, with guests written by hand.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic, in its helpers too")]

mod cache;
mod capabilities;
mod inspection;
mod lanes;
mod limits;
mod outcomes;
mod support;
mod tasks;
