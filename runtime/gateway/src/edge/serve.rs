//! The gateway as a whole: its state, its configuration in use, and what every request passes first.
//!
//! [`Edge`] is what handlers share; [`Gateway`] is what the node holds: it owns the router in use and exchanges it on
//! [`Gateway::reload`]. Invariants: a request is served by one configuration from its beginning to its end; a configuration
//! that cannot be served changes nothing; at most `requests_at_once` requests are being answered.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use busway_types::{Clock, Timestamp};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri, Version};
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::auth::Gate;
use super::backend::EdgeBackend;
use super::body::{BodyState, GuardedBody, PERMIT_BYTES};
use super::config::{EdgeConfig, EdgeConfigError};
use super::context::{Peer, REQUEST_ID, RequestContext, RequestIds, traceparent};
use super::figures::{Counters, EdgeFigures};
use super::limits::EdgeLimits;
use super::live::LiveState;
use super::problem::{Problem, Refusal};
use super::tls::{self, Loaded, TlsError, Watched};
use super::{health, path, router};

/// What the handlers of the gateway share.
pub struct Edge {
    /// The node.
    pub(crate) backend: Arc<dyn EdgeBackend>,
    config: ArcSwap<EdgeConfig>,
    /// Set before `stopping`.
    is_leaving: AtomicBool,
    /// Who is let in, by the configuration in use.
    pub(super) gate: ArcSwap<Gate>,
    clock: Arc<dyn Clock>,
    reloads: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
    /// The budget for bodies in memory, [`PERMIT_BYTES`] each.
    pub(super) buffered: Arc<Semaphore>,
    pub(super) counters: Counters,
    pub(super) live: LiveState,
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

    /// Whether the gateway is on its way to the end; it may still serve for a while.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Tells when the gateway ends: streams say so to their clients and end.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Changes with each configuration, once it is in use.
    pub(crate) fn reloads(&self) -> watch::Receiver<u64> {
        self.reloads.subscribe()
    }

    /// What was counted.
    pub fn figures(&self) -> EdgeFigures {
        self.counters.read()
    }
}

/// The time of the node, and how long something takes by the runtime's timer.
struct EdgeClock {
    backend: Arc<dyn EdgeBackend>,
    origin: Instant,
}

impl fmt::Debug for EdgeClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeClock")
    }
}

impl Clock for EdgeClock {
    fn now(&self) -> Timestamp {
        self.backend.now()
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The gateway of one node.
pub struct Gateway {
    pub(super) edge: Arc<Edge>,
    router: ArcSwap<Router>,
    folder: Option<PathBuf>,
    /// What TLS connections are begun with; none when they are not encrypted.
    pub(super) tls: ArcSwapOption<ServerConfig>,
    certificates: Mutex<Certificates>,
    /// Held by whoever changes what is in use, so that nobody undoes what another one did meanwhile.
    changing: Mutex<()>,
}

/// Where the certificate in use comes from.
#[derive(Default)]
struct Certificates {
    watched: Watched,
    self_made: Option<PathBuf>,
}

/// What a gateway gets from its node beside its configuration.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// A random number, for ids of requests.
    pub seed: u64,
    /// Where the gateway keeps what it makes: a self-made certificate. Without a folder that is made anew at each start.
    pub folder: Option<PathBuf>,
    /// Whether others than this machine reach the address at which it listens.
    pub is_public: bool,
}

impl Gateway {
    /// A gateway to a node.
    pub fn new(backend: Arc<dyn EdgeBackend>, config: EdgeConfig, setup: Setup) -> Result<Arc<Self>, EdgeConfigError> {
        let Setup { seed, folder, is_public } = setup;
        let buffered = Arc::new(Semaphore::new(config.limits.buffered_bytes.div_ceil(PERMIT_BYTES)));
        let clock: Arc<dyn Clock> = Arc::new(EdgeClock { backend: Arc::clone(&backend), origin: Instant::now() });
        let gate = Arc::new(Gate::of(&config, &clock, None, is_public)?);
        let edge = Arc::new(Edge {
            backend,
            config: ArcSwap::from_pointee(config),
            is_leaving: AtomicBool::new(false),
            gate: ArcSwap::new(Arc::clone(&gate)),
            clock,
            reloads: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            buffered,
            counters: Counters::default(),
            live: LiveState::default(),
            ids: RequestIds::new(seed),
        });
        let config = edge.config.load_full();
        let router = router::compose(&edge, &config, gate)?;
        let gateway = Self {
            edge,
            router: ArcSwap::from_pointee(router),
            folder,
            tls: ArcSwapOption::empty(),
            certificates: Mutex::default(),
            changing: Mutex::default(),
        };
        let loaded = gateway.load_tls(&config)?;
        gateway.use_tls(loaded);
        Ok(Arc::new(gateway))
    }

    fn load_tls(&self, config: &EdgeConfig) -> Result<Option<Loaded>, TlsError> {
        config.tls.as_ref().map(|tls| tls::load(tls, self.folder.as_deref())).transpose()
    }

