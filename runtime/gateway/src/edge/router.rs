//! What a request passes, in order, and where the parts of the gateway plug in.
//!
//! ```text
//!   Gateway::handle   form, path, load, id, trace          (serve.rs)
//!     cors            pages of other origins               (cors.rs)
//!     health, /docs   open to everybody                    (health.rs, openapi)
//!     admit           the route, who asks, how often       (here, auth)
//!       route         the target of the manifest's route   (here: `to_target`)
//!       own paths     /events/.., /openapi.json, ..        (here: `own`)
//! ```
//!
//! **To plug in.** Paths that the gateway serves by itself: merge the part's `router(edge)` in [`own`] and list its paths
//! in [`built_in`]. A target of routes: an arm in [`to_target`]. Who asks: [`admit`], which knows the route and whether it is
//! open before it decides. Handlers find a [`RequestContext`](super::RequestContext), a [`Caller`](super::auth::Caller) and, behind a route, a
//! [`Matched`] in the extensions of the request, read bodies with [`Edge::read_body`] and refuse with a [`Problem`].

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderValue, Method, Uri};
use tower::Layer as _;

use super::auth::{self, Caller, Gate, Wanted};
use super::body::BodyState;
use super::config::{EdgeConfig, EdgeConfigError};
use super::cors::CorsConfig;
use super::problem::{Problem, Refusal};
use super::routes::{Found, Matched, RouteTable, Target};
use super::serve::{Counted, Edge};
use super::{ask, events, health, live, openapi, pages, path, service};

/// The paths that the gateway serves by itself, as patterns; no route of the manifest can take them.
fn built_in() -> impl Iterator<Item = &'static str> {
    // Live push is at `/events` too, with GET.
    health::PATHS.into_iter().chain(events::PATHS).chain(openapi::PATHS).chain([auth::TICKETS])
}

/// What the gateway serves by itself, behind authentication.
fn own(edge: &Arc<Edge>) -> Router {
    events::router(edge).merge(openapi::router(edge)).merge(live::router(edge)).merge(auth::router(edge))
}

/// What describes the gateway: closed like everything else, unless the configuration says otherwise.
const DOCUMENTS: [&str; 2] = ["/openapi.json", "/docs"];

/// One configuration's way through the gateway.
struct Front {
    edge: Arc<Edge>,
    gate: Arc<Gate>,
    table: RouteTable,
    cors: Option<CorsConfig>,
    request_time: Duration,
}

impl Front {
    /// Whether a browser may have this done: what the gateway does by itself; a service decides about its own pages.
    fn check_page(&self, found: &Found, parts: &Parts, caller: &Caller) -> Result<(), Problem> {
        let target = match found {
            Found::Route(matched) => Some(&matched.route.target),
            _ => None,
        };
        if matches!(target, Some(Target::Service(_) | Target::File(_))) {
            return Ok(());
        }
        if self.gate.is_open_to_this_machine() {
            pages::check_host(&parts.headers, &parts.uri)?;
        }
        // Live push asks by itself, also for what is only read.
        if matches!(target, Some(Target::Events(_) | Target::SocketIo(_))) {
            return Ok(());
        }
        pages::check_origin(parts, caller, self.cors.as_ref())
    }
}

/// The routes of a configuration, beside the gateway's own paths.
pub(super) fn table(config: &EdgeConfig) -> Result<RouteTable, EdgeConfigError> {
    RouteTable::new(built_in(), &config.routes)
}

pub(super) fn compose(edge: &Arc<Edge>, config: &EdgeConfig, gate: Arc<Gate>) -> Result<Router, EdgeConfigError> {
    let table = table(config)?;
    let (cors, request_time) = (config.cors.clone(), config.limits.request_time);
    let front = Arc::new(Front { edge: Arc::clone(edge), gate, table, cors, request_time });
    let own = own(edge).method_not_allowed_fallback(wrong_method).fallback(nothing_there);
    // Around the router as a whole: a layer of it would let its `Allow` header out to those who are turned away.
    let guarded = middleware::from_fn_with_state(front, admit).layer(own);
    let open = health::router(edge).merge(openapi::open_router());
    let all = open.method_not_allowed_fallback(wrong_method).fallback_service(guarded);
    Ok(match &config.cors {
        // Outermost: a browser asks before it sends credentials.
        Some(cors) => cors.around(all),
        None => all,
    })
}

