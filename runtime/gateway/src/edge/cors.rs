//! Which pages of browsers may use the gateway (CORS). Off unless the manifest lists origins.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use super::context::REQUEST_ID;

/// `[gateway.cors]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsConfig {
    /// The origins whose pages may read answers.
    pub origins: Origins,
    /// The methods that they may use.
    pub methods: Vec<Method>,
    /// The headers that they may send; whatever they ask for when nothing is listed.
    pub headers: Vec<HeaderName>,
    /// The headers of answers that they may read, beside those that every page may.
    pub expose: Vec<HeaderName>,
    /// Whether they may send cookies and client certificates. Not with any origin.
    pub credentials: bool,
    /// How long a browser may remember an answer to its question.
    pub max_age: Duration,
}

/// Origins of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// `"*"`: every page.
    Any,
    /// These, such as `https://shop.example`.
    Listed(Vec<HeaderValue>),
}

impl CorsConfig {
    /// These origins, and everything else at its default.
    pub fn new(origins: Origins) -> Self {
        let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let limits = ["ratelimit", "ratelimit-policy"].map(HeaderName::from_static);
        Self {
            origins,
            methods: methods.to_vec(),
            headers: Vec::new(),
            expose: [REQUEST_ID, RETRY_AFTER, WWW_AUTHENTICATE].into_iter().chain(limits).collect(),
            credentials: false,
            max_age: Duration::from_mins(10),
        }
    }

    /// Whether an origin may use the gateway.
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::Listed(listed) => listed.contains(origin),
        }
    }

    /// Around a router, so that pages may use what it serves. What is no question of a browser goes on as it is: a service
    /// may have an answer of its own to `OPTIONS`.
    pub(super) fn around(&self, inner: Router) -> Router {
        let asked = inner.clone().layer(self.layer());
        Router::new().fallback_service(service_fn(move |request: Request| {
            let is_plain = *request.method() == Method::OPTIONS
                && !(request.headers().contains_key(ORIGIN)
                    && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD));
            let router = if is_plain { inner.clone() } else { asked.clone() };
            router.oneshot(request)
        }))
    }

    /// An answer that no router gave, with what lets a page of this origin read it.
    pub(super) async fn answer(&self, origin: HeaderValue, response: Response) -> Response {
        let mut request = Request::default();
        request.headers_mut().insert(ORIGIN, origin);
        let mut answer = Some(response);
        let given = service_fn(move |_: Request| {
            std::future::ready(Ok::<Response, Infallible>(answer.take().unwrap_or_default()))
        });
        let answered: Result<Response, Infallible> = self.layer().layer(given).oneshot(request).await;
        answered.unwrap_or_else(|never| match never {})
    }

    fn layer(&self) -> CorsLayer {
        let origins = match &self.origins {
            Origins::Any => AllowOrigin::any(),
            Origins::Listed(listed) => AllowOrigin::list(listed.iter().cloned()),
        };
        let headers = match &self.headers[..] {
            // Which of them mean something is decided by what is behind; none has power before authentication.
            [] => AllowHeaders::mirror_request(),
            listed => AllowHeaders::list(listed.iter().cloned()),
        };
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(AllowMethods::list(self.methods.iter().cloned()))
            .allow_headers(headers)
            .expose_headers(self.expose.clone())
            // Any origin with credentials would be every page acting as its visitor.
            .allow_credentials(self.credentials && self.origins != Origins::Any)
            .max_age(self.max_age)
    }
}
