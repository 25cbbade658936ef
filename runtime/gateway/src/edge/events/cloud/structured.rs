//! Structured and batched mode: everything is in the JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use busway_types::Draft;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::attributes::{Attributes, about};
use crate::edge::events::media::is_json;
use crate::edge::events::{Cx, check_size};
use crate::edge::problem::Problem;

pub(in crate::edge::events) fn structured(cx: &Cx<'_>, body: &[u8]) -> Result<Draft, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::invalid("the CloudEvent is not UTF-8"))?;
    draft(cx, text)
}

pub(in crate::edge::events) fn batched(cx: &Cx<'_>, body: &[u8]) -> Result<Vec<Draft>, Problem> {
    let wrong = |error: serde_json::Error| Problem::invalid(format!("the batch is no JSON array: {error}"));
    let events: Vec<&RawValue> = serde_json::from_slice(body).map_err(wrong)?;
    check_size(events.len(), cx.limits)?;
    let drafts = events.iter().enumerate();
    drafts.map(|(index, event)| draft(cx, event.get()).map_err(|p| p.with("index", index))).collect()
}

fn draft(cx: &Cx<'_>, text: &str) -> Result<Draft, Problem> {
    let wrong = |error: serde_json::Error| Problem::invalid(format!("the CloudEvent is no JSON object: {error}"));
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(wrong)?;
    members.retain(|_, value| value.get() != "null");
    let data = (members.remove("data"), members.remove("data_base64"));
    let content_type = members.remove("datacontenttype").map(|raw| value("datacontenttype", raw)).transpose()?;
    let mut attributes = Attributes::default();
    for (name, raw) in members {
        attributes.add(&name, value(&name, raw)?)?;
    }
    let (content_type, data) = content(content_type, data)?;
    attributes.draft(cx, content_type.map(String::into_boxed_str), data)
}

fn content(
    content_type: Option<String>,
    data: (Option<&RawValue>, Option<&RawValue>),
) -> Result<(Option<String>, Bytes), Problem> {
    match data {
        (None, None) => Ok((content_type, Bytes::new())),
        (Some(_), Some(_)) => Err(Problem::invalid("both `data` and `data_base64`; give the data in one form")),
        (None, Some(raw)) => {
            let wrong = |error: String| about("data_base64", format!("it is not base64: {error}"));
            let code: String = serde_json::from_str(raw.get()).map_err(|error| wrong(error.to_string()))?;
            let bytes = STANDARD.decode(code).map_err(|error| wrong(error.to_string()))?;
            Ok((content_type, bytes.into()))
        }
        (Some(raw), None) => {
            let is_text = content_type.as_deref().is_some_and(|kind| !is_json(kind)) && raw.get().starts_with('"');
            let bytes = if is_text {
                let text: String = serde_json::from_str(raw.get()).map_err(|error| about("data", error.to_string()))?;
                Bytes::from(text)
            } else {
                Bytes::copy_from_slice(raw.get().as_bytes())
            };
            // JSON is what data is when nothing is said.
            Ok((Some(content_type.unwrap_or_else(|| "application/json".to_owned())), bytes))
        }
    }
}

/// The value of an attribute as text: strings, booleans and integers have one.
fn value(name: &str, raw: &RawValue) -> Result<String, Problem> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map_err(|error| about(name, error)),
        Some(b't' | b'f') => Ok(text.to_owned()),
        Some(b'-' | b'0'..=b'9') if text.parse::<i32>().is_ok() => Ok(text.to_owned()),
        _ => Err(about(name, "it is a string, a boolean or an integer of 32 bits")),
    }
}
