//! What the gateway serves about credentials, and what its other parts ask about them.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::Caller;
use super::tickets::{NoTicket, TICKET_TIME};
use crate::edge::context::Peer;
use crate::edge::problem::{Problem, Refusal};
use crate::edge::serve::Edge;

/// Where a page gets a ticket for an `EventSource` or a `WebSocket`.
pub(crate) const TICKETS: &str = "/auth/tickets";

/// `POST /auth/tickets`.
pub(crate) fn router(edge: &Arc<Edge>) -> Router {
    Router::new().route(TICKETS, post(ticket)).with_state(Arc::clone(edge))
}

async fn ticket(State(edge): State<Arc<Edge>>, Extension(caller): Extension<Caller>) -> Response {
    match edge.gate.load().ticket(&caller) {
        Ok(ticket) => {
            let body = Json(json!({"ticket": ticket, "expires-in": TICKET_TIME.as_secs()}));
            (StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], body).into_response()
        }
        Err(error @ NoTicket::Full) => Problem::new(Refusal::Overloaded, error.to_string()).into_response(),
        Err(error @ NoTicket::NoRandom) => {
            tracing::error!(%error, "no ticket could be made");
            Problem::new(Refusal::Failed, error.to_string()).into_response()
        }
    }
}

impl Edge {
    /// Who a credential stands for that came in otherwise than in a header, such as that of a Socket.IO client. Wrong
    /// ones are counted against the client as everywhere.
    pub(crate) async fn identify(&self, credential: &str, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
        let gate = self.gate.load_full();
        gate.identify_text(credential, peer, headers).await
    }
}
