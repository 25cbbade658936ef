//! `OpenAPI` 3.1 documents of what a gateway serves.
//!
//! Role: [`OpenApi`] puts one together: events at `POST /events/{topic}` as every gateway takes them, and whatever else its
//! owner serves, with the types of contracts as schemas. The document of contracts alone has the events; for requests, which
//! a gateway answers where its routes say, it has the schemas of data (`TOPIC`) and answer (`TOPIC.answer`).

use std::collections::BTreeMap;

use busway_types::Topic;
use serde_json::{Map, Value, json};

use super::schema::{Dialect, Schemas};
use super::{Document, example};
use crate::model::{Contract, Function, Kind, Param};
use crate::types::Type;

/// The name of the schema of problem documents. Names of types in WIT have no dots, so that nothing meets.
pub const PROBLEM: &str = "busway.problem";
/// The name of the schema of what is answered when an event is safe.
pub const RECEIPT: &str = "busway.receipt";

/// What a client may say of an event in headers: name, schema, description. Every gateway takes them.
const HEADERS: [(&str, &str, &str); 5] = [
    (
        "Idempotency-Key",
        r#"{"type":"string","minLength":1,"maxLength":255,"pattern":"^[!#-~]+$"}"#,
        "The client's own name for the event: one that is sent twice under it is published once",
    ),
    (
        "Busway-Key",
        r#"{"type":"string","minLength":1,"maxLength":255,"pattern":"^[!-~]+$"}"#,
        "What orders the event; taken from the data where the contract has a key",
    ),
    (
        "Busway-Delay",
        r#"{"type":"string","pattern":"^[0-9]{1,6}(ms|s|m|h|d)$"}"#,
        "Deliver not before so long from now",
    ),
    (
        "Busway-Expires",
        r#"{"type":"string","pattern":"^[0-9]{1,6}(ms|s|m|h|d)$"}"#,
        "Do not deliver later than so long from now",
    ),
    (
        "Busway-Correlation",
        r#"{"type":"string","minLength":1,"pattern":"^[!-~]+$"}"#,
        "What the journey of the event is about",
    ),
];

/// A document that is being put together.
#[derive(Debug)]
pub struct OpenApi {
    title: String,
    version: String,
    description: Option<String>,
    tags: Vec<Value>,
    paths: BTreeMap<String, Map<String, Value>>,
    schemas: Schemas,
}

impl OpenApi {
    /// Nothing yet.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        let mut schemas = Schemas::new(Dialect::Draft2020, "#/components/schemas/");
        schemas.definitions.extend(common());
        let (title, version) = (title.into(), version.into());
        Self { title, version, description: None, tags: Vec::new(), paths: BTreeMap::new(), schemas }
    }

    /// What it is about.
    pub fn describe(&mut self, description: impl Into<String>) {
        self.description = Some(description.into());
    }

    /// A group of operations.
    pub fn tag(&mut self, name: &str, description: Option<&str>) {
        let mut tag = json!({ "name": name });
        if let Some(description) = description {
            tag["description"] = description.into();
        }
        self.tags.push(tag);
    }

    /// An operation; the path has its parameters in braces. One that is there already stays.
    pub fn operation(&mut self, path: &str, method: &str, operation: Value) {
        self.paths.entry(path.to_owned()).or_default().entry(method.to_owned()).or_insert(operation);
    }

    /// A schema under a name.
    pub fn define(&mut self, name: &str, schema: Value) {
        self.schemas.definitions.insert(name.to_owned(), schema);
    }

    /// The schema of a type; a named one is a reference.
    pub fn schema(&mut self, ty: &Type) -> Value {
        self.schemas.of(ty)
    }

    /// The schema of an object with a member for each of some parameters.
    pub fn object<'p>(&mut self, title: &str, params: impl IntoIterator<Item = &'p Param>) -> Value {
        self.schemas.params(title, params)
    }

    /// A contract: its events, each at its topic, and its requests as schemas.
    pub fn contract(&mut self, contract: &Contract) {
        self.tag(&contract.id.to_string(), contract.docs.as_deref());
        for function in &contract.functions {
            // Only names that are too long have no topic, and those no service can have either.
            let Ok(topic) = contract.id.topic(&function.name) else { continue };
            match (function.kind(), &function.result) {
                (Kind::Request, Some(result)) => {
                    let data = self.schemas.data(topic.as_str(), function);
                    let answer = self.schemas.of(result);
                    self.define(topic.as_str(), data);
                    self.define(&format!("{topic}.answer"), answer);
                }
                _ => self.event(&topic, contract, function),
            }
        }
    }

    fn event(&mut self, topic: &Topic, contract: &Contract, function: &Function) {
        let title = format!("{}.{}", contract.id.interface, function.name);
        let data = self.schemas.data(&title, function);
        let mut operation = json!({
            "operationId": topic.to_string(),
            "tags": [contract.id.to_string()],
            "parameters": event_headers(),
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": data, "example": example(function) } },
            },
            "responses": event_responses(&refer(RECEIPT)),
        });
        said(&mut operation, function);
        self.operation(&format!("/events/{topic}"), "post", operation);
    }

    /// The document; `components` and `security` as `OpenAPI` has them, beside the schemas.
    pub fn into_value(self, security: Option<(Value, Value)>) -> Value {
        let mut document = json!({
            "openapi": "3.1.0",
            "info": { "title": self.title, "version": self.version },
            "tags": self.tags,
            "paths": self.paths,
            "components": { "schemas": self.schemas.definitions },
        });
        if let Some(description) = self.description {
            document["info"]["description"] = description.into();
        }
        if let Some((schemes, required)) = security {
            document["components"]["securitySchemes"] = schemes;
            document["security"] = required;
        }
        document
    }
}

