//! What the gateway serves, as an `OpenAPI` 3.1 document and as a page to read it.
//!
//! Role: `/openapi.json` from the routes in use and the contracts that run now, `/docs` as a page that shows it. Invariants:
//! the document is made anew for each request, so that it never says what is no longer served; the page is static, loads
//! nothing from elsewhere, and runs no script but its own.

mod document;
mod page;
mod security;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::Edge;

/// The paths that are served here.
pub(super) const PATHS: [&str; 2] = ["/openapi.json", "/docs"];

/// The document, which only those see who may see anything here.
pub(super) fn router(edge: &Arc<Edge>) -> Router {
    Router::new().route(PATHS[0], get(document)).with_state(Arc::clone(edge))
}

/// The page, which says nothing by itself and asks for the document with what its reader gives.
pub(super) fn open_router() -> Router {
    Router::new().route(PATHS[1], get(page::page))
}

async fn document(State(edge): State<Arc<Edge>>) -> Response {
    let contracts = edge.backend.contracts();
    Json(document::of(&edge.config(), &contracts)).into_response()
}
