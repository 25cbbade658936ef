//! A file that is served as it is: a page beside the routes that it uses.
//!
//! Invariant: the file is read with the configuration and never for a request, so there is no path that a request could
//! change, and a change of the file is a change of the configuration.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method};

use super::problem::{Problem, Refusal};

/// A file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedFile {
    /// Its media type.
    pub media_type: &'static str,
    /// What is in it.
    pub bytes: Bytes,
}

impl ServedFile {
    /// The largest.
    pub const MAX_BYTES: usize = 4 * 1024 * 1024;

    /// The media type of a file of this name; none when it is not known what browsers do with it.
    pub fn media_type(name: &str) -> Option<&'static str> {
        let (_, extension) = name.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "js" | "mjs" => "text/javascript; charset=utf-8",
            "json" => "application/json",
            "txt" => "text/plain; charset=utf-8",
            "svg" => "image/svg+xml",
            "png" => "image/png",
            "ico" => "image/vnd.microsoft.icon",
            "wasm" => "application/wasm",
            _ => return None,
        })
    }

    pub(super) fn answer(&self, method: &Method) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let problem = Problem::new(Refusal::Method, format!("a file takes no {method}"));
            return problem.header(ALLOW, HeaderValue::from_static("GET,HEAD")).into_response();
        }
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(self.media_type)),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        (headers, Body::from(self.bytes.clone())).into_response()
    }
}
