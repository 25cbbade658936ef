//! Which pages of browsers may use the gateway (CORS). Off unless the manifest lists origins.

use std::time::Duration;

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method};
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

    pub(super) fn layer(&self) -> CorsLayer {
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
