//! The routes of the admin API.
//!
//! Role: parse what came, call the backend, answer as JSON. Every refusal leaves as a problem document.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use busway_types::{EventId, Pattern, ServiceName};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::guard::{HEALTH, guard};
use super::server::Admin;
use super::tail::{TailRequest, body};
use crate::admin::api::{
    ApiError, AskReply, AskRequest, DeadChanged, DeadDetail, DeadFilter, DeadPage, ForgetRequest, Forgotten, Health,
    KvPage, KvQuery, PublishRequest, PublishResponse, ReplayReply, ReplayRequest, ServiceInfo, ShutdownRequest,
    StatusReport, TailFrom, Trace, TraceQuery,
};

type Answer<T> = Result<Json<T>, ApiError>;

pub(crate) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route(HEALTH, get(health))
        .route("/v1/status", get(status))
        .route("/v1/services/{name}", get(service))
        .route("/v1/events", get(tail).post(publish))
        .route("/v1/requests", post(ask))
        .route("/v1/dead", get(dead_list))
        .route("/v1/dead/{id}", get(dead_show))
        .route("/v1/dead/retry", post(dead_retry))
        .route("/v1/dead/drop", post(dead_drop))
        .route("/v1/trace/{id}", get(trace))
        .route("/v1/forget", post(forget))
        .route("/v1/replay", post(replay))
        .route("/v1/kv/{service}", get(kv_list))
        .route("/v1/shutdown", post(shutdown))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_route)
        .layer(middleware::map_response(harden))
        .layer(middleware::from_fn_with_state(admin.clone(), guard))
        .with_state(admin)
}

async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::Unauthorized { .. } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Overloaded { .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

async fn health() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

async fn status(State(admin): State<Arc<Admin>>) -> Answer<StatusReport> {
    Ok(Json(admin.backend.status().await?))
}

async fn service(State(admin): State<Arc<Admin>>, name: Result<Path<String>, PathRejection>) -> Answer<ServiceInfo> {
    let name = service_name(name)?;
    Ok(Json(admin.backend.service(name).await?))
}

async fn publish(State(admin): State<Arc<Admin>>, request: Body) -> Answer<PublishResponse> {
    let bytes = read_body(&admin, request).await?;
    let batch = parse_batch(&bytes, admin.config.batch_events)?;
    if batch.is_empty() {
        return Ok(Json(PublishResponse { published: Vec::new() }));
    }
    Ok(Json(PublishResponse { published: admin.backend.publish(batch).await? }))
}

async fn ask(State(admin): State<Arc<Admin>>, request: Body) -> Answer<AskReply> {
    let request: AskRequest = from_body(&admin, request).await?;
    if request.request.is_empty() {
        return Err(ApiError::invalid("`request` is missing; give a topic, or a function as shop:orders/quotes.quote"));
    }
    Ok(Json(admin.backend.request(request).await?))
}

/// Query of `GET /v1/events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TailQuery {
    pattern: Option<String>,
    from: Option<String>,
    follow: Option<bool>,
    limit: Option<u64>,
}

async fn tail(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<TailQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let TailQuery { pattern, from, follow, limit } = from_query(query)?;
    let patterns: Result<Arc<[Pattern]>, _> =
        pattern.iter().flat_map(|p| p.split(',')).map(|p| p.trim().parse::<Pattern>()).collect();
    let request = TailRequest {
        patterns: patterns.map_err(|e| ApiError::invalid(e.to_string()))?,
        from: from.map(|f| f.parse::<TailFrom>()).transpose()?.unwrap_or_default(),
        follow: follow.unwrap_or(true),
        limit,
    };
    let mut response = body(admin, request).await?.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

async fn dead_list(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<DeadFilter>, QueryRejection>,
) -> Answer<DeadPage> {
    Ok(Json(admin.backend.dead_list(from_query(query)?).await?))
}

async fn dead_show(
    State(admin): State<Arc<Admin>>,
    id: Result<Path<String>, PathRejection>,
) -> Answer<Vec<DeadDetail>> {
    let id: EventId = from_path(id)?.parse().map_err(|e| ApiError::invalid(format!("{e}")))?;
    Ok(Json(admin.backend.dead_show(id).await?))
}

async fn dead_retry(State(admin): State<Arc<Admin>>, request: Body) -> Answer<DeadChanged> {
    let filter: DeadFilter = from_body(&admin, request).await?;
    Ok(Json(admin.backend.dead_retry(filter).await?))
}

async fn dead_drop(State(admin): State<Arc<Admin>>, request: Body) -> Answer<DeadChanged> {
    let filter: DeadFilter = from_body(&admin, request).await?;
    Ok(Json(admin.backend.dead_drop(filter).await?))
}

async fn trace(
    State(admin): State<Arc<Admin>>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<TraceQuery>, QueryRejection>,
) -> Answer<Trace> {
    let id: EventId = from_path(id)?.parse().map_err(|e| ApiError::invalid(format!("{e}")))?;
    Ok(Json(admin.backend.trace(id, from_query(query)?).await?))
}

async fn forget(State(admin): State<Arc<Admin>>, request: Body) -> Answer<Forgotten> {
    let request: ForgetRequest = from_body(&admin, request).await?;
    if request.subscription.is_empty() {
        return Err(ApiError::invalid("`subscription` is missing; `busway status` lists those that are detached"));
    }
    Ok(Json(admin.backend.forget(request).await?))
}

async fn replay(State(admin): State<Arc<Admin>>, request: Body) -> Answer<ReplayReply> {
    let request: ReplayRequest = from_body(&admin, request).await?;
    if request.service.is_empty() {
        return Err(ApiError::invalid("`service` is missing; give the name of a service or subscription"));
    }
    Ok(Json(admin.backend.replay(request).await?))
}

async fn kv_list(
    State(admin): State<Arc<Admin>>,
    service: Result<Path<String>, PathRejection>,
    query: Result<Query<KvQuery>, QueryRejection>,
) -> Answer<KvPage> {
    let service = service_name(service)?;
    Ok(Json(admin.backend.kv_list(service, from_query(query)?).await?))
}

async fn shutdown(State(admin): State<Arc<Admin>>, request: Body) -> Result<Response, ApiError> {
    let request: ShutdownRequest = from_body(&admin, request).await?;
    admin.backend.shutdown(request).await?;
    Ok((StatusCode::ACCEPTED, Json(serde_json::json!({}))).into_response())
}

async fn no_route(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(120).collect();
    ApiError::not_found(format!("there is no route {path}; the admin API begins with /v1/status"))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::Method { detail: format!("{} does not take {method}", uri.path()) }
}

fn from_query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(value)| value).map_err(|e| ApiError::invalid(e.body_text()))
}

