//! Routes to functions of contracts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use busway_contract::{Case, Contract, Enum, Field, Function, Label, Param, Record, Type, Variant};
use busway_gateway::edge::{EdgeConfig, EdgeError, EdgeRequest, RequestTarget, RouteConfig, Served as Behind, Target};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Request, get, request};
use crate::fake::{Fake, lock};
use crate::served::Served;

fn field(name: &str, ty: Type) -> Field {
    Field { name: name.into(), docs: None, ty }
}

fn function(name: &str, params: &[(&str, Type)], result: Type) -> Function {
    let params = params.iter().map(|(name, ty)| Param { name: (*name).into(), ty: ty.clone() }).collect();
    Function { name: name.into(), docs: Some(format!("What {name} does.").into()), params, result: Some(result) }
}

fn option(ty: Type) -> Type {
    Type::Option(Arc::new(ty))
}

fn result(ok: Type, err: Type) -> Type {
    Type::Result(Some(Arc::new(ok)), Some(Arc::new(err)))
}

/// A contract with what routes have to cope with.
pub(crate) fn quotes() -> Arc<Contract> {
    let price = Record { name: Some("price".into()), docs: None, fields: vec![field("cents", Type::U64)] };
    let price = Type::Record(Arc::new(price));
    let case = |name: &str, ty| Case { name: name.into(), docs: None, ty };
    let failure = vec![case("not-found", None), case("reject", Some(Type::String)), case("busy", None)];
    let failure = Type::Variant(Arc::new(Variant { name: Some("failure".into()), docs: None, cases: failure }));
    let label = |name: &str| Label { name: name.into(), docs: None };
    let colour = Type::Enum(Arc::new(Enum { name: None, docs: None, cases: vec![label("red"), label("blue")] }));
    let tags = Type::List(Arc::new(Type::String));
    let quote = [("sku", Type::String), ("quantity", Type::U32), ("colour", option(colour)), ("tags", option(tags))];
    let functions = vec![
        function("quote", &quote, result(price.clone(), failure)),
        function("find", &[("key", Type::U64)], option(price.clone())),
        function("store", &[("sku", Type::String), ("price", price)], result(option(Type::Bool), Type::String)),
        function("upload", &[("name", Type::String), ("data", Type::Bytes)], Type::U64),
    ];
    Arc::new(Contract { id: "shop:orders/quotes@1.2.0".parse().expect("a name"), docs: None, functions })
}

pub(crate) fn to(path: &str, method: Method, function: &str, body: Option<&str>) -> RouteConfig {
    let errors = [("not-found", StatusCode::NOT_FOUND), ("busy", StatusCode::SERVICE_UNAVAILABLE)];
    let target = RequestTarget {
        function: format!("shop:orders/quotes.{function}").parse().expect("a function"),
        body: body.map(Into::into),
        errors: errors.into_iter().map(|(name, status)| (name.into(), status)).collect(),
    };
    RouteConfig {
        name: function.into(),
        path: path.into(),
        method: Some(method),
        is_open: false,
        rate: None,
        timeout: Some(Duration::from_secs(3)),
        target: Target::Request(target),
    }
}

pub(crate) fn config() -> EdgeConfig {
    let routes = vec![
        to("/quotes/{sku}", Method::GET, "quote", None),
        to("/quotes/{sku}", Method::POST, "quote", None),
        to("/prices/{key}", Method::GET, "find", None),
        to("/stores/{sku}", Method::PUT, "store", Some("price")),
        to("/files/{name}", Method::PUT, "upload", Some("data")),
        to("/nobody", Method::GET, "unheard-of", None),
    ];
    EdgeConfig { routes, ..EdgeConfig::default() }
}

/// A gateway with those routes, and a service that answers each request like this.
async fn answering(answer: impl Fn(&EdgeRequest) -> Result<Value, EdgeError> + Send + Sync + 'static) -> Served {
    let fake = Fake::default();
    lock(&fake.contracts).push(quotes());
    *lock(&fake.answerer) = Some(Box::new(move |request| answer(request).map(|value| value.to_string().into())));
    Served::start_with(fake, config()).await
}

fn put(path: &str) -> Request {
    request("PUT", path)
}

/// What was asked last: the last token of the topic, and the data.
fn asked(served: &Served) -> (String, Value) {
    let request = lock(&served.fake.requests).pop().expect("something was asked");
    let topic = request.topic.as_str().strip_prefix("shop.orders.v1.quotes.").expect("of the contract").to_owned();
    (topic, serde_json::from_slice(&request.data).expect("JSON"))
}

