//! The envelope of the event in hand, and what the service knows of itself.
//!
//! ```no_run
//! use busway_guest::context;
//!
//! busway_guest::service!(subscribe = ["public.orders"], |_event| {
//!     if let Some(envelope) = context::current() && envelope.attempt > 1 {
//!         println!("attempt {} of {}", envelope.attempt, envelope.id);
//!     }
//!     Ok(())
//! });
//! # fn main() {}
//! ```

use crate::bindings::busway::bus::context;

pub use crate::bindings::busway::bus::context::Envelope;
pub use crate::bindings::busway::bus::types::Header;

/// The envelope of the event in hand; none in a task.
///
/// ```no_run
/// let left_ms = busway_guest::context::current().map(|envelope| envelope.remaining_ms);
/// ```
pub fn current() -> Option<Envelope> {
    context::current()
}

/// The name under which this service runs.
///
/// ```no_run
/// println!("this is {}", busway_guest::context::service());
/// ```
pub fn service() -> String {
    context::service()
}

/// A value of the service's `config` table in the manifest, as text.
///
/// ```no_run
/// // [services.NAME]
/// // config = { currency = "EUR" }
/// let currency = busway_guest::config("currency").unwrap_or_else(|| "EUR".into());
/// ```
pub fn config(name: &str) -> Option<String> {
    context::config(name)
}
