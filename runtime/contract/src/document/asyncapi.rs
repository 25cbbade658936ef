//! An `AsyncAPI` 3.0 document: a channel for each topic.
//!
//! Operations are seen from the services: what one produces is sent, what one handles is received; what is only declared is
//! sent. A request is an operation with a reply.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::schema::{Dialect, Schemas};
use super::{Document, Entry, example};
use crate::model::Kind;
use crate::types::Type;

pub(super) fn value(document: &Document<'_>) -> Value {
    let mut schemas = Schemas::new(Dialect::Draft7, "#/components/schemas/");
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for entry in &document.entries {
        let topic = entry.topic.to_string();
        messages.insert(topic.clone(), message(entry, &mut schemas));
        channels.insert(topic.clone(), channel(entry));
        let answer = entry.function.result.as_ref().filter(|_| entry.function.kind() == Kind::Request);
        if let Some(answer) = answer {
            let name = format!("{topic}.answer");
            messages.insert(name.clone(), answer_message(entry, answer, &mut schemas));
            let refer = json!({ "answer": { "$ref": format!("#/components/messages/{name}") } });
            let description = "Where the answer goes: to the caller that waits for it";
            channels.insert(name, json!({ "address": null, "description": description, "messages": refer }));
        }
        let sends = !entry.producers.is_empty() || entry.handlers.is_empty();
        if sends {
            operations.insert(format!("{topic}.send"), operation(entry, "send", &entry.producers));
        }
        if !entry.handlers.is_empty() {
            operations.insert(format!("{topic}.receive"), operation(entry, "receive", &entry.handlers));
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": { "title": document.title, "version": document.version() },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas.definitions },
    })
}

fn channel(entry: &Entry<'_>) -> Value {
    let mut channel = json!({
        "address": entry.topic.to_string(),
        "title": entry.title(),
        "messages": { "data": { "$ref": format!("#/components/messages/{}", entry.topic) } },
        "x-busway-contract": entry.contract.id.to_string(),
    });
    if let Some(docs) = &entry.contract.docs {
        channel["description"] = (**docs).into();
    }
    channel
}

fn message(entry: &Entry<'_>, schemas: &mut Schemas) -> Value {
    let mut message = json!({
        "name": entry.function.name,
        "title": entry.title(),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "description": "The headers of the event, free for its publisher",
            "additionalProperties": { "type": "string" },
        },
        "payload": schemas.data(&entry.title(), entry.function),
        "examples": [{ "name": "example", "payload": example(entry.function) }],
    });
    if let Some(key) = entry.key() {
        // Events with the same key are handled in order.
        message["x-busway-key"] = json!({ "location": format!("$message.payload#/{key}") });
    }
    if let Some(summary) = entry.summary() {
        message["summary"] = summary.into();
    }
    message
}

fn answer_message(entry: &Entry<'_>, answer: &Type, schemas: &mut Schemas) -> Value {
    json!({
        "name": format!("{}-answer", entry.function.name),
        "title": format!("{} answer", entry.title()),
        "contentType": "application/json",
        "payload": schemas.of(answer),
        "examples": [{ "name": "example", "payload": example::value(answer) }],
    })
}

fn operation(entry: &Entry<'_>, action: &str, services: &[Arc<str>]) -> Value {
    let topic = &entry.topic;
    let mut operation = json!({
        "action": action,
        "channel": { "$ref": format!("#/channels/{topic}") },
        "messages": [{ "$ref": format!("#/channels/{topic}/messages/data") }],
    });
    if let Some(docs) = &entry.function.docs {
        operation["description"] = (**docs).into();
    }
    if let Some(summary) = entry.summary() {
        operation["summary"] = summary.into();
    }
    let services: Vec<_> = services.iter().filter(|service| !service.is_empty()).collect();
    if !services.is_empty() {
        operation["x-busway-services"] = services.iter().map(|service| Value::from(&***service)).collect();
    }
    if entry.function.kind() == Kind::Request {
        operation["reply"] = json!({
            "channel": { "$ref": format!("#/channels/{topic}.answer") },
            "messages": [{ "$ref": format!("#/channels/{topic}.answer/messages/answer") }],
        });
    }
    operation
}