    fn use_tls(&self, loaded: Option<Loaded>) {
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        *certificates = Certificates::default();
        let server = loaded.map(|loaded| {
            *certificates = Certificates { watched: Watched::new(loaded.files), self_made: loaded.self_made };
            loaded.server
        });
        self.tls.store(server);
    }

    /// Looks whether the files of certificates changed, and uses what is in them from the next connection on.
    pub(super) fn look_at_certificates(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_changed = self.certificates.lock().unwrap_or_else(PoisonError::into_inner).watched.look();
        if !is_changed {
            return;
        }
        match self.load_tls(&self.edge.config.load_full()) {
            Ok(loaded) => {
                self.use_tls(loaded);
                tracing::info!("the gateway uses the changed certificate");
            }
            // They are often replaced one by one; the next change is looked at again.
            Err(error) => tracing::warn!(%error, "the changed certificate cannot be used; the one before goes on"),
        }
    }

    /// Whether connections are encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls.load().is_some()
    }

    /// The file with the self-made certificate, for whoever is to trust it.
    pub fn self_made(&self) -> Option<PathBuf> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).self_made.clone()
    }

    /// What its handlers share.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// Serves another configuration from the next request on; connections stay. One that cannot be served changes nothing.
    pub fn reload(&self, config: EdgeConfig) -> Result<(), EdgeConfigError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let edge = &self.edge;
        let gate = Arc::new(Gate::of(&config, &edge.clock, Some(&edge.gate.load()), false)?);
        let router = router::compose(edge, &config, Arc::clone(&gate))?;
        let loaded = self.load_tls(&config)?;
        self.use_tls(loaded);
        let config = Arc::new(config);
        edge.config.store(Arc::clone(&config));
        edge.live.keep(&config);
        edge.gate.store(gate);
        self.router.store(Arc::new(router));
        edge.reloads.send_modify(|reloads| *reloads += 1);
        Ok(())
    }

    /// Does what goes on beside requests, by the configuration in use; never ends, and may be dropped at any time.
    pub(super) async fn maintain(&self) {
        let mut reloads = self.edge.reloads.subscribe();
        loop {
            let gate = self.edge.gate.load_full();
            tokio::select! {
                () = gate.maintain() => {}
                // The sender lives as long as the gateway.
                _ = reloads.changed() => {}
            }
        }
    }

    /// Readiness goes; everything else goes on.
    pub(super) fn leave(&self) {
        self.edge.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Streams are told to end, connections end after the request that they have.
    pub(super) fn stop(&self) {
        self.leave();
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
        // What is asked for in the query, and what authenticates, stays out of the log.
        let told = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| (request.method().clone(), request.uri().path().to_owned(), Instant::now()));
        let origin = config.cors.as_ref().and_then(|_| request.headers().get(ORIGIN).cloned());
        let mut response = match self.accept(request, context, &config.limits) {
            Ok((request, _in_flight)) => {
                let router = Router::clone(&self.router.load());
                let answered: Result<Response, Infallible> = router.oneshot(request).await;
                answered.unwrap_or_else(|never| match never {})
            }
            Err(problem) => match (&config.cors, origin) {
                // A page may read why it was turned away, and when to come back.
                (Some(cors), Some(origin)) => cors.answer(origin, problem.into_response()).await,
                _ => problem.into_response(),
            },
        };
        self.edge.counters.answered(response.extensions().get::<Refusal>().copied());
        if let Some((method, path, began)) = told {
            let (status, micros) = (response.status().as_u16(), began.elapsed().as_micros());
            tracing::debug!(id = ?id, client = %peer.addr, %method, path, status, micros, "answered");
        }
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
        let is_health = health::PATHS.contains(&request.uri().path());
        if in_flight.count > limits.requests_at_once && !is_health {
            return Err(Problem::new(Refusal::Overloaded, "too many requests at once; send it again later"));
        }
        check_form(&request, limits)?;
        let (mut parts, body) = request.into_parts();
        parts.uri = one_spelling(parts.uri)?;
        let state = Arc::new(BodyState::default());
        parts.extensions.insert(context);
        parts.extensions.insert(Arc::clone(&state));
        parts.extensions.insert(Arc::clone(&in_flight.counted));
        Ok((Request::from_parts(parts, Body::new(GuardedBody::new(body, limits, state))), in_flight))
    }
}

/// Counts a request as long as it is being answered.
struct InFlight {
    counted: Arc<Counted>,
    /// How many there were with it.
    count: usize,
}

impl InFlight {
    fn new(edge: &Arc<Edge>) -> Self {
        let count = edge.counters.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        Self { counted: Arc::new(Counted { edge: Arc::clone(edge), is_over: AtomicBool::new(false) }), count }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counted.end();
    }
}

/// That a request is counted, in its extensions until its route is known.
pub(super) struct Counted {
    edge: Arc<Edge>,
    is_over: AtomicBool,
}

impl Counted {
    /// It does not count any more: it is answered, or waits and has another bound.
    pub(super) fn end(&self) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            self.edge.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
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
