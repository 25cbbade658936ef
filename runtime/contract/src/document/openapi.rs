//! An `OpenAPI` 3.1 document: events and requests as the gateway takes them over HTTP.
//!
//! `POST /events/{topic}` publishes and answers 202 when the event is safe; `POST /requests/{topic}` waits for the answer.

use serde_json::{Map, Value, json};

use super::schema::{Dialect, Schemas};
use super::{Document, Entry, example};
use crate::model::Kind;
use crate::types::Type;

pub(super) fn value(document: &Document<'_>) -> Value {
    let mut schemas = Schemas::new(Dialect::Draft2020, "#/components/schemas/");
    let (mut paths, mut tags) = (Map::new(), Vec::new());
    for contract in document.contracts {
        let mut tag = json!({ "name": contract.id.to_string() });
        if let Some(docs) = &contract.docs {
            tag["description"] = (**docs).into();
        }
        tags.push(tag);
    }
    for entry in &document.entries {
        let place = match entry.function.kind() {
            Kind::Event => "events",
            Kind::Request => "requests",
        };
        paths.insert(format!("/{place}/{}", entry.topic), json!({ "post": operation(entry, &mut schemas) }));
    }
    let mut definitions = schemas.definitions;
    definitions.extend(common());
    json!({
        "openapi": "3.1.0",
        "info": { "title": document.title, "version": document.version() },
        "tags": tags,
        "paths": paths,
        "components": { "schemas": definitions },
    })
}

/// Names that begin with a capital, which names of types in WIT do not have to themselves: `busway.` keeps them apart.
const PROBLEM: &str = "busway.problem";
const RECEIPT: &str = "busway.receipt";

fn common() -> Map<String, Value> {
    let problem = json!({
        "type": "object",
        "description": "What is wrong, as RFC 9457 has it",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "Which field, what was expected, what was given" },
        },
        "required": ["title", "status"],
    });
    let receipt = json!({
        "type": "object",
        "description": "The event is accepted and safe",
        "properties": { "id": { "type": "string", "description": "The event's id" } },
        "required": ["id"],
    });
    Map::from_iter([(PROBLEM.to_owned(), problem), (RECEIPT.to_owned(), receipt)])
}

fn operation(entry: &Entry<'_>, schemas: &mut Schemas) -> Value {
    let function = entry.function;
    let data = schemas.data(&entry.title(), function);
    let mut operation = json!({
        "operationId": entry.topic.to_string(),
        "tags": [entry.contract.id.to_string()],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": data, "example": example(function) } },
        },
        "responses": responses(entry, schemas),
    });
    if function.kind() == Kind::Event {
        operation["parameters"] = json!([{
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The event's id, chosen by the client: an event that is sent twice under one id is published once",
            "schema": { "type": "string" },
        }]);
    }
    if let Some(docs) = &function.docs {
        operation["description"] = (**docs).into();
    }
    if let Some(summary) = entry.summary() {
        operation["summary"] = summary.into();
    }
    operation
}

fn responses(entry: &Entry<'_>, schemas: &mut Schemas) -> Value {
    let refer = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let problem = |description: &str| json!({ "description": description, "content": { "application/problem+json": { "schema": refer(PROBLEM) } } });
    let mut responses = json!({
        "400": problem("The data does not fit the contract"),
        "401": problem("Who asks is not known"),
        "403": problem("Who asks may not do this"),
        "413": problem("The data is too large"),
        "429": problem("Too many requests of this client"),
        "503": problem("Overloaded, or nobody is there to handle it; see the header Retry-After"),
    });
    match (entry.function.kind(), &entry.function.result) {
        (Kind::Request, Some(result)) => {
            responses["200"] = answer(result, schemas);
            responses["504"] = problem("No answer came in time");
        }
        _ => {
            responses["202"] = json!({
                "description": "The event is accepted and safe",
                "content": { "application/json": { "schema": refer(RECEIPT) } },
            });
        }
    }
    responses
}

fn answer(result: &Type, schemas: &mut Schemas) -> Value {
    let content = json!({ "schema": schemas.of(result), "example": example::value(result) });
    json!({ "description": "The answer", "content": { "application/json": content } })
}
