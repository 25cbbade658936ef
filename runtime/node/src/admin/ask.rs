//! Requests from the admin API.

use std::sync::Arc;
use std::time::Duration;

use busway_contract::Type;
use busway_gateway::api::{ApiError, AskReply, AskRequest};
use busway_host::{Request, RequestError};
use busway_types::{Causality, Key, Topic};
use bytes::Bytes;

use crate::contracts::CheckedRequest;
use crate::inner::Inner;

pub(super) async fn ask(inner: &Inner, request: AskRequest) -> Result<AskReply, ApiError> {
    let AskRequest { request: name, data, timeout_ms } = request;
    let unknown = || {
        ApiError::not_found(format!(
            "no service here answers `{name}`; `busway status` lists the requests that are answered"
        ))
    };
    let topic = if name.contains(':') {
        inner.contracts.request_topic(&name).ok_or_else(unknown)?
    } else {
        name.parse::<Topic>().map_err(|error| ApiError::invalid(error.to_string()))?
    };
    let data = data.map_or_else(|| Bytes::from_static(b"{}"), |data| Bytes::from(data.get().to_owned()));
    let most = inner.limits.event_bytes;
    if data.len() > most {
        let detail = format!("the parameters have more than {most} bytes (limits.event-bytes)");
        return Err(ApiError::TooLarge { detail, index: None });
    }
    let checked = inner.contracts.check_request(&topic, &data).ok_or_else(unknown)?;
    let CheckedRequest { key, result } = checked.map_err(|unfit| ApiError::invalid(unfit.to_string()))?;
    let key = key.map(|key| Key::new(&key, &inner.limits)).transpose().map_err(ApiError::from)?;
    let ms = timeout_ms.unwrap_or(AskRequest::TIMEOUT_MS).clamp(1, AskRequest::LONGEST_MS);
    let within = Duration::from_millis(ms);
    let request = Request { id: None, topic, key, data, causality: Causality::default(), within, chain: Arc::new([]) };
    let answer = inner.requests.ask(request).await.map_err(|error| match error {
        RequestError::NoHandler(_) => unknown(),
        RequestError::Overloaded(detail) => ApiError::Overloaded { detail },
        RequestError::TimedOut(detail) => ApiError::TimedOut { detail },
        RequestError::Deadlock(_) | RequestError::Failed(_) => ApiError::BadAnswer { detail: error.to_string() },
    })?;
    AskReply::of(&answer, matches!(result, Some(Type::Result(..))))
        .map_err(|error| ApiError::Failed { detail: format!("the answer is no JSON: {error}") })
}
