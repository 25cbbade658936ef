//! The attributes of a `CloudEvent`, whichever way they came, and the draft that they make.

use std::collections::BTreeMap;

use busway_types::{Draft, Key, Topic};
use bytes::Bytes;

use super::PREFIX;
use crate::admin::api::parse_rfc3339;
use crate::edge::context;
use crate::edge::events::{Cx, id, plain};
use crate::edge::problem::{Problem, Refusal};

/// Names and values of one `CloudEvent`, without `datacontenttype`.
#[derive(Debug, Default)]
pub(super) struct Attributes(BTreeMap<Box<str>, String>);

/// What is wrong with an attribute.
pub(super) fn about(name: &str, what: impl std::fmt::Display) -> Problem {
    let shown: String = name.chars().take(60).collect();
    Problem::new(Refusal::Invalid, format!("the CloudEvents attribute `{shown}`: {what}")).with("parameter", shown)
}

impl Attributes {
    /// Adds one; refused when its name or value cannot be that of an attribute, or when it is there already.
    pub(super) fn add(&mut self, name: &str, value: String) -> Result<(), Problem> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(about(name, "names have lower-case letters and digits only"));
        }
        if name == "data" || name == "datacontenttype" {
            return Err(about(name, "in a header this is no attribute; the type of the data is `Content-Type`"));
        }
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(about(name, "values are not empty and have no control characters"));
        }
        match self.0.insert(name.into(), value) {
            None => Ok(()),
            Some(_) => Err(about(name, "it is there twice")),
        }
    }

    fn required(&self, name: &str, what: &str) -> Result<&str, Problem> {
        self.0.get(name).map(String::as_str).ok_or_else(|| about(name, format!("it is missing; {what}")))
    }

    /// The event that they and the data make.
    pub(super) fn draft(mut self, cx: &Cx<'_>, content_type: Option<Box<str>>, data: Bytes) -> Result<Draft, Problem> {
        let version = self.required("specversion", "a CloudEvent says \"1.0\"")?;
        if version != "1.0" {
            return Err(about("specversion", "CloudEvents of version 1.0 are understood here"));
        }
        let own = self.required("id", "it names the event among those of its source")?;
        let source = self.required("source", "it says where the event comes from")?;
        if source.contains(char::is_whitespace) {
            return Err(about("source", "a URI reference has no white space; percent-encode it"));
        }
        let names = [source.to_owned(), own.to_owned()];
        let topic = self.topic(cx)?;
        let id = id::derived("cloudevent", cx.caller.identity().as_deref(), &topic, &[&names[0], &names[1]]);
        let mut draft = Draft::new(topic, data);
        plain::dress(cx, &mut draft)?;
        draft.id = Some(id);
        draft.content_type = content_type;
        if let Some(time) = self.0.get("time")
            && !is_time(time)
        {
            return Err(about("time", "it is no time of RFC 3339, such as 2026-01-31T09:05:00Z"));
        }
        self.carried(cx, &mut draft)?;
        draft.headers.extend(self.0.into_iter().map(|(name, value)| (format!("{PREFIX}{name}").into(), value.into())));
        Ok(draft)
    }

    /// Of the path, of the extension `topic`, or of the type.
    fn topic(&mut self, cx: &Cx<'_>) -> Result<Topic, Problem> {
        let kind = self.required("type", "it says what happened, and names the topic")?;
        let kind_topic = kind.parse::<Topic>();
        let named = self.0.remove("topic");
        if let Some(topic) = &cx.topic {
            return Ok(topic.clone());
        }
        match named {
            Some(name) => name.parse().map_err(|error| about("topic", error)),
            None => kind_topic.map_err(|error| {
                about("type", format!("it names no topic ({error}); name one in the path or in the extension `topic`"))
            }),
        }
    }

    /// What has a place of its own in an event.
    fn carried(&mut self, cx: &Cx<'_>, draft: &mut Draft) -> Result<(), Problem> {
        if let Some(key) = self.0.remove("partitionkey") {
            draft.key = Some(Key::new(&key, cx.limits).map_err(|error| about("partitionkey", error))?);
        }
        if let Some(time) = self.0.remove("expirytime") {
            let wrong = || about("expirytime", "it is no time of RFC 3339, such as 2026-01-31T09:05:00Z");
            draft.expires =
                Some(Some(&time).filter(|time| is_time(time)).and_then(|t| parse_rfc3339(t)).ok_or_else(wrong)?);
        }
        if let Some(context) = self.0.remove("traceparent") {
            // As with the header of HTTP, one that is not well-formed is ignored.
            if context::is_traceparent(&context) {
                draft.causality.traceparent = Some(context.into());
            }
        }
        if let Some(correlation) = self.0.remove("correlationid") {
            draft.causality.correlation = Some(correlation.into());
        }
        Ok(())
    }
}

/// RFC 3339 wants a time of day, which `parse_rfc3339` does not. Times before 1970 are not of this bus.
fn is_time(text: &str) -> bool {
    text.len() > 10 && parse_rfc3339(text).is_some()
}
