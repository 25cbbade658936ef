//! What prose cannot hold: the tests that keep the repository as its documents say it is.
//!
//! Each test looks at all files that belong to the project and lists everything that breaks its rule.

mod crates;
mod files;
mod keys;
mod links;
mod sources;