fn from_path(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    path.map(|Path(text)| text).map_err(|e| ApiError::invalid(e.body_text()))
}

fn service_name(path: Result<Path<String>, PathRejection>) -> Result<ServiceName, ApiError> {
    from_path(path)?.parse().map_err(|e| ApiError::invalid(format!("{e}")))
}

async fn read_body(admin: &Admin, request: Body) -> Result<Bytes, ApiError> {
    let limit = admin.config.body_bytes;
    let mut stream = request.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = futures_util::StreamExt::next(&mut stream).await {
        let piece = piece.map_err(|e| ApiError::invalid(format!("the body ended early: {e}")))?;
        if bytes.len() + piece.len() > limit {
            let detail = format!("the body is larger than {limit} bytes; send fewer events at a time");
            return Err(ApiError::TooLarge { detail, index: None });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

/// An empty body means all defaults.
async fn from_body<T: DeserializeOwned + Default>(admin: &Admin, request: Body) -> Result<T, ApiError> {
    let bytes = read_body(admin, request).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|e| ApiError::invalid(format!("the body is not what is expected here: {e}")))
}

/// A JSON array, or one JSON object per line; which one, its first byte says.
fn parse_batch(bytes: &[u8], max: usize) -> Result<Vec<PublishRequest>, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes.iter().take(e.valid_up_to()).filter(|b| **b == b'\n').count();
        ApiError::invalid(format!("line {} is not valid UTF-8", line + 1)).at(line)
    })?;
    let batch: Vec<PublishRequest> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|e| ApiError::invalid(format!("the array of events is not valid: {e}")))?
    } else {
        let lines = text.lines().filter(|line| !line.trim().is_empty()).take(max + 1).enumerate();
        let parsed = lines.map(|(i, line)| {
            serde_json::from_str(line)
                .map_err(|e| ApiError::invalid(format!("event {} is not valid: {e}", i + 1)).at(i))
        });
        parsed.collect::<Result<_, _>>()?
    };
    if batch.len() > max {
        let detail = format!("more than {max} events in one request; send them in several");
        return Err(ApiError::TooLarge { detail, index: Some(max) });
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_lines_are_both_batches() {
        let array = br#" [{"topic":"a"},{"topic":"b","data":1}]"#;
        let lines = b"{\"topic\":\"a\"}\n\n{\"topic\":\"b\",\"data\":1}\n";
        for body in [&array[..], &lines[..]] {
            let topics: Vec<String> =
                parse_batch(body, 10).expect("a batch").into_iter().map(|request| request.topic).collect();
            assert_eq!(topics, ["a", "b"]);
        }
        assert!(parse_batch(b"", 10).expect("nothing").is_empty());
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse_batch(b"{\"topic\":\"a\"}\n{\"topik\":\"b\"}", 10).expect_err("an unknown field");
        assert_eq!(error.index(), Some(1));
        assert!(error.to_string().starts_with("event 2 is not valid: unknown field `topik`"), "{error}");
        let error = parse_batch(b"{\"topic\":\"a\"}\n\xff", 10).expect_err("invalid UTF-8");
        assert_eq!(error.to_string(), "line 2 is not valid UTF-8");
    }

    #[test]
    fn a_batch_has_a_bound() {
        let error = parse_batch(b"{\"topic\":\"a\"}\n{\"topic\":\"a\"}\n{\"topic\":\"a\"}", 2).expect_err("too many");
        assert!(matches!(error, ApiError::TooLarge { .. }), "{error}");
    }
}
