//! Events and notices as text for clients.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use busway_types::Logged;
use serde_json::{Value, json};

use super::feed::Missed;
use crate::edge::cloudevent;

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// CloudEvents in JSON: everything that is known of the event.
    #[default]
    CloudEvents,
    /// The data alone.
    Data,
}

impl Form {
    /// As a query says it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "cloudevents" => Some(Self::CloudEvents),
            "data" => Some(Self::Data),
            _ => None,
        }
    }
}

/// An event as text.
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// The data is no text, and stands here in base64.
    pub(crate) is_base64: bool,
}

pub(crate) fn event(logged: &Logged, form: Form) -> Rendered {
    match form {
        Form::CloudEvents => Rendered { text: cloudevent(&logged.event), is_base64: false },
        Form::Data => match std::str::from_utf8(&logged.event.data) {
            Ok(text) => Rendered { text: text.to_owned(), is_base64: false },
            Err(_) => Rendered { text: STANDARD.encode(&logged.event.data), is_base64: true },
        },
    }
}

/// What a listener is told of events that it did not get.
pub(crate) fn missed(missed: Missed) -> Value {
    match missed {
        Missed::Events(count) => json!({ "events": count }),
        Missed::AnotherLog => json!({ "events": null }),
    }
}
