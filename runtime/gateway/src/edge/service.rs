//! Routes to components: a request becomes what `wasmtime serve` would give the component, and goes to the node.
//!
//! Role: the last step before [`EdgeBackend::http`](super::EdgeBackend::http). The component sees the whole path and query,
//! the authority and the scheme of the connection. Invariants: what is of the connection and not of the request stays here
//! (RFC 9110, 7.6.1); the id and the trace that the component sees are those of the gateway, never what a client made up
//! and the gateway did not accept; the scheme is what the connection is, whatever the client says.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use busway_types::ServiceName;
use http::header::{CONNECTION, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Parts, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body_util::BodyExt as _;

use super::auth::is_ours;
use super::backend::EdgeError;
use super::body::BodyState;
use super::context::{REQUEST_ID, RequestContext, TRACEPARENT};
use super::problem::{Problem, Refusal};
use super::serve::Edge;

/// Headers of the connection, beside those that `Connection` names.
const OF_THE_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Lets a service answer.
pub(super) async fn answer(edge: &Edge, service: &ServiceName, mut request: Request) -> Response {
    let context = request.extensions().get::<RequestContext>().cloned();
    strip(request.headers_mut());
    let is_tls = context.as_ref().is_some_and(|context| context.peer.is_tls);
    if is_tls || request.uri().scheme().is_some() {
        let uri = with_scheme(request.uri(), request.headers(), is_tls);
        *request.uri_mut() = uri;
    }
    if let Some(context) = context {
        trace(request.headers_mut(), &context);
    }
    let body = request.extensions().get::<Arc<BodyState>>().cloned();
    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    match edge.backend.http(service, request).await {
        Ok(response) => response.map(Body::new),
        // The route is there; the service is not, now.
        Err(EdgeError::NotFound(detail)) => Problem::new(Refusal::Unavailable, detail).into_response(),
        // A service that fails over a body that broke off did not fail by itself.
        Err(error @ (EdgeError::BadAnswer(_) | EdgeError::TimedOut(_))) => {
            body.and_then(|body| body.fault()).unwrap_or_else(|| error.into()).into_response()
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// Takes out what is of the connection.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // Whoever names these wants the component to see another request than the gateway decided on.
            .filter(|name| *name != HOST && *name != REQUEST_ID && !is_ours(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
}

fn trace(headers: &mut HeaderMap, context: &RequestContext) {
    headers.insert(REQUEST_ID, context.id.clone());
    match context.traceparent.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        Some(traceparent) => drop(headers.insert(TRACEPARENT, traceparent)),
        None => drop(headers.remove(TRACEPARENT)),
    }
}

/// The whole address, with the scheme of the connection; as it was when it names no host.
fn with_scheme(uri: &Uri, headers: &HeaderMap, is_tls: bool) -> Uri {
    let host = || headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let Some(authority) = uri.authority().cloned().or_else(host) else { return uri.clone() };
    let mut parts = Parts::default();
    parts.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    parts.path_and_query =
        Some(uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::context::Peer;

    fn headers(given: &[(&str, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_of_the_connection_stays_here() {
        let mut given = headers(&[
            ("connection", "close, X-Secret,host, x-request-id, X-Busway-Caller"),
            ("x-busway-caller", "key:shop"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x-secret", "1"),
            ("x-request-id", "r"),
            ("host", "a"),
            ("accept", "*/*"),
        ]);
        strip(&mut given);
        assert_eq!(names(&given), ["accept", "host", "x-busway-caller", "x-request-id"]);
    }

    #[test]
    fn id_and_trace_are_those_of_the_gateway() {
        let peer = Peer { addr: ([127, 0, 0, 1], 1).into(), is_tls: false, certificate: None };
        let mut context =
            RequestContext { id: HeaderValue::from_static("good"), traceparent: None, peer: Arc::new(peer) };
        let mut given = headers(&[("x-request-id", "a b"), ("x-request-id", "c"), ("traceparent", "made up")]);
        trace(&mut given, &context);
        assert_eq!(given.get_all(REQUEST_ID).iter().collect::<Vec<_>>(), ["good"]);
        assert!(!given.contains_key(TRACEPARENT));
        context.traceparent = Some("00-1".into());
        trace(&mut given, &context);
        assert_eq!(given[TRACEPARENT], "00-1");
    }

    #[test]
    fn the_scheme_is_what_the_connection_is() {
        let host = headers(&[("host", "shop.example:8443")]);
        let of = |uri: &str, is_tls| with_scheme(&uri.parse().expect("an address"), &host, is_tls).to_string();
        assert_eq!(of("/a?b=c", true), "https://shop.example:8443/a?b=c");
        assert_eq!(of("https://other.example/a", false), "http://other.example/a");
        assert_eq!(with_scheme(&"/a".parse().expect("an address"), &HeaderMap::new(), true), "/a");
    }
}
