//! Answers of functions as responses.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use busway_contract::{Function, Type};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::RequestTarget;
use crate::edge::problem::{Problem, Refusal, TYPE_PREFIX};

/// The name in `errors` that stands for every other case.
pub(super) const ANY: &str = "*";

/// The problem document of an error that a function returned.
#[derive(Serialize)]
struct Refused<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    /// The value, as it travels.
    error: &'a RawValue,
}

pub(super) fn response(target: &RequestTarget, function: &Function, answer: &[u8]) -> Result<Response, Problem> {
    let wrong = |_| Problem::new(Refusal::BadAnswer, "the answer of the service is no JSON");
    let value: &RawValue = serde_json::from_slice(answer).map_err(wrong)?;
    if !matches!(function.result, Some(Type::Result(..))) {
        return Ok(value_response(value));
    }
    let sides: BTreeMap<&str, &RawValue> = serde_json::from_str(value.get()).map_err(wrong)?;
    match (sides.get("ok"), sides.get("err")) {
        (Some(value), None) => Ok(value_response(value)),
        (None, Some(error)) => Ok(refused(target, error)),
        _ => Err(Problem::new(Refusal::BadAnswer, "the answer of the service is neither `ok` nor `err`")),
    }
}

fn value_response(value: &RawValue) -> Response {
    if value.get() == "null" {
        return StatusCode::NO_CONTENT.into_response();
    }
    let mut response = value.get().to_owned().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refused(target: &RequestTarget, error: &RawValue) -> Response {
    let (case, payload) = case(error);
    let text: Option<String> = serde_json::from_str(payload.unwrap_or(error).get()).ok();
    let named = case.as_deref().and_then(|case| target.errors.get(case));
    let status = named.or_else(|| target.errors.get(ANY)).copied().unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    let document = Refused {
        kind: format!("{TYPE_PREFIX}refused"),
        title: "The service answered with an error",
        status: status.as_u16(),
        detail: text.as_deref().unwrap_or("see `error`"),
        error,
    };
    let mut response = (status, axum::Json(document)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The name of a variant's or enum's case, and what it carries.
fn case(error: &RawValue) -> (Option<String>, Option<&RawValue>) {
    if let Ok(name) = serde_json::from_str::<String>(error.get()) {
        return (Some(name), None);
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(error.get()).unwrap_or_default();
    let mut members = members.into_iter();
    match (members.next(), members.next()) {
        (Some((name, payload)), None) => (Some(name), Some(payload)),
        _ => (None, None),
    }
}
