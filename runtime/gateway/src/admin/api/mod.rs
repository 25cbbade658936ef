//! The values of the admin API, the same for server and clients.
//!
//! Role: what crosses the wire as JSON (`snake_case` fields, `kebab-case` words, milliseconds as `*_ms`, times as whole
//! milliseconds since 1970). `ADMIN.md` beside this crate describes the routes. No HTTP here, no behaviour beyond
//! conversion and checks. Requests refuse unknown fields; replies may grow fields, which clients ignore.

mod ask;
mod dead;
mod event;
mod problem;
mod replay;
mod status;
mod time;
mod trace;

pub use ask::{AskReply, AskRequest};
pub use dead::{DeadChanged, DeadDetail, DeadEntry, DeadFilter, DeadPage};
pub use event::{Envelope, HeaderField, Payload, PublishReply, PublishRequest, PublishResponse, TailFrom, TailLine};
pub use problem::{ApiError, Problem};
pub use replay::{ForgetRequest, Forgotten, ReplayReply, ReplayRequest};
pub use status::{
    BridgeDirection, BridgeStatus, BusStatus, DetachedSubscription, GatewayStatus, Health, HttpStatus, KvEntry, KvPage,
    KvQuery, NodeInfo, NodeRole, NodeStatus, RefusedFile, ServiceInfo, ServiceState, ServiceStatus, ShutdownRequest,
    StatusReport, SubscriptionStatus,
};
pub use time::parse_rfc3339;
pub use trace::{Trace, TraceDelivery, TraceEvent, TraceOutcome, TraceQuery};