/// Who asks, and may they; then on to the route's target, or to what the gateway serves by itself.
async fn admit(State(front): State<Arc<Front>>, mut request: Request, next: Next) -> Response {
    let counted = request.extensions_mut().remove::<Arc<Counted>>();
    let found = front.table.find(request.method(), &path::for_lookup(request.uri().path()));
    let within = match &found {
        Found::Route(matched) => matched.route.timeout.unwrap_or(front.request_time),
        _ => front.request_time,
    };
    let is_long_poll =
        matches!(&found, Found::Route(Matched { route, .. }) if live::is_long_poll(&route.target, &request));
    let body = request.extensions().get::<Arc<BodyState>>().cloned();
    let answer = async {
        let (mut parts, body) = request.into_parts();
        let wanted = wanted(&found, parts.uri.path(), &front.gate);
        let admitted = match front.gate.admit(&mut parts, wanted).await {
            Ok(admitted) => admitted,
            Err(turned_away) => return turned_away.into_response(),
        };
        let mut caller = admitted.caller.clone();
        if let Err(foreign) = front.check_page(&found, &parts, &caller) {
            return foreign.into_response();
        }
        if let Found::Route(Matched { route, .. }) = &found
            && let Target::Events(patterns) = &route.target
        {
            caller.sees = Some(patterns.as_slice().into());
        }
        parts.extensions.insert(caller);
        let request = Request::from_parts(parts, body);
        let mut response = match found {
            Found::Route(matched) => to_target(&front.edge, matched, request).await,
            Found::OtherMethods { methods, .. } => other_methods(&methods).into_response(),
            Found::Nothing => next.run(request).await,
        };
        admitted.tell(response.headers_mut());
        response
    };
    if is_long_poll {
        // It waits for something to happen. How many do is bounded by listeners, how long by the pings of the transport.
        if let Some(counted) = counted {
            counted.end();
        }
        return answer.await;
    }
    tokio::time::timeout(within, answer).await.unwrap_or_else(|_| {
        if let Some(fault) = body.and_then(|body| body.overdue()) {
            return fault.into_response();
        }
        let detail = format!("there was no answer within {within:?}; the request may have taken effect all the same");
        Problem::new(Refusal::TimedOut, detail).into_response()
    })
}

/// What a request wants, as far as its route tells. What nobody opened is closed, also what is not there.
fn wanted<'a>(found: &'a Found, path: &str, gate: &Gate) -> Wanted<'a> {
    match found {
        Found::Route(Matched { route, .. }) => {
            // A page cannot add a header to what opens a WebSocket; Socket.IO has a packet for its credential.
            let asks_later = matches!(route.target, Target::SocketIo(_));
            Wanted { is_open: route.is_open, route: Some(&route.name), rate: route.rate, asks_later }
        }
        Found::OtherMethods { are_open, .. } => {
            Wanted { is_open: *are_open, route: None, rate: None, asks_later: false }
        }
        Found::Nothing => {
            let is_open = gate.are_documents_open() && DOCUMENTS.contains(&path);
            Wanted { is_open, route: None, rate: None, asks_later: false }
        }
    }
}

async fn to_target(edge: &Arc<Edge>, matched: Matched, mut request: Request) -> Response {
    let route = Arc::clone(&matched.route);
    request.extensions_mut().insert(matched);
    match &route.target {
        Target::Request(target) => ask::serve(edge, target, request).await,
        Target::Service(service) => service::answer(edge, service, request).await,
        Target::Events(patterns) => live::events(edge, patterns, request).await,
        Target::File(file) => file.answer(request.method()),
        Target::SocketIo(config) => live::socketio(edge, &route, config, request).await,
    }
}

fn other_methods(methods: &[Method]) -> Problem {
    let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let problem = Problem::new(Refusal::Method, format!("this path takes {allowed}"));
    match HeaderValue::from_str(&allowed) {
        Ok(allowed) => problem.header(ALLOW, allowed),
        Err(_) => problem,
    }
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Refusal::Method, format!("`{}` does not take {method}", shown(&uri)))
}

async fn nothing_there(uri: Uri) -> Problem {
    Problem::new(Refusal::NotFound, format!("there is nothing at `{}`", shown(&uri)))
}

/// The beginning of a path, for messages.
fn shown(uri: &Uri) -> String {
    uri.path().chars().take(120).collect()
}
