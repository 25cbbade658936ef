//! The gateway as a whole: its state, its configuration in use, and what every request passes first.
//!
//! [`Edge`] is what handlers share; [`Gateway`] is what the node holds: it owns the router in use and exchanges it on
//! [`Gateway::reload`]. Invariants: a request is served by one configuration from its beginning to its end; a configuration
//! that cannot be served changes nothing; at most `requests_at_once` requests are being answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Guard};
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri, Version};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use super::backend::EdgeBackend;
use super::body::{GuardedBody, PERMIT_BYTES};
use super::config::{EdgeConfig, EdgeConfigError};
use super::context::{Peer, REQUEST_ID, RequestContext, RequestIds, traceparent};
use super::limits::EdgeLimits;
use super::problem::{Problem, Refusal};
use super::{path, router};

/// What the handlers of the gateway share.
pub struct Edge {
    /// The node.
    pub(crate) backend: Arc<dyn EdgeBackend>,
    config: ArcSwap<EdgeConfig>,
    stopping: watch::Sender<bool>,
    /// The budget for bodies in memory, [`PERMIT_BYTES`] each.
    pub(super) buffered: Arc<Semaphore>,
    in_flight: AtomicUsize,
    ids: RequestIds,
}

impl Edge {
    /// The node.
    pub fn backend(&self) -> &dyn EdgeBackend {
        &*self.backend
    }

    /// The configuration in use now. Take it once for a request.
    pub fn config(&self) -> Guard<Arc<EdgeConfig>> {
        self.config.load()
    }

    /// Whether the gateway is on its way to the end.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Tells when the gateway is on its way to the end: streams say so to their clients and end.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Requests that are being answered now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// The gateway of one node.
pub struct Gateway {
    pub(super) edge: Arc<Edge>,
    router: ArcSwap<Router>,
}

impl Gateway {
    /// A gateway to a node. `seed` is for ids of requests.
    pub fn new(backend: Arc<dyn EdgeBackend>, config: EdgeConfig, seed: u64) -> Result<Arc<Self>, EdgeConfigError> {
        let buffered = Arc::new(Semaphore::new(config.limits.buffered_bytes.div_ceil(PERMIT_BYTES)));
        let edge = Arc::new(Edge {
            backend,
            config: ArcSwap::from_pointee(config),
            stopping: watch::Sender::new(false),
            buffered,
            in_flight: AtomicUsize::new(0),
            ids: RequestIds::new(seed),
        });
        let router = router::compose(&edge, &edge.config())?;
        Ok(Arc::new(Self { edge, router: ArcSwap::from_pointee(router) }))
    }

    /// What its handlers share.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// Serves another configuration from the next request on; connections stay. One that cannot be served changes nothing.
    pub fn reload(&self, config: EdgeConfig) -> Result<(), EdgeConfigError> {
        let router = router::compose(&self.edge, &config)?;
        self.edge.config.store(Arc::new(config));
        self.router.store(Arc::new(router));
        Ok(())
    }

    /// Readiness goes, streams are told to end. Requests are answered until the connections are gone.
    pub fn begin_to_stop(&self) {
        self.edge.stopping.send_replace(true);
    }

    /// Answers one request.
    pub(super) async fn handle(&self, request: Request<Incoming>, peer: &Arc<Peer>) -> Response {
        let config = self.edge.config.load_full();
        let context = RequestContext {
            id: self.edge.ids.of(request.headers()),
            traceparent: traceparent(request.headers()),
            peer: Arc::clone(peer),
        };
        // A request whose length could be read in two ways was read by its chunks; whatever follows it is not trusted.
        let is_last = request.version() < Version::HTTP_2 && request.headers().contains_key(TRANSFER_ENCODING);
        let id = context.id.clone();
        let mut response = match self.accept(request, context, &config.limits) {
            Ok((request, _in_flight)) => {
                let router = Router::clone(&self.router.load());
                let answered: Result<Response, Infallible> = router.oneshot(request).await;
                answered.unwrap_or_else(|never| match never {})
            }
            Err(problem) => problem.into_response(),
        };
        response.headers_mut().insert(REQUEST_ID, id);
        if is_last {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// What every request has to pass, whatever it is for.
    fn accept(
        &self,
        request: Request<Incoming>,
        context: RequestContext,
        limits: &EdgeLimits,
    ) -> Result<(Request<Body>, InFlight), Problem> {
        let in_flight = InFlight::new(&self.edge);
        let is_health = request.uri().path().starts_with("/health/");
        if self.edge.in_flight() > limits.requests_at_once && !is_health {
            return Err(Problem::new(Refusal::Overloaded, "too many requests at once; send it again later"));
        }
        check_form(&request, limits)?;
        let (mut parts, body) = request.into_parts();
        parts.uri = one_spelling(parts.uri)?;
        parts.extensions.insert(context);
        Ok((Request::from_parts(parts, Body::new(GuardedBody::new(body, limits))), in_flight))
    }
}

/// Counts a request as long as it is being answered.
struct InFlight(Arc<Edge>);

impl InFlight {
    fn new(edge: &Arc<Edge>) -> Self {
        edge.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(edge))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What hyper leaves to its user about the form of a request.
fn check_form(request: &Request<Incoming>, limits: &EdgeLimits) -> Result<(), Problem> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Problem::new(Refusal::Method, format!("{} is not served here", request.method())));
    }
    let headers = request.headers();
    if headers.len() > limits.headers {
        return Err(Problem::new(Refusal::Headers, format!("more than {} headers", limits.headers)));
    }
    let path_bytes = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if path_bytes > limits.header_bytes {
        return Err(Problem::new(Refusal::Headers, "the path is too long"));
    }
    if request.version() < Version::HTTP_2 {
        let mut hosts = headers.get_all(HOST).iter();
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
            return Err(Problem::invalid("a request has exactly one `Host`"));
        }
        let named = request.uri().authority().map(http::uri::Authority::as_str);
        if let (Some(named), Some(host)) = (named, host)
            && !host.as_bytes().eq_ignore_ascii_case(named.as_bytes())
        {
            return Err(Problem::invalid("the address and `Host` name different hosts"));
        }
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.body_bytes as u64) {
        let detail =
            format!("the body is larger than {} bytes, which is the most that is taken here", limits.body_bytes);
        return Err(Problem::new(Refusal::TooLarge, detail));
    }
    Ok(())
}

/// The address with its path in the one spelling that routes and services see.
fn one_spelling(uri: Uri) -> Result<Uri, Problem> {
    let normal = match path::normalise(uri.path()).map_err(Problem::invalid)? {
        std::borrow::Cow::Borrowed(_) => return Ok(uri),
        std::borrow::Cow::Owned(normal) => normal,
    };
    let whole = match uri.query() {
        Some(query) => format!("{normal}?{query}"),
        None => normal,
    };
    let mut parts = uri.into_parts();
    parts.path_and_query =
        Some(PathAndQuery::try_from(whole).map_err(|_| Problem::invalid("the path cannot be read"))?);
    Uri::from_parts(parts).map_err(|_| Problem::invalid("the path cannot be read"))
}
