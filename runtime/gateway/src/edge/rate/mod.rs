//! How often somebody may ask: for each client over everything, and for each client and route.
//!
//! Why not a library: `governor` has the same algorithm, but its keyed state grows with every key until somebody clears
//! it, and a new client always gets a full bucket; here memory is bounded, and forgetting wins nobody anything.

mod address;
mod bucket;
mod config;
mod headers;

pub use address::{InvalidNetwork, Network, Networks};
pub(crate) use address::{client_address, client_block};
pub(crate) use bucket::Buckets;
pub use config::{InvalidRate, Rate, RateConfig};
pub(crate) use headers::{Applied, seconds, write};
