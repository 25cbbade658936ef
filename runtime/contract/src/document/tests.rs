//! Documents against the validators of their makers, against values, and WIT against its parser.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;
use crate::compare::{Verdict, compare};
use crate::testing::{Random, generate, sample};
use crate::{Param, Type, source};

const SHOP: &str = r"
/// What a shop tells about orders.
package shop:orders@1.2.0;

/// What happens to an order.
/// On more than one line.
interface order-events {
    /// A line | of an order.
    record line {
        /// Stock keeping unit.
        sku: string,
        quantity: u32,
    }
    enum colour {
        /// Like the sky.
        blue,
        red,
    }
    flags marks { gift, %list }
    variant payment { cash, /// By card.
        card(string), }
    record order {
        id: u64,
        /// What is in it.
        lines: list<line>,
        main: line,
        note: option<string>,
        why: option<option<string>>,
        colour: colour,
        marks: marks,
        /// How it is paid.
        payment: payment,
        picture: list<u8>,
        place: tuple<f64, f32>,
        digits: list<u8, 4>,
        extra: map<string, s64>,
        state: result<char, string>,
        done: result,
        %type: bool,
    }
    /// An order was placed.
    ///
    /// Once for each order.
    placed: func(key: string, event: order);
    cancelled: func(order: u64, reason: option<string>) -> result<_, string>;
    nothing: func();
    /// What would it cost?
    quote: func(lines: list<line>) -> result<u64, colour>;
}
";

