//! A JSON Schema with a definition for each topic and each named type.

use serde_json::{Map, Value, json};

use super::Document;
use super::schema::{Dialect, Schemas};
use crate::model::Kind;

/// The definition of a topic's data has the topic's name, the answer of a request `TOPIC.answer`. A value fits the whole
/// schema if it is the data of one of the topics.
pub(super) fn value(document: &Document<'_>) -> Value {
    let mut schemas = Schemas::new(Dialect::Draft2020, "#/$defs/");
    let mut topics = Map::new();
    let mut any = Vec::new();
    for entry in &document.entries {
        any.push(json!({ "$ref": format!("#/$defs/{}", entry.topic) }));
        topics.insert(entry.topic.to_string(), schemas.data(&entry.title(), entry.function));
        if let (Kind::Request, Some(result)) = (entry.function.kind(), &entry.function.result) {
            topics.insert(format!("{}.answer", entry.topic), schemas.of(result));
        }
    }
    // Topics have dots, names of types have none.
    let mut definitions = schemas.definitions;
    definitions.extend(topics);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": document.title,
        "$defs": definitions,
    });
    if !any.is_empty() {
        schema["anyOf"] = any.into();
    }
    schema
}
