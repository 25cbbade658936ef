//! Routes to functions of contracts: a request over HTTP becomes a request over the bus, and its answer the response.
//!
//! ```text
//!   path, query, body --> data --> EdgeBackend::request --> ok 200, none 204, err 422 (or as the route says)
//! ```
//!
//! Where parameters come from, by name: those in the path of the route from the path; the others from the query or from the
//! body, which is a JSON object with a member for each, or, if the route says `body = "NAME"`, that one parameter alone.
//! Texts become values by the type of the parameter; what does not fit is told with the name of the parameter.
//!
//! Invariants: nothing is asked that does not fit the contract (the node checks what is put together here); nobody waits
//! longer than the route allows, and a caller can only shorten that.

mod check;
mod data;
mod reply;
mod target;
mod value;

use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use busway_types::Key;
use http::{HeaderMap, HeaderName};

use super::problem::{Problem, Refusal};
use super::units::duration;
use super::{Edge, EdgeBackend, EdgeError, EdgeRequest, Matched, RequestContext};

pub(crate) use check::{path_params, problems};
pub use target::{FunctionName, InvalidFunctionName, RequestTarget};

/// A caller waits no longer than this; longer than the route allows is the same as not saying it.
pub(crate) const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// Answers a request to a route that leads to a function.
pub(super) async fn serve(edge: &Edge, target: &RequestTarget, request: Request) -> Response {
    served(edge, target, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn served(edge: &Edge, target: &RequestTarget, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = edge.read_body(body).await?;
    let matched = parts.extensions.get::<Matched>();
    let within = matched.and_then(|matched| matched.route.timeout);
    let context = parts.extensions.get::<RequestContext>();
    let asked = Asked {
        target,
        path: matched.map_or(&[], |matched| &matched.params),
        query: parts.uri.query(),
        headers: &parts.headers,
        body: body.bytes(),
        traceparent: context.and_then(|context| context.traceparent.clone()),
        id: context.map(|context| context.id().into()),
        within: within.unwrap_or_else(|| edge.config().limits.request_time),
    };
    answer(edge.backend(), asked).await
}

/// A request to a route, as far as it matters for the answer.
pub(crate) struct Asked<'r> {
    pub(crate) target: &'r RequestTarget,
    /// The parameters of the path, decoded.
    pub(crate) path: &'r [(Box<str>, Box<str>)],
    pub(crate) query: Option<&'r str>,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) body: &'r [u8],
    pub(crate) traceparent: Option<Box<str>>,
    /// The id of the request.
    pub(crate) id: Option<Box<str>>,
    /// What the route allows.
    pub(crate) within: Duration,
}

/// Asks over the bus.
async fn answer(backend: &dyn EdgeBackend, asked: Asked<'_>) -> Result<Response, Problem> {
    let name = &asked.target.function;
    let nobody = || Problem::new(Refusal::Unavailable, format!("no service that runs now answers `{name}`"));
    let within = within(&asked)?;
    let contracts = backend.contracts();
    let (contract, function) = name.find(&contracts).ok_or_else(nobody)?;
    let topic = contract.id.topic(&function.name).map_err(|_| nobody())?;
    let data::Data { json, key } = data::read(function, &asked)?;
    // A key that cannot be one orders nothing; the function gets it all the same.
    let key = key.and_then(|key| Key::new(&key, backend.limits()).ok());
    let (traceparent, correlation) = (asked.traceparent.clone(), asked.id.clone());
    let request = EdgeRequest { topic, key, data: json.into(), within, traceparent, correlation };
    match backend.request(request).await {
        Ok(answer) => reply::response(asked.target, function, &answer),
        Err(EdgeError::NotFound(_)) => Err(nobody()),
        Err(error) => Err(data::located(error, function)),
    }
}

fn within(asked: &Asked<'_>) -> Result<Duration, Problem> {
    let Some(given) = asked.headers.get(REQUEST_TIMEOUT) else { return Ok(asked.within) };
    let wanted = given.to_str().ok().and_then(duration).filter(|wanted| !wanted.is_zero());
    let wrong = || {
        let detail =
            "the header `request-timeout` is not a duration; write a whole number and a unit, such as 500ms or 2s";
        Problem::invalid(detail).with("parameter", REQUEST_TIMEOUT.as_str())
    };
    Ok(wanted.ok_or_else(wrong)?.min(asked.within))
}
