//! `/health/live` and `/health/ready`: for load balancers and supervisors. Open to everybody; they say nothing else.
//!
//! Live means that the process answers. Ready means that requests are welcome here: every subscription of the app exists
//! and the node is not on its way to the end.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::problem::{Problem, Refusal};
use super::serve::Edge;

pub(super) const PATHS: [&str; 2] = ["/health/live", "/health/ready"];

pub(super) fn router(edge: &Arc<Edge>) -> Router {
    Router::new().route(PATHS[0], get(live)).route(PATHS[1], get(ready)).with_state(Arc::clone(edge))
}

fn ok() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, r#"{"status":"ok"}"#).into_response()
}

async fn live() -> Response {
    ok()
}

async fn ready(State(edge): State<Arc<Edge>>) -> Response {
    if edge.is_leaving() {
        return Problem::new(Refusal::Stopping, "the node is shutting down").into_response();
    }
    if !edge.backend.is_ready() {
        return Problem::new(Refusal::Unavailable, "the services of the app are being started").into_response();
    }
    ok()
}
