//! The document: what every gateway has, the events of contracts, the routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use busway_contract::document::openapi::{self, OpenApi, PROBLEM, RECEIPT, problem, refer};
use busway_contract::source::merge;
use busway_contract::{Contract, Function, Param, Type};
use http::Method;
use serde_json::{Value, json};

use super::security::Security;
use crate::edge::ask::{RequestTarget, path_params};
use crate::edge::auth::TICKETS;
use crate::edge::config::EdgeConfig;
use crate::edge::routes::{RouteConfig, Target};

/// The name of the schema of a `CloudEvent`.
const CLOUDEVENT: &str = "busway.cloudevent";

/// What groups the operations of the gateway itself, and the routes of the manifest.
const OWN: &str = "gateway";
const ROUTES: &str = "routes";

pub(super) fn of(config: &EdgeConfig, contracts: &[Arc<Contract>]) -> Value {
    let merged = merge(contracts.iter().map(|contract| &**contract));
    let mut api = OpenApi::new("busway gateway", env!("CARGO_PKG_VERSION"));
    api.describe("Events in, answers out. Refusals are problem documents (RFC 9457).");
    api.tag(OWN, Some("Events on any topic, and how the gateway is."));
    if !config.routes.is_empty() {
        api.tag(ROUTES, Some("What the manifest's `[[gateway.routes]]` lead to."));
    }
    for contract in &merged {
        api.contract(contract);
    }
    let security = Security::of(config);
    events(&mut api);
    health(&mut api, &security);
    if security.is_locked() {
        tickets(&mut api);
    }
    let mut names = BTreeMap::new();
    for route in &config.routes {
        for method in methods(route, &config.routes) {
            let mut operation = route_operation(&mut api, route, &method, contracts);
            operation["operationId"] = unique(&mut names, format!("{}-{method}", route.name)).into();
            operation["tags"] = json!([ROUTES]);
            if security.is_locked() || route.is_open {
                operation["security"] = security.route(route);
            }
            api.operation(&route.path.replace("{*", "{"), &method.as_str().to_ascii_lowercase(), operation);
        }
    }
    api.into_value(security.into_parts())
}

/// Routes may share a name, operations may not.
fn unique(names: &mut BTreeMap<String, usize>, name: String) -> String {
    let count = names.entry(name.clone()).or_default();
    *count += 1;
    if *count == 1 { name } else { format!("{name}-{count}") }
}

fn events(api: &mut OpenApi) {
    api.define(CLOUDEVENT, cloudevent());
    let batch = json!({ "type": "array", "items": refer(RECEIPT) });
    let accepted = json!({ "oneOf": [refer(RECEIPT), batch] });
    let structured = json!({ "schema": refer(CLOUDEVENT) });
    let batched = json!({ "schema": { "type": "array", "items": refer(CLOUDEVENT) } });
    let mut parameters = openapi::event_headers();
    let topic = json!({
        "name": "topic", "in": "path", "required": true, "description": "Where to, such as `shop.orders`",
        "schema": { "type": "string", "pattern": "^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$", "maxLength": 255 },
    });
    if let Value::Array(parameters) = &mut parameters {
        parameters.insert(0, topic);
    }
    api.operation("/events/{topic}", "post", json!({
        "operationId": "publish",
        "tags": [OWN],
        "summary": "Publish an event",
        "description": "The body is the data, of whatever type `Content-Type` says; `Busway-Header-NAME` is a header of the \
            event. CloudEvents are taken in binary, structured and batched mode, and several events as lines of JSON.",
        "parameters": parameters,
        "requestBody": { "content": {
            "application/json": { "schema": {} },
            "application/x-ndjson": { "schema": { "type": "string" } },
            "application/cloudevents+json": structured,
            "application/cloudevents-batch+json": batched,
        } },
        "responses": openapi::event_responses(&accepted),
    }));
    let query = |name: &str, description: &str| json!({ "name": name, "in": "query", "description": description, "schema": { "type": "string" } });
    api.operation("/events", "get", json!({
        "operationId": "listen",
        "tags": [OWN],
        "summary": "Events as they come",
        "description": "Server-Sent Events, or a WebSocket.",
        "parameters": [
            query("topic", "A pattern such as `shop.>`; may be there several times"),
            query("from", "Where to begin"),
            query("format", "`cloudevents` or `data`"),
        ],
        "responses": { "200": { "description": "Events", "content": { "text/event-stream": { "schema": { "type": "string" } } } }, "default": problem("A refusal") },
    }));
    api.operation("/events", "post", json!({
        "operationId": "publish-cloudevents",
        "tags": [OWN],
        "summary": "Publish CloudEvents",
        "description": "The extension `topic` or the `type` is the topic; `source` and `id` together are recognised when they \
            come again.",
        "requestBody": { "required": true, "content": {
            "application/cloudevents+json": structured,
            "application/cloudevents-batch+json": batched,
        } },
        "responses": openapi::event_responses(&accepted),
    }));
}