#[tokio::test]
async fn parameters_come_from_path_query_and_body() {
    let served = answering(|_| Ok(json!({ "ok": { "cents": 5 } }))).await;
    let json = |request: Request| request.header("Content-Type", "application/json");
    for (request, function, data) in [
        (get("/quotes/pot?quantity=3"), "quote", json!({ "sku": "pot", "quantity": 3 })),
        (
            get("/quotes/a%20b?tags=x&quantity=3&colour=blue&tags=y%26z"),
            "quote",
            json!({ "sku": "a b", "quantity": 3, "colour": "blue", "tags": ["x", "y&z"] }),
        ),
        (
            json(request("POST", "/quotes/pot")).body(r#"{"quantity":3,"tags":["x"]}"#),
            "quote",
            json!({ "sku": "pot", "quantity": 3, "tags": ["x"] }),
        ),
        (
            request("POST", "/quotes/pot?colour=red")
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(r#"{"quantity":3}"#),
            "quote",
            json!({ "sku": "pot", "quantity": 3, "colour": "red" }),
        ),
        (
            json(put("/stores/pot")).body(r#"{"cents":18446744073709551615}"#),
            "store",
            json!({ "sku": "pot", "price": { "cents": 18_446_744_073_709_551_615_u64 } }),
        ),
        (
            put("/files/a").header("Content-Type", "image/png").body([0, 255]),
            "upload",
            json!({ "name": "a", "data": "AP8=" }),
        ),
        (json(put("/files/a")).body("\"AP8=\""), "upload", json!({ "name": "a", "data": "AP8=" })),
    ] {
        served.send(request).await;
        assert_eq!(asked(&served), (function.to_owned(), data));
    }
}

#[tokio::test]
async fn the_key_and_the_trace_go_with_the_request_and_the_caller_can_only_shorten_the_time() {
    let served = answering(|_| Ok(json!({ "cents": 5 }))).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (timeout, within) in [("500ms", 500), ("1", 1_000), ("1h", 3_000)] {
        let request = get("/prices/7").header("Request-Timeout", timeout).header("traceparent", trace);
        assert_eq!(served.send(request).await.status, 200);
        let request = lock(&served.fake.requests).pop().expect("asked");
        assert_eq!(request.within, Duration::from_millis(within));
        assert_eq!(request.key.as_ref().map(busway_types::Key::as_str), Some("7"));
        assert_eq!(request.traceparent.as_deref(), Some(trace));
    }
    let answer = served.send(get("/prices/7").header("Request-Timeout", "soon")).await;
    assert_eq!((answer.status, answer.json()["parameter"].clone()), (400, "request-timeout".into()));
}

#[tokio::test]
async fn what_cannot_be_a_parameter_is_refused_by_name_and_reaches_nobody() {
    let served = answering(|_| Ok(json!({ "ok": { "cents": 5 } }))).await;
    let post = |body: &str| request("POST", "/quotes/pot").header("Content-Type", "application/json").body(body);
    for (request, status, parameter, told) in [
        (
            get("/quotes/pot?quantity=many"),
            422,
            "quantity",
            "a whole number from 0 to 4294967295 (u32), and got `many`",
        ),
        (get("/quotes/pot?quantity=1&quantity=2"), 422, "quantity", "one value, and got 2"),
        (get("/quotes/pot?quantity=1&colour=green"), 422, "colour", "one of `red`, `blue`"),
        (get("/quotes/pot?quantitiy=1"), 400, "quantitiy", "may have `quantity`, `colour`, `tags`"),
        (get("/quotes/pot?sku=cup"), 400, "sku", "twice"),
        (get("/prices/x"), 422, "key", "in the path has to be a whole number"),
        (get("/prices/1?a=b"), 400, "a", "no parameter is taken from there"),
        (post(r#"{"quantity":1,"sku":"cup"}"#), 400, "sku", "twice"),
        (post("{"), 400, "", "not the JSON"),
        (post("[1]"), 400, "", "not the JSON"),
        (request("POST", "/quotes/pot").header("Content-Type", "text/plain").body("{}"), 415, "", "has to be JSON"),
        (put("/stores/pot?price=1"), 400, "price", "the query has `price`"),
    ] {
        let answer = served.send(request).await;
        let document = answer.json();
        assert_eq!(answer.status, status, "{document}");
        assert_eq!(document["parameter"].as_str().unwrap_or_default(), parameter, "{document}");
        assert!(document["detail"].as_str().expect("text").contains(told), "{told}: {document}");
    }
    assert!(lock(&served.fake.requests).is_empty());
}

#[tokio::test]
async fn answers_and_errors_become_statuses() {
    let served = answering(|request| {
        let data: Value = serde_json::from_slice(&request.data).expect("JSON");
        match data["sku"].as_str().unwrap_or_default() {
            "none" => Ok(json!({ "ok": null })),
            "pot" => Ok(json!({ "ok": { "cents": 5 } })),
            "unfit" => Err(EdgeError::Invalid {
                detail: "`quantity`: expected u32, got nothing".into(),
                index: None,
                path: Some("quantity".into()),
                is_contract: true,
            }),
            "busy" | "not-found" => Ok(json!({ "err": data["sku"] })),
            "slow" => Err(EdgeError::TimedOut("no answer".into())),
            "trap" => Err(EdgeError::BadAnswer("it trapped".into())),
            "full" => Err(EdgeError::Overloaded("full".into())),
            "gone" => Err(EdgeError::NotFound("nobody".into())),
            _ => Ok(json!({ "err": { "reject": "no price" } })),
        }
    })
    .await;
    for (sku, status, word, again) in [
        ("pot", 200, "", false),
        ("none", 204, "", false),
        ("unicorn", 422, "refused", false),
        ("not-found", 404, "refused", false),
        ("busy", 503, "refused", true),
        ("unfit", 422, "contract", false),
        ("slow", 504, "timed-out", false),
        ("trap", 502, "bad-answer", false),
        ("full", 503, "overloaded", true),
        ("gone", 503, "unavailable", true),
    ] {
        let answer = served.send(get(&format!("/quotes/{sku}?quantity=1"))).await;
        assert_eq!(answer.status, status, "{sku}: {answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), again, "{sku}");
        match status {
            200 => assert_eq!(answer.json(), json!({ "cents": 5 })),
            204 => assert!(answer.body.is_empty()),
            _ => assert_eq!(answer.problem(), word),
        }
        match sku {
            "unicorn" => {
                let document = answer.json();
                assert_eq!(
                    (&document["detail"], &document["error"]),
                    (&"no price".into(), &json!({ "reject": "no price" }))
                );
            }
            "unfit" => assert_eq!(answer.json()["parameter"], "quantity"),
            _ => {}
        }
    }
    let answer = served.send(get("/nobody")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
}

#[test]
fn what_is_wrong_with_a_route_is_told_before_anybody_asks() {
    let contract = quotes();
    let answers = contract.functions.iter().filter_map(|function| contract.id.topic(&function.name).ok()).collect();
    let behind = Behind { contracts: vec![contract], answers, ..Behind::default() };
    let told = |route: &RouteConfig| {
        let config = EdgeConfig { routes: vec![route.clone()], ..EdgeConfig::default() };
        config.advice(None, &behind).join("; ")
    };
    for route in config().routes.iter().filter(|route| &*route.name != "quote") {
        let wanted = if &*route.name == "unheard-of" { "no service answers" } else { "has no error `busy`" };
        assert!(told(route).contains(wanted) && told(route).contains(&*route.name), "{}", told(route));
    }
    let silent = Behind { answers: std::collections::BTreeSet::default(), ..behind.clone() };
    let unanswered = EdgeConfig { routes: vec![config().routes[0].clone()], ..EdgeConfig::default() };
    assert!(
        unanswered.advice(None, &silent).join("; ").contains("no service answers `shop:"),
        "known, and not answered"
    );
    assert_eq!(told(&config().routes[0]), "");
    for (route, wanted) in [
        (to("/q/{id}", Method::GET, "quote", None), "has no parameter `id`"),
        (to("/q/{tags}", Method::GET, "quote", None), "`tags` is a option<list<string>> and cannot be in the path"),
        (to("/q/{sku}", Method::GET, "store", None), "`price` is a price, which cannot be in a query"),
        (to("/q/{sku}", Method::PUT, "store", Some("prize")), "has no parameter `prize`"),
    ] {
        assert!(told(&route).contains(wanted), "{wanted}: {}", told(&route));
    }
    let mut any = to("/q", Method::POST, "quote", None);
    if let Target::Request(target) = &mut any.target {
        target.errors = BTreeMap::from([("*".into(), StatusCode::BAD_REQUEST)]);
    }
    assert_eq!(told(&any), "");
}
