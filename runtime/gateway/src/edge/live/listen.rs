//! A request to listen: as Server-Sent Events, or as a WebSocket when the client asks for one.

use std::sync::{Arc, Weak};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts as _, Request};
use axum::response::{IntoResponse, Response};
use busway_types::Pattern;
use http::header::{ALLOW, UPGRADE};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Uri};
use tokio::sync::watch;
use tokio::time::Instant;
use url::form_urlencoded;

use super::config::LiveConfig;
use super::feed::{Feed, Start};
use super::permit::Permit;
use super::places::{Place, Places};
use super::render::Form;
use super::{may_see_any, no_place, origin, patterns, sse, ws};
use crate::admin::api::TailFrom;
use crate::edge::auth::{Caller, Client};
use crate::edge::problem::{Problem, Refusal};
use crate::edge::{CorsConfig, Edge, EdgeBackend, Matched, RequestContext};

/// The subprotocol of a WebSocket, for clients that offer any.
const SUBPROTOCOL: &str = "busway";

/// Everything that listening needs, of the configuration of this moment.
#[derive(Clone)]
pub(crate) struct Listening {
    pub(crate) backend: Arc<dyn EdgeBackend>,
    pub(crate) config: Arc<LiveConfig>,
    pub(crate) places: Arc<Places>,
    /// Who may go on listening.
    pub(crate) edge: Weak<Edge>,
    pub(crate) stop: watch::Receiver<bool>,
    /// The pages, beside those of this host, that may open a WebSocket.
    pub(crate) cors: Option<CorsConfig>,
}

/// What a query asks for.
#[derive(Debug, Default)]
struct Asked {
    topics: Vec<String>,
    from: Option<String>,
    form: Form,
}

impl Listening {
    /// Answers a request to listen; with the topics of a route to whoever may use it, without to each as they may see.
    pub(crate) async fn answer(&self, request: Request, route: Option<Arc<[Pattern]>>) -> Response {
        let (parts, _) = request.into_parts();
        let answered = if parts.headers.contains_key(UPGRADE) {
            self.upgrade(parts, route).await
        } else {
            self.stream(&parts, route).await
        };
        answered.unwrap_or_else(IntoResponse::into_response)
    }

    async fn stream(&self, request: &Parts, route: Option<Arc<[Pattern]>>) -> Result<Response, Problem> {
        only_get(&request.method)?;
        let asked = Asked::parse(request.uri.query())?;
        let patterns = patterns(&asked.topics, route.as_ref(), self.config.patterns)?;
        let behind = request.headers.get("last-event-id").filter(|id| !id.is_empty());
        let from = match (behind, asked.from) {
            // A browser that comes back says both, for its address is the same as before.
            (Some(id), _) => Start::parse(id.to_str().unwrap_or("?")),
            (None, Some(from)) => Start::parse(&from),
            (None, None) => Ok(Start::From(TailFrom::Now)),
        };
        let from = from.map_err(Problem::invalid)?;
        let (permit, place) = self.enter(request)?;
        let caller = route.is_none().then(|| permit.caller.clone());
        caller.as_ref().map_or(Ok(()), |caller| may_see_any(caller, &patterns))?;
        let feed = Feed::open(self.backend.clone(), patterns, caller, from).await?;
        Ok(sse::response(sse::Stream {
            feed,
            form: asked.form,
            heartbeat: self.config.heartbeat,
            until: Instant::now() + self.config.stream_time,
            stop: self.stop.clone(),
            over: Box::pin(permit.over()),
            place,
        }))
    }

    async fn upgrade(&self, mut request: Parts, route: Option<Arc<[Pattern]>>) -> Result<Response, Problem> {
        only_get(&request.method)?;
        self.check_origin(&request.headers, &request.uri)?;
        let (permit, place) = self.enter(&request)?;
        let traceparent = request.extensions.get::<RequestContext>().and_then(|context| context.traceparent.clone());
        let upgrade = WebSocketUpgrade::from_request_parts(&mut request, &()).await;
        let upgrade = upgrade.map_err(|error| Problem::invalid(error.to_string()))?;
        let session = ws::Session {
            backend: self.backend.clone(),
            config: self.config.clone(),
            edge: self.edge.clone(),
            caller: permit.caller.clone(),
            over: Box::pin(permit.over()),
            route,
            traceparent,
            until: Instant::now() + self.config.stream_time,
            stop: self.stop.clone(),
            place,
        };
        // What is a little too large is told so with a close code, what is far too large ends the connection.
        let most = self.config.message_bytes * 2;
        // A browser that offers subprotocols, one of them a credential perhaps, ends a connection for which none is taken.
        let upgrade = upgrade.protocols([SUBPROTOCOL]);
        let upgrade = upgrade.max_message_size(most).max_frame_size(most).write_buffer_size(0);
        Ok(upgrade.on_upgrade(move |socket| ws::serve(socket, session)))
    }

    /// Whether the page that asks may; browsers do not ask for that themselves.
    pub(crate) fn check_origin(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        if origin::is_allowed(headers, uri, |origin| self.cors.as_ref().is_some_and(|cors| cors.allows(origin))) {
            return Ok(());
        }
        Err(Problem::new(
            Refusal::Forbidden,
            "pages of this origin may not connect; allow it in `[gateway.cors] origins`",
        ))
    }

    fn enter(&self, request: &Parts) -> Result<(Permit, Place), Problem> {
        let who = who(&request.extensions)?;
        let place = self.places.take(&who, self.config.listeners, self.config.listeners_per_caller);
        Ok((self.permit(&request.extensions), place.map_err(no_place)?))
    }

    /// What a request came in by.
    pub(crate) fn permit(&self, extensions: &Extensions) -> Permit {
        Permit {
            edge: self.edge.clone(),
            caller: extensions.get::<Caller>().cloned().unwrap_or_else(Caller::anonymous),
            route: extensions.get::<Matched>().map(|matched| Arc::clone(&matched.route)),
        }
    }
}

/// Whose places a request counts for.
pub(crate) fn who(extensions: &Extensions) -> Result<Client, Problem> {
    extensions.get::<Client>().cloned().ok_or_else(|| Problem::new(Refusal::Failed, "the gateway has lost who asks"))
}

fn only_get(method: &Method) -> Result<(), Problem> {
    if *method == Method::GET {
        return Ok(());
    }
    let problem = Problem::new(Refusal::Method, format!("events are listened to with GET, not with {method}"));
    Err(problem.header(ALLOW, http::HeaderValue::from_static("GET")))
}

impl Asked {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "topic" => asked.topics.push(value.into_owned()),
                "from" => asked.from = Some(value.into_owned()),
                "format" => {
                    asked.form = Form::parse(&value).ok_or_else(|| {
                        Problem::invalid(format!("`{value}` is no format; give `cloudevents` or `data`"))
                    })?;
                }
                // Other parameters belong to somebody else, an authentication perhaps.
                _ => {}
            }
        }
        Ok(asked)
    }
}
