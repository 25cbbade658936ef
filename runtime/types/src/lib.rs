//! The vocabulary of busway: values and limits, nothing else.
//!
//! Every other crate speaks in these types. This crate does no I/O, spawns nothing, reads no clock and knows neither
//! tokio nor wasmtime; time and randomness come in through [`Clock`] and [`Entropy`], which callers supply.
//!
//! Invariants held by construction:
//! - a [`Topic`], [`Pattern`], [`Key`] or [`ServiceName`] that exists is valid;
//! - an [`Event`] never changes after it was published, so it is shared as `Arc<Event>`;
//! - every limit that a publisher, a guest or an operator can meet is a field of [`Limits`].

mod causality;
mod delivery;
mod event;
mod fingerprint;
mod id;
mod limits;
mod mutant;
mod name;
mod seam;
mod subscription;
mod topic;

pub use causality::{Causality, Origin};
pub use delivery::{Chunk, Delivery, DeliveryResult, Effects, Outcome, Report, Settle, Settlement, Verdict};
pub use event::{Batch, Draft, Event, Header, InvalidEvent, Key, Logged, Offset, Receipt};
pub use fingerprint::Fingerprint;
pub use id::{EventId, InvalidEventId};
pub use limits::{Limits, Retention, TopicExpiry};
pub use mutant::mutant;
pub use name::{InvalidName, ServiceName};
pub use seam::{Clock, Entropy, SplitMix, SystemClock, Timestamp};
pub use subscription::{
    Attempt, DeadLetter, DeadReason, KvRead, KvScan, KvVersion, KvWrite, Ordering, Parked, Replay, RetryPolicy,
    Settings, StartAt, SubId, SubscriptionSpec, SubscriptionState,
};
pub use topic::{InvalidPattern, InvalidTopic, Pattern, Topic};
