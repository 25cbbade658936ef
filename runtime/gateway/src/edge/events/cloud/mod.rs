//! `CloudEvents` 1.0 over HTTP.
//!
//! Role: the three content modes of the HTTP binding, and what the attributes are in an event of the bus:
//!
//! | `CloudEvents` | event |
//! |---|---|
//! | `source` and `id` | together the id, for deduplication |
//! | path, else extension `topic`, else `type` | topic |
//! | `partitionkey` | key |
//! | `datacontenttype` | content type |
//! | `expirytime` | expiry |
//! | `traceparent`, `correlationid` | trace context, correlation |
//! | everything, those two excepted and key, expiry and content type | header `ce-NAME` |
//!
//! Invariant: what came in as a `CloudEvent` goes out with the same attributes and data ([`cloudevent`]).

mod attributes;
mod binary;
mod render;
mod structured;

pub(super) use binary::{binary, is_binary};
pub use render::cloudevent;
pub(super) use structured::{batched, structured};

/// What names of headers begin with that are attributes.
pub(crate) const PREFIX: &str = "ce-";
