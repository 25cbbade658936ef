//! Refusals on the wire: problem documents (RFC 9457).
//!
//! Role: every part of the gateway refuses with a [`Problem`]. Invariants: each kind has one status and one stable `type`;
//! `503` carries `Retry-After`; nothing of the inside of the node, no secret and no stack is ever in one.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::backend::EdgeError;

/// What every `type` begins with; a word such as `overloaded` follows.
pub(crate) const TYPE_PREFIX: &str = "urn:busway:problem:";

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is not valid (400).
    Invalid,
    /// Who asks is not known (401).
    Unauthorized,
    /// Who asks may not do that (403).
    Forbidden,
    /// There is no such thing (404).
    NotFound,
    /// The path exists, but not with this method (405).
    Method,
    /// The request came in too slowly (408).
    Slow,
    /// It contradicts what is there (409).
    Conflict,
    /// Larger than allowed (413).
    TooLarge,
    /// A media type that is not understood (415).
    MediaType,
    /// Well-formed, but it breaks the contract of its topic (422).
    Contract,
    /// More requests than allowed (429).
    TooMany,
    /// Headers larger or more than allowed (431).
    Headers,
    /// The node failed (500).
    Failed,
    /// Whoever should have answered failed (502).
    BadAnswer,
    /// No room now (503).
    Overloaded,
    /// Nobody answers there now (503).
    Unavailable,
    /// The node is shutting down (503).
    Stopping,
    /// No answer in time (504).
    TimedOut,
}

impl Refusal {
    /// All of them, in order.
    pub const ALL: [Self; 18] = [
        Self::Invalid,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Method,
        Self::Slow,
        Self::Conflict,
        Self::TooLarge,
        Self::MediaType,
        Self::Contract,
        Self::TooMany,
        Self::Headers,
        Self::Failed,
        Self::BadAnswer,
        Self::Overloaded,
        Self::Unavailable,
        Self::Stopping,
        Self::TimedOut,
    ];

    /// Status, the last word of the type, title.
    fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Invalid => (StatusCode::BAD_REQUEST, "invalid", "The request is not valid"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Credentials are missing or wrong"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "That is not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method", "The path has no such method"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "slow", "The request came in too slowly"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "That contradicts what is there"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Larger than allowed"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Not a media type for this"),
            Self::Contract => (StatusCode::UNPROCESSABLE_ENTITY, "contract", "It breaks the contract"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests"),
            Self::Headers => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers", "Too many or too large headers"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed", "The node failed"),
            Self::BadAnswer => (StatusCode::BAD_GATEWAY, "bad-answer", "The service failed"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "No room now"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Nobody answers there now"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", "The node is shutting down"),
            Self::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "timed-out", "No answer in time"),
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.facts().0
    }

    /// The word that ends the `type`.
    pub fn word(self) -> &'static str {
        self.facts().1
    }
}

/// One refusal. Becomes a response; headers that belong to its kind (`Retry-After`, `WWW-Authenticate`) go with it.
#[derive(Clone, Debug)]
pub struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    refusal: Refusal,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A refusal; `detail` says what is wrong here and what would be right, and is shown to whoever asked.
    pub fn new(refusal: Refusal, detail: impl Into<String>) -> Self {
        let mut problem =
            Self(Box::new(Inner { refusal, detail: detail.into(), members: Map::new(), headers: Vec::new() }));
        if refusal.status() == StatusCode::SERVICE_UNAVAILABLE {
            problem.0.headers.push((RETRY_AFTER, HeaderValue::from_static("1")));
        }
        problem
    }

    /// A request that is not valid.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Refusal::Invalid, detail)
    }

    /// Adds a member such as `index` (which element of a batch, from 0) or `path` (which field).
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    /// Adds or replaces a header of the response.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.retain(|(known, _)| *known != name);
        self.0.headers.push((name, value));
        self
    }

    /// What kind it is.
    pub fn refusal(&self) -> Refusal {
        self.0.refusal
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.refusal.status()
    }

    /// What is wrong here.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The document.
    pub fn document(&self) -> Value {
        let (status, word, title) = self.0.refusal.facts();
        // A member cannot hide one that RFC 9457 defines.
        let mut document = self.0.members.clone();
        document.insert("type".to_owned(), format!("{TYPE_PREFIX}{word}").into());
        document.insert("title".to_owned(), title.into());
        document.insert("status".to_owned(), status.as_u16().into());
        document.insert("detail".to_owned(), self.0.detail.as_str().into());
        Value::Object(document)
    }
}

impl From<EdgeError> for Problem {
    fn from(error: EdgeError) -> Self {
        match error {
            EdgeError::Invalid { detail, index, path, is_contract } => {
                let refusal = if is_contract { Refusal::Contract } else { Refusal::Invalid };
                let mut problem = Self::new(refusal, detail);
                if let Some(index) = index {
                    problem = problem.with("index", index);
                }
                if let Some(path) = path {
                    problem = problem.with("path", path);
                }
                problem
            }
            EdgeError::TooLarge(detail) => Self::new(Refusal::TooLarge, detail),
            EdgeError::NotFound(detail) => Self::new(Refusal::NotFound, detail),
            EdgeError::Overloaded(detail) => Self::new(Refusal::Overloaded, detail),
            EdgeError::Slow(detail) => Self::new(Refusal::Slow, detail),
            EdgeError::TimedOut(detail) => Self::new(Refusal::TimedOut, detail),
            EdgeError::BadAnswer(detail) => Self::new(Refusal::BadAnswer, detail),
            EdgeError::Stopping => Self::new(Refusal::Stopping, "the node is shutting down and takes nothing new"),
            EdgeError::Failed(reason) => {
                tracing::error!(reason, "a request to the gateway failed inside the node");
                Self::new(Refusal::Failed, "the node failed; its operator finds the reason in the log")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.document().to_string();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(self.0.headers);
        // For the figures; whoever answers for a service leaves it out.
        response.extensions_mut().insert(self.0.refusal);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_contract_names_the_element_and_the_field() {
        let error = EdgeError::Invalid {
            detail: "`lines[0].quantity`: expected u32".into(),
            index: Some(2),
            path: Some("lines[0].quantity".into()),
            is_contract: true,
        };
        let document = Problem::from(error).document();
        assert_eq!(document["type"], "urn:busway:problem:contract");
        assert_eq!((&document["status"], &document["index"]), (&422.into(), &2.into()));
        assert_eq!(document["path"], "lines[0].quantity");
    }

    #[test]
    fn the_inside_of_the_node_is_not_told_and_members_hide_nothing() {
        let problem = Problem::from(EdgeError::Failed("a secret path".into())).with("status", 200);
        let document = problem.document();
        assert_eq!(document["status"], 500);
        assert!(!document.to_string().contains("secret"), "{document}");
    }

    #[test]
    fn whoever_is_turned_away_for_now_is_told_when_to_come_back() {
        for refusal in [Refusal::Overloaded, Refusal::Unavailable, Refusal::Stopping] {
            let response = Problem::new(refusal, "later").into_response();
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()[RETRY_AFTER], "1");
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        }
        let slower = Problem::new(Refusal::Overloaded, "later").header(RETRY_AFTER, HeaderValue::from_static("5"));
        let response = slower.into_response();
        assert_eq!(response.headers().get_all(RETRY_AFTER).iter().collect::<Vec<_>>(), ["5"]);
    }
}
