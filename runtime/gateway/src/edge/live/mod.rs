//! Live push: events to browsers and programs as they happen.
//!
//! ```text
//!   GET /events?topic=shop.>   --> Server-Sent Events, or a WebSocket when the client asks for one
//!   a route with `events`      --> the same, of the topics of the route
//!   a route with `socketio`    --> Socket.IO: emits become events, events are emitted to rooms
//! ```
//!
//! Invariants: everybody is served from the log at their own pace, so a slow client delays nobody and holds a bounded
//! piece of memory; nobody is shown an event that they may not see; what a client missed it is told. Every node reads the
//! log for its own clients and nothing is shared between them, so several nodes serve one application without more.

mod config;
mod feed;
mod listen;
pub(super) mod origin;
mod pace;
mod permit;
mod places;
mod render;
mod socketio;
mod sse;
mod state;
mod ws;

use std::sync::Arc;

use busway_types::Pattern;

use self::places::NoPlace;
use crate::edge::auth::{Caller, CallerKind};
use crate::edge::problem::{Problem, Refusal};

pub use config::{LiveConfig, SocketIoConfig, SocketIoNamespace};
pub(crate) use socketio::{is_long_poll, may_say};
pub(crate) use state::{LiveState, events, router, socketio};

/// The patterns that a listener asks for: at most so many, and of a route only those within its own.
pub(crate) fn patterns(
    asked: &[impl AsRef<str>],
    route: Option<&Arc<[Pattern]>>,
    most: usize,
) -> Result<Arc<[Pattern]>, Problem> {
    if asked.is_empty()
        && let Some(route) = route
    {
        return Ok(route.clone());
    }
    if asked.is_empty() || asked.len() > most {
        return Err(Problem::invalid(format!(
            "give 1 to {most} topics or patterns, such as `?topic=shop.orders.placed` or `?topic=shop.>`"
        )));
    }
    let parsed = asked.iter().map(|text| text.as_ref().parse::<Pattern>());
    let parsed: Vec<Pattern> = parsed.collect::<Result<_, _>>().map_err(|error| Problem::invalid(error.to_string()))?;
    if let Some(route) = route
        && let Some(outside) = parsed.iter().find(|pattern| !route.iter().any(|own| own.covers(pattern)))
    {
        return Err(Problem::new(Refusal::Forbidden, format!("this route does not show `{outside}`")));
    }
    Ok(parsed.into())
}

/// Whether a listener can ever be shown one of these. Who cannot is told so, instead of waiting for nothing.
fn may_see_any(caller: &Caller, patterns: &[Pattern]) -> Result<(), Problem> {
    if caller.may_see_any(patterns) {
        return Ok(());
    }
    let detail = match caller.kind {
        CallerKind::Anonymous => "without authentication only the topics of `[gateway.events] topics` are shown",
        _ => "no scope of yours shows events of these topics; it takes `subscribe:PATTERN`",
    };
    Err(Problem::new(Refusal::Forbidden, detail))
}

fn no_place(none: NoPlace) -> Problem {
    match none {
        NoPlace::All => Problem::new(Refusal::Overloaded, "too many listen already; try again later"),
        NoPlace::Caller => {
            Problem::new(Refusal::TooMany, "this caller listens too often already; end a connection first")
        }
    }
}
