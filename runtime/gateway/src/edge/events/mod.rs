//! Events from outside: `POST /events/{topic}` and the `CloudEvents` 1.0 HTTP binding.
//!
//! ```text
//!   body, headers --> plain | lines | cloud (binary, structured, batched) --> drafts --> EdgeBackend::publish --> 202
//! ```
//!
//! Role: turns requests into drafts, asks whether the caller may publish them, publishes all or none, answers with the ids
//! when they are as safe as the node promises. Invariants: a batch has at most `Limits::batch_events` events; everything
//! is checked before anything is published; what is wrong is told with the place of the event in the batch.

pub(crate) mod cloud;
mod config;
mod id;
mod lines;
pub(super) mod media;
mod plain;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use busway_types::{Draft, EventId, Limits, Receipt, Timestamp, Topic};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use self::media::Media;
use super::auth::{Caller, CallerKind};
use super::problem::{Problem, Refusal};
use super::{Edge, EdgeError, RequestContext, live};

pub use config::EventsConfig;
pub(super) use plain::named;

/// The paths that are served here.
pub(super) const PATHS: [&str; 2] = ["/events", "/events/{topic}"];

/// What a request publishes to: the topic of the path, or what each event says.
pub(super) struct Cx<'r> {
    pub(super) caller: &'r Caller,
    pub(super) limits: &'r Limits,
    pub(super) now: Timestamp,
    /// The topic in the path.
    pub(super) topic: Option<Topic>,
    pub(super) headers: &'r HeaderMap,
}

/// What a request asks to publish.
#[derive(Debug)]
enum Asked {
    One(Draft),
    Batch(Vec<Draft>),
}

/// One published event in the answer.
#[derive(Debug, Serialize)]
struct Published {
    id: EventId,
}

pub(super) fn router(edge: &Arc<Edge>) -> Router {
    Router::new().route(PATHS[0], post(to_any)).route(PATHS[1], post(to_topic)).with_state(Arc::clone(edge))
}

async fn to_any(State(edge): State<Arc<Edge>>, request: Request) -> Result<Response, Problem> {
    publish(&edge, None, request).await
}

async fn to_topic(
    State(edge): State<Arc<Edge>>,
    Path(topic): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let topic = topic.parse::<Topic>().map_err(|error| Problem::invalid(error.to_string()))?;
    publish(&edge, Some(topic), request).await
}

/// Publishes what a request says; `topic` is what the path says.
async fn publish(edge: &Edge, topic: Option<Topic>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let Some(caller) = parts.extensions.get::<Caller>() else {
        return Err(Problem::new(Refusal::Forbidden, "who asks is not known"));
    };
    let context = parts.extensions.get::<RequestContext>();
    // Before the body is read: who may not publish here cannot make the gateway hold anything.
    topic.iter().try_for_each(|topic| permit(caller, topic))?;
    let body = edge.read_body(body).await?;
    let backend = edge.backend();
    let cx = Cx { caller, limits: backend.limits(), now: backend.now(), topic, headers: &parts.headers };
    let asked = read(&cx, body.bytes())?;
    let (mut drafts, is_batch) = match asked {
        Asked::One(draft) => (vec![draft], false),
        Asked::Batch(drafts) => (drafts, true),
    };
    for (index, draft) in drafts.iter().enumerate() {
        let checked = permit(caller, &draft.topic).and_then(|()| live::may_say(&edge.config().routes, draft));
        checked.map_err(|no| if is_batch { no.with("index", index) } else { no })?;
    }
    if drafts.is_empty() {
        return Ok(answer(&[], is_batch));
    }
    if let Some(context) = context {
        for draft in &mut drafts {
            context.trace(draft);
        }
    }
    let receipts = backend.publish(drafts).await.map_err(|error| match error {
        // Of one event there is nothing to number.
        EdgeError::Invalid { detail, path, is_contract, .. } if !is_batch => {
            EdgeError::Invalid { detail, index: None, path, is_contract }
        }
        error => error,
    })?;
    Ok(answer(&receipts, is_batch))
}

fn permit(caller: &Caller, topic: &Topic) -> Result<(), Problem> {
    if caller.may_publish(topic) {
        return Ok(());
    }
    let why = match caller.kind {
        CallerKind::Anonymous => "without authentication only the topics of `[gateway.events] topics` are taken",
        _ => "no scope of yours allows it",
    };
    let detail = format!("you may not publish to `{topic}`: {why}");
    Err(Problem::new(Refusal::Forbidden, detail))
}

fn read(cx: &Cx<'_>, body: &[u8]) -> Result<Asked, Problem> {
    match Media::of(cx.headers)? {
        Media::Structured => cloud::structured(cx, body).map(Asked::One),
        Media::Batched => cloud::batched(cx, body).map(Asked::Batch),
        Media::Lines => lines::drafts(cx, body).map(Asked::Batch),
        Media::Other(content_type) if cloud::is_binary(cx.headers) => {
            cloud::binary(cx, content_type, body).map(Asked::One)
        }
        Media::Other(content_type) => plain::draft(cx, content_type, body).map(Asked::One),
    }
}

fn answer(receipts: &[Receipt], is_batch: bool) -> Response {
    let mut published: Vec<Published> = receipts.iter().map(|receipt| Published { id: receipt.id }).collect();
    match published.pop() {
        Some(one) if !is_batch => (StatusCode::ACCEPTED, axum::Json(one)).into_response(),
        last => {
            published.extend(last);
            (StatusCode::ACCEPTED, axum::Json(published)).into_response()
        }
    }
}

/// A batch is one transaction and has a bound.
fn check_size(found: usize, limits: &Limits) -> Result<(), Problem> {
    if found > limits.batch_events {
        let detail = format!("more than {} events in one request; send them in several", limits.batch_events);
        return Err(Problem::new(Refusal::TooLarge, detail));
    }
    Ok(())
}
