//! Services: what is known of them, how they start, swap and stop.

mod catalog;
mod fitting;
mod helping;
pub(crate) mod http;
mod leaving;
mod manifest;
mod prepare;
mod scan;
mod sources;
mod supervisor;
mod tasks;

pub(crate) use catalog::{Catalog, Service};
pub(crate) use prepare::Preparer;
pub use prepare::{Examined, examine};
pub(crate) use sources::Sources;