fn wit(text: &str) -> Source {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.wit"), text).unwrap();
    source::read(folder.path()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn shop() -> Api {
    let mut api = Api::new("Shop");
    api.add(None, wit(SHOP));
    api
}

/// The shop as an app with services on both sides.
fn app() -> Api {
    let mut api = Api::new("App");
    for (service, direction) in [("checkout", Direction::Produces), ("shipping", Direction::Handles)] {
        let mut source = wit(SHOP);
        source.found.iter_mut().for_each(|found| found.direction = Some(direction));
        api.add(Some(service), source);
    }
    api.add(Some("books"), wit("package books:ledger; interface entries { booked: func(key: s64, order: u8); }"));
    api
}

fn json_of(api: &Api, format: Format) -> Value {
    serde_json::from_str(&api.document(format).unwrap()).unwrap()
}

/// A contract of functions that take one random type each, and the same types as results.
fn random(count: u64) -> (Contract, Vec<Type>) {
    let types: Vec<_> = (0..count).map(|seed| generate(&mut Random(seed), 4)).collect();
    let param = |ty: &Type| vec![Param { name: "x".into(), ty: ty.clone() }];
    let function = |(place, ty): (usize, &Type)| Function {
        name: format!("f{place}").into(),
        docs: None,
        params: param(ty),
        result: place.is_multiple_of(3).then(|| ty.clone()),
    };
    let functions = types.iter().enumerate().map(function).collect();
    (Contract { id: "random:types/all@0.1.0".parse().unwrap(), docs: None, functions }, types)
}

fn of(contract: &Contract) -> Api {
    let mut api = Api::new("Random");
    let found = vec![Found { direction: None, contract: contract.clone() }];
    api.add(None, Source { found, problems: Vec::new() });
    api
}

/// What the validators find, empty if nothing; they are npm packages with a lock file in `tests/documents`.
fn problems(documents: &Value) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/documents");
    assert!(
        folder.join("node_modules").is_dir(),
        "the validators are not installed: `cargo xtask test` installs them, or `npm ci --ignore-scripts` in tests/documents"
    );
    let mut node = Command::new("node");
    node.arg("validate.mjs").current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = node.spawn().expect("node (20 or newer) is installed");
    child.stdin.take().unwrap().write_all(documents.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.success(), told.is_empty(), "{told}");
    told
}

#[track_caller]
fn validate(documents: &Value) {
    assert_eq!(problems(documents), "");
}

#[test]
fn the_validators_find_what_is_wrong() {
    let mut asyncapi = json_of(&shop(), Format::AsyncApi);
    asyncapi["operations"]["shop.orders.v1.order-events.placed.send"]["channel"]["$ref"] = "#/channels/none".into();
    let mut openapi = json_of(&shop(), Format::OpenApi);
    openapi["components"]["schemas"]["line"]["type"] = "recrod".into();
    let topic = "shop.orders.v1.order-events.placed";
    let schema = json_of(&shop(), Format::JsonSchema);
    let told = problems(&json!([
        { "kind": "asyncapi", "name": "one", "document": asyncapi },
        { "kind": "openapi", "name": "two", "document": openapi },
        { "kind": "json-schema", "name": "three", "document": schema, "values": [
            { "definition": topic, "value": { "key": "a" }, "valid": true },
        ] },
    ]));
    for name in ["one: ", "two: ", "three: "] {
        assert!(told.lines().any(|line| line.starts_with(name)), "nothing of {name}in\n{told}");
    }
}

#[test]
fn asyncapi_and_openapi_pass_the_validators_of_their_makers() {
    let random = of(&random(40).0);
    let mut documents = Vec::new();
    for (name, api) in [("shop", &shop()), ("app", &app()), ("random", &random), ("empty", &Api::new("Empty"))] {
        for format in [Format::AsyncApi, Format::OpenApi] {
            let document = json_of(api, format);
            documents
                .push(json!({ "kind": format.to_string(), "name": format!("{name} {format}"), "document": document }));
        }
    }
    validate(&Value::Array(documents));
}

#[test]
fn values_fit_their_json_schema_and_wrong_ones_do_not() {
    let (contract, types) = random(150);
    let mut values = Vec::new();
    for (place, ty) in types.iter().enumerate() {
        let topic = format!("random.types.v0-1.all.f{place}");
        let mut random = Random(place as u64);
        for _ in 0..10 {
            let data = json!({ "x": sample(ty, &mut random), "unknown": 1 });
            values.push(json!({ "definition": topic, "value": data, "valid": true }));
        }
        let data = example(&contract.functions[place]);
        values.push(json!({ "definition": topic, "value": data, "valid": true }));
        values.push(json!({ "definition": topic, "value": { "x": {} }, "valid": reads_nothing(ty) }));
        values.push(json!({ "definition": topic, "value": {}, "valid": ty.is_optional() }));
        if contract.functions[place].kind() == crate::Kind::Request {
            let answer = format!("{topic}.answer");
            values.push(json!({ "definition": answer, "value": sample(ty, &mut random), "valid": true }));
        }
    }
    let all = json_of(&of(&contract), Format::JsonSchema);
    validate(&json!([
        { "kind": "json-schema", "name": "random", "document": all, "values": values },
        { "kind": "json-schema", "name": "shop", "document": json_of(&shop(), Format::JsonSchema), "values": orders() },
    ]));
}

/// Whether an object without members is a value: a record of options.
fn reads_nothing(ty: &Type) -> bool {
    crate::testing::reads(ty, &json!({}))
}

/// An order, and what is wrong with others.
fn orders() -> Vec<Value> {
    let topic = "shop.orders.v1.order-events.placed";
    let good = example(shop().contracts()[0].function("placed").unwrap());
    let mut values = vec![json!({ "definition": topic, "value": good, "valid": true })];
    for (pointer, value, valid) in [
        ("/key", json!(1), false),
        ("/event/id", json!("18446744073709551615"), true),
        ("/event/id", json!("1e3"), false),
        ("/event/id", json!(-1), false),
        ("/event/lines/0/quantity", json!(4_294_967_296_u64), false),
        ("/event/lines/0/sku", json!(null), false),
        ("/event/note", json!(null), true),
        ("/event/why", json!("because"), false),
        ("/event/why", json!({ "some": null }), true),
        ("/event/colour", json!("green"), false),
        ("/event/marks", json!(["gift", "list"]), true),
        ("/event/marks", json!(["gift", "gift"]), false),
        ("/event/payment", json!({ "card": "1" }), true),
        ("/event/payment", json!({ "card": "1", "cash": null }), false),
        ("/event/payment", json!("card"), false),
        ("/event/place", json!(["NaN", 1]), true),
        ("/event/place", json!([1]), false),
        ("/event/place", json!(["nan", 1]), false),
        ("/event/digits", json!([1, 2, 3]), false),
        ("/event/digits", json!([1, 2, 3, 256]), false),
        ("/event/extra", json!([["a", 1], ["b", "-2"]]), true),
        ("/event/extra", json!([["a"]]), false),
        ("/event/state", json!({ "ok": "ab" }), false),
        ("/event/state", json!({ "ok": "\u{1F600}" }), true),
        ("/event/done", json!({ "err": null }), true),
        ("/event/done", json!({ "ok": 1 }), false),
        ("/event/main", json!({ "sku": "a" }), false),
    ] {
        let mut data = good.clone();
        *data.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is in {good}")) = value;
        values.push(json!({ "definition": topic, "value": data, "valid": valid }));
    }
    values
        .push(json!({ "definition": "shop.orders.v1.order-events.quote.answer", "value": { "ok": 5 }, "valid": true }));
    values.push(json!({ "definition": "shop.orders.v1.order-events.quote.answer", "value": 5, "valid": false }));
    values.push(json!({ "definition": "line", "value": { "sku": "a", "quantity": 1 }, "valid": true }));
    values
}

#[test]
fn wit_is_the_same_contract_when_it_is_parsed_again() {
    let api = shop();
    assert_eq!(
        wit(&api.document(Format::Wit).unwrap()).found,
        api.contracts().into_iter().map(|contract| Found { direction: None, contract }).collect::<Vec<_>>()
    );
    let (contract, _) = random(150);
    let text = of(&contract).document(Format::Wit).unwrap();
    let again = &wit(&text).found[0].contract;
    let compared = compare(&contract, again);
    assert_eq!((compared.verdict, compared.only_producer.len()), (Verdict::Same, 0), "{}", compared.diff("a", "b"));
    let two = app().document(Format::Wit).unwrap();
    assert!(two.contains("package books:ledger {") && two.contains("package shop:orders@1.2.0 {"), "{two}");
}

#[test]
fn documents_say_what_the_wit_says() {
    for format in [Format::Wit, Format::Markdown, Format::JsonSchema, Format::AsyncApi, Format::OpenApi] {
        let text = shop().document(format).unwrap();
        for said in ["An order was placed.", "Stock keeping unit.", "Like the sky.", "By card.", "How it is paid."] {
            assert!(text.contains(said), "{format} does not say: {said}\n{text}");
        }
        assert_eq!(text, shop().document(format).unwrap());
    }
}

#[test]
fn asyncapi_has_topics_keys_directions_and_replies() {
    let document = json_of(&app(), Format::AsyncApi);
    let topic = "shop.orders.v1.order-events.placed";
    assert_eq!(document["channels"][topic]["address"], topic);
    assert_eq!(document["components"]["messages"][topic]["x-busway-key"]["location"], "$message.payload#/key");
    let operation = |name: &str| &document["operations"][format!("shop.orders.v1.order-events.{name}")];
    assert_eq!(operation("placed.send")["x-busway-services"], json!(["checkout"]));
    assert_eq!(operation("placed.receive")["x-busway-services"], json!(["shipping"]));
    assert_eq!(
        operation("quote.send")["reply"]["channel"]["$ref"],
        "#/channels/shop.orders.v1.order-events.quote.answer"
    );
    assert_eq!(operation("placed.send")["reply"], Value::Null);
    assert_eq!(document["info"]["version"], "unversioned");
}

#[test]
fn openapi_has_a_path_for_each_event_and_the_schemas_of_requests() {
    let document = json_of(&shop(), Format::OpenApi);
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "events/shop.orders.v1.order-events.placed",
        "events/shop.orders.v1.order-events.cancelled",
        "events/shop.orders.v1.order-events.nothing",
    ]
    .map(|path| format!("/{path}"));
    expected.sort();
    let mut found = paths.clone();
    found.sort_unstable();
    assert_eq!(found, expected);
    let responses = |path: &str| -> Vec<String> {
        document["paths"][path]["post"]["responses"].as_object().unwrap().keys().cloned().collect()
    };
    assert!(responses(&expected[2]).contains(&"202".to_owned()));
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["shop.orders.v1.order-events.quote"]["required"], json!(["lines"]));
    assert_eq!(schemas["shop.orders.v1.order-events.quote.answer"]["oneOf"][1]["required"], json!(["err"]));
    assert_eq!(document["info"]["version"], "1.2.0");
}

