//! Tokens that an issuer signed (JWT, RFC 7519), checked as RFC 8725 asks.

mod config;
mod keys;
mod source;
#[cfg(test)]
mod tests;
mod verify;

pub use config::{InvalidJwksUrl, JwksUrl, JwtAlgorithm, JwtConfig, KeySource};
pub(crate) use source::Keys;
pub use source::KeysError;
pub(crate) use verify::{BadToken, verify};