/// What a function's docs say, in an operation.
pub fn said(operation: &mut Value, function: &Function) {
    if let Some(docs) = &function.docs {
        operation["description"] = (**docs).into();
        operation["summary"] = docs.lines().next().unwrap_or_default().into();
    }
}

/// A reference to a schema.
pub fn refer(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A response that is a problem document.
pub fn problem(description: &str) -> Value {
    let content = json!({ "application/problem+json": { "schema": refer(PROBLEM) } });
    json!({ "description": description, "content": content })
}

/// The headers that a client may send with an event, as parameters.
pub fn event_headers() -> Value {
    let parameter = |(name, schema, description): (&str, &str, &str)| {
        let schema: Value = serde_json::from_str(schema).unwrap_or_default();
        json!({ "name": name, "in": "header", "description": description, "schema": schema })
    };
    HEADERS.into_iter().map(parameter).collect()
}

/// The responses to whoever publishes; `accepted` is the schema of the answer.
pub fn event_responses(accepted: &Value) -> Value {
    let mut responses = refusals();
    responses["202"] = json!({
        "description": "Accepted, and as safe as the node promises",
        "content": { "application/json": { "schema": accepted } },
    });
    responses
}

/// What every operation of a gateway may answer that takes data.
pub fn refusals() -> Value {
    json!({
        "400": problem("The request is not valid"),
        "401": problem("Who asks is not known"),
        "403": problem("Who asks may not do this"),
        "408": problem("The request came in too slowly"),
        "413": problem("The data is too large"),
        "415": problem("Not in this format"),
        "422": problem("The data does not fit the contract; `path` is the place"),
        "429": problem("Too many requests of this client"),
        "431": problem("Too many or too large headers"),
        "503": problem("No room now, or the node is shutting down; see the header Retry-After"),
        "504": problem("Not done in time; it may have taken effect all the same"),
    })
}

pub(super) fn value(document: &Document<'_>) -> Value {
    let mut openapi = OpenApi::new(document.title, document.version());
    document.contracts.iter().for_each(|contract| openapi.contract(contract));
    openapi.into_value(None)
}

fn common() -> Map<String, Value> {
    let problem = json!({
        "type": "object",
        "description": "What is wrong, as RFC 9457 has it",
        "properties": {
            "type": { "type": "string", "description": "The kind: urn:busway:problem: and a word such as overloaded" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "Which field, what was expected, what was given" },
            "index": { "type": "integer", "description": "Which element of a batch, from 0" },
            "path": { "type": "string", "description": "The place in the data" },
            "parameter": { "type": "string", "description": "Which parameter of path, query, headers or body" },
            "error": { "description": "The error that a service answered with" },
        },
        "required": ["type", "title", "status", "detail"],
    });
    let receipt = json!({
        "type": "object",
        "description": "The event is accepted and safe",
        "properties": { "id": { "type": "string", "format": "uuid", "description": "The event's id" } },
        "required": ["id"],
    });
    Map::from_iter([(PROBLEM.to_owned(), problem), (RECEIPT.to_owned(), receipt)])
}

/// The schema of an answer, with an example.
pub fn answer(schema: &Value, ty: &Type) -> Value {
    json!({ "application/json": { "schema": schema, "example": example::value(ty) } })
}