#[test]
fn markdown_has_tables_and_examples() {
    let text = app().document(Format::Markdown).unwrap();
    for expected in [
        "# App\n",
        "## shop:orders/order-events@1.2.0\n",
        "### placed (event)\n",
        "- Topic: `shop.orders.v1.order-events.placed`\n",
        "- Events with the same `key` are handled in order\n",
        "- Produced by `checkout`\n",
        "```json\n{\n  \"key\": \"text\",\n  \"event\": {\n    \"id\": 1,\n    \"lines\": [\n",
        "| `event` | `order` |\n",
        "### quote (request)\n",
        "#### line (record)\n\nA line | of an order.\n\n| field | type | |\n|---|---|---|\n| `sku` | `string` | Stock keeping unit. |\n",
        "#### colour (enum)\n\n| name | |\n|---|---|\n| `blue` | Like the sky. |\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert_eq!(text.matches("#### line (record)").count(), 1);
}

#[test]
fn versions_that_meet_are_one_contract_in_its_newest_form() {
    let mut api = Api::new("Two");
    api.add(Some("new"), wit("package a:b@1.1.0; interface c { f: func(x: u8, y: option<u8>); }"));
    api.add(Some("old"), wit("package a:b@1.0.0; interface c { /// Said.\n f: func(x: u8); g: func(); }"));
    api.add(Some("next"), wit("package a:b@2.0.0; interface c { f: func(); }"));
    let contracts = api.contracts();
    let told: Vec<_> = contracts.iter().map(|one| (one.id.to_string(), one.functions.len())).collect();
    assert_eq!(told, [("a:b/c@1.1.0".to_owned(), 2), ("a:b/c@2.0.0".to_owned(), 1)]);
    assert_eq!(contracts[0].functions[0].docs.as_deref(), Some("Said."));
    assert_eq!(contracts[0].functions[0].params.len(), 2);
}

#[test]
fn formats_have_names() {
    for (name, format) in Format::ALL {
        assert_eq!((name.parse::<Format>(), format.to_string()), (Ok(format), name.to_owned()));
    }
    assert!("yaml".parse::<Format>().unwrap_err().to_string().contains("asyncapi"));
}