fn cloudevent() -> Value {
    let text = |description: &str| json!({ "type": "string", "minLength": 1, "description": description });
    json!({
        "type": "object",
        "description": "A CloudEvent 1.0 in JSON",
        "properties": {
            "specversion": { "const": "1.0" },
            "id": text("Names the event among those of its source"),
            "source": text("Where it comes from: a URI reference"),
            "type": text("What happened; the topic, when nothing else names it"),
            "topic": text("The topic"),
            "subject": text("What it is about"),
            "time": { "type": "string", "format": "date-time" },
            "datacontenttype": text("The media type of the data"),
            "dataschema": text("The schema of the data: a URI"),
            "partitionkey": text("What orders the event"),
            "expirytime": { "type": "string", "format": "date-time" },
            "data": { "description": "The data" },
            "data_base64": { "type": "string", "contentEncoding": "base64" },
        },
        "required": ["specversion", "id", "source", "type"],
    })
}

fn health(api: &mut OpenApi, security: &Security) {
    for (path, summary) in
        [("/health/live", "Whether the process answers"), ("/health/ready", "Whether requests are welcome")]
    {
        let schema = json!({ "type": "object", "properties": { "status": { "const": "ok" } }, "required": ["status"] });
        api.operation(
            path,
            "get",
            json!({
                "operationId": path.trim_start_matches('/').replace('/', "-"),
                "tags": [OWN],
                "summary": summary,
                "security": security.open(),
                "responses": {
                    "200": { "description": "It is", "content": { "application/json": { "schema": schema } } },
                    "503": problem("It is not, now"),
                },
            }),
        );
    }
}

fn tickets(api: &mut OpenApi) {
    let schema = json!({
        "type": "object",
        "properties": { "ticket": { "type": "string" }, "expires-in": { "type": "integer", "description": "In seconds" } },
        "required": ["ticket", "expires-in"],
    });
    let mut responses = openapi::refusals();
    responses["201"] = json!({ "description": "A ticket", "content": { "application/json": { "schema": schema } } });
    api.operation(
        TICKETS,
        "post",
        json!({
            "operationId": "ticket",
            "tags": [OWN],
            "summary": "Get a ticket for one EventSource or WebSocket",
            "description": "It goes into the address as `?ticket=..`, where a page cannot send a header.",
            "responses": responses,
        }),
    );
}

