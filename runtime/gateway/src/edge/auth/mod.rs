//! Who somebody is, and what they may do.
//!
//! ```text
//!   credentials --> keys | jwt | certificate | tickets --> Caller --> gate: locked? too often? allowed? --> route
//! ```
//!
//! Invariants: secrets are [`Secret`], [`ApiKey`] or inside the cryptography, none of which can be printed; the time is
//! that of a `Clock`; nothing here spawns a task (`Gateway::serve` runs what keeps keys fresh).

mod caller;
mod certificate;
mod config;
mod credentials;
mod gate;
mod jwt;
mod key;
mod keys;
mod routes;
mod secret;
mod tickets;

pub(crate) use caller::{Caller, CallerKind};
pub use caller::{InvalidScope, Scope};
pub use config::{AuthConfig, CertificateConfig, CertificateMatch, InvalidCertificateMatch, KeyConfig};
pub(crate) use gate::{Client, Gate, Wanted, forbidden, is_ours};
pub use jwt::{InvalidJwksUrl, JwksUrl, JwtAlgorithm, JwtConfig, KeySource, KeysError};
pub use key::{ApiKey, InvalidHash, KeyHash, NoRandom};
pub(crate) use routes::{TICKETS, router};
pub use secret::Secret;
