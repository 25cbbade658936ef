//! Several events as lines of JSON.
//!
//! With a topic in the path each line is the data of an event; without one each line is an event as `busway tail --json`
//! prints it and `busway publish --lines` takes it.

use busway_types::{Draft, Topic};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Cx, check_size, plain};
use crate::admin::api::{ApiError, PublishRequest};
use crate::edge::problem::{Problem, Refusal};

pub(super) fn drafts(cx: &Cx<'_>, body: &[u8]) -> Result<Vec<Draft>, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let line = body.iter().take(error.valid_up_to()).filter(|b| **b == b'\n').count();
        Problem::invalid(format!("line {} is not UTF-8", line + 1))
    })?;
    let name = plain::idempotency_key(cx.headers)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut drafts = Vec::new();
    for (number, line) in lines {
        let index = drafts.len();
        check_size(index + 1, cx.limits)?;
        let wrong = |detail: String| Problem::invalid(format!("line {}: {detail}", number + 1)).with("index", index);
        let mut draft = if let Some(topic) = &cx.topic {
            let value: &RawValue = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            of_value(cx, topic, value)?
        } else {
            let request: PublishRequest = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            of_event(cx, request).map_err(|error| {
                if let ApiError::TooLarge { detail, .. } = error {
                    return Problem::new(Refusal::TooLarge, detail).with("index", index);
                }
                wrong(error.to_string())
            })?
        };
        if let Some(name) = &name {
            draft.id.get_or_insert_with(|| plain::named(cx.caller, &draft.topic, name, Some(index)));
        }
        drafts.push(draft);
    }
    Ok(drafts)
}

/// The draft of a line that is the data of an event.
fn of_value(cx: &Cx<'_>, topic: &Topic, value: &RawValue) -> Result<Draft, Problem> {
    let mut draft = Draft::new(topic.clone(), Bytes::copy_from_slice(value.get().as_bytes()));
    draft.content_type = Some("application/json".into());
    plain::dress(cx, &mut draft)?;
    Ok(draft)
}

/// The draft of a line that is an event. Its id is a name that this client gives, as everybody else's.
fn of_event(cx: &Cx<'_>, mut request: PublishRequest) -> Result<Draft, ApiError> {
    let name = request.id.take();
    let mut draft = request.into_draft(cx.now, cx.limits)?;
    draft.id = name.map(|name| plain::named(cx.caller, &draft.topic, &name, None));
    Ok(draft)
}