/// The methods that lead to a route. `GET` serves `HEAD` too, which goes without saying.
fn methods(route: &RouteConfig, routes: &[RouteConfig]) -> Vec<Method> {
    if let Some(method) = &route.method {
        return vec![method.clone()];
    }
    let mut all = match &route.target {
        Target::Request(_) | Target::Service(_) => {
            vec![Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        }
        Target::SocketIo(_) => vec![Method::GET, Method::POST],
        Target::File(_) => vec![Method::GET, Method::HEAD],
        Target::Events(_) => vec![Method::GET],
    };
    // Others of the path may have some for themselves.
    let taken: Vec<&Method> =
        routes.iter().filter(|r| r.path == route.path).filter_map(|r| r.method.as_ref()).collect();
    let serves_head = |method: &Method| *method == Method::HEAD && taken.contains(&&Method::GET);
    all.retain(|method| !taken.contains(&method) && !serves_head(method));
    all
}

fn route_operation(api: &mut OpenApi, route: &RouteConfig, method: &Method, contracts: &[Arc<Contract>]) -> Value {
    match &route.target {
        Target::Request(target) => request(api, route, method, target, contracts),
        Target::Service(service) => other(route, &format!("Answered by the service `{service}`.")),
        Target::Events(_) => other(route, "Events as they come: Server-Sent Events, or a WebSocket."),
        Target::SocketIo(_) => other(route, "Socket.IO, protocol 5."),
        Target::File(_) => other(route, "A file."),
    }
}

fn other(route: &RouteConfig, description: &str) -> Value {
    json!({
        "description": description,
        "parameters": path_texts(route),
        "responses": { "default": { "description": "Whatever it answers" } },
    })
}

/// The parameters of a path of which nothing is known but that they are there.
fn path_texts(route: &RouteConfig) -> Vec<Value> {
    let text = |name: &str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    path_params(&route.path).map(text).collect()
}

fn request(
    api: &mut OpenApi,
    route: &RouteConfig,
    method: &Method,
    target: &RequestTarget,
    contracts: &[Arc<Contract>],
) -> Value {
    let Some((_, function)) = target.function.find(contracts) else {
        let mut operation = other(route, &format!("Asks `{}`, which no service answers now.", target.function));
        operation["responses"] = json!({ "503": problem("Nobody answers") });
        return operation;
    };
    let (in_path, rest): (Vec<&Param>, Vec<&Param>) =
        function.params.iter().partition(|param| path_params(&route.path).any(|name| *name == *param.name));
    let mut parameters: Vec<Value> = path_texts(route);
    for param in &in_path {
        let schema = in_text(api, &param.ty);
        if let Some(known) = parameters.iter_mut().find(|known| known["name"] == *param.name) {
            known["schema"] = schema;
        }
    }
    let mut operation = json!({ "responses": responses(api, target, function) });
    openapi::said(&mut operation, function);
    let takes_body = !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS);
    let (body, query): (Vec<&Param>, Vec<&Param>) = match &target.body {
        Some(name) if takes_body => rest.into_iter().partition(|param| *param.name == **name),
        None if takes_body => (rest, Vec::new()),
        _ => (Vec::new(), rest),
    };
    for param in query {
        let schema = in_text(api, &param.ty);
        let required = !param.ty.is_optional();
        parameters.push(json!({ "name": &*param.name, "in": "query", "required": required, "schema": schema }));
    }
    parameters.push(json!({
        "name": "Request-Timeout", "in": "header", "description": "Wait no longer than this; only to shorten",
        "schema": { "type": "string", "pattern": "^[1-9][0-9]{0,5}(ms|s|m)$" },
    }));
    operation["parameters"] = parameters.into();
    if !body.is_empty() {
        let required = body.iter().any(|param| !param.ty.is_optional());
        let schema = match (&target.body, &body[..]) {
            (Some(_), [param]) => api.schema(&param.ty),
            _ => api.object(&target.function.function, body.iter().copied()),
        };
        operation["requestBody"] =
            json!({ "required": required, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

/// The schema of a parameter that is written as text: no text means none.
fn in_text(api: &mut OpenApi, ty: &Type) -> Value {
    match ty {
        Type::Option(of) => in_text(api, of),
        // Numbers that are too large for others are written as such here: there is no other way in a text.
        Type::S64 => json!({ "type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX }),
        Type::U64 => json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX }),
        Type::List(of) => json!({ "type": "array", "items": in_text(api, of) }),
        other => api.schema(other),
    }
}

fn responses(api: &mut OpenApi, target: &RequestTarget, function: &Function) -> Value {
    let mut responses = openapi::refusals();
    responses["502"] = problem("The service failed");
    responses["503"] = problem("Nobody answers now, or there is no room; see the header Retry-After");
    responses["504"] = problem("No answer in time");
    let (ok, error) = match &function.result {
        Some(Type::Result(ok, error)) => (ok.as_deref(), error.as_deref()),
        plain => (plain.as_ref(), None),
    };
    let ok = ok.map(|ty| if let Type::Option(of) = ty { (&**of, true) } else { (ty, false) });
    if let Some((ty, _)) = ok {
        let schema = api.schema(ty);
        responses["200"] = json!({ "description": "The answer", "content": openapi::answer(&schema, ty) });
    }
    if ok.is_none_or(|(_, is_optional)| is_optional) {
        responses["204"] = json!({ "description": "There is none" });
    }
    if let Some(error) = error {
        let schema = api.schema(error);
        let refused = json!({ "allOf": [refer(PROBLEM), { "type": "object", "properties": { "error": schema } }] });
        for (status, cases) in by_status(target) {
            let cases = if cases.is_empty() { String::new() } else { format!(": {}", cases.join(", ")) };
            let mut response = problem(&format!("The service answers with an error{cases}"));
            // What else has this status is a problem document too, without an `error`.
            response["content"]["application/problem+json"]["schema"] = json!({ "anyOf": [refused, refer(PROBLEM)] });
            responses[status] = response;
        }
    }
    responses
}

/// The statuses of errors with the cases that have them.
fn by_status(target: &RequestTarget) -> BTreeMap<String, Vec<&str>> {
    let mut statuses: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    if !target.errors.contains_key("*") {
        statuses.insert("422".to_owned(), Vec::new());
    }
    for (case, status) in &target.errors {
        statuses.entry(status.as_u16().to_string()).or_default().push(case);
    }
    statuses
}
