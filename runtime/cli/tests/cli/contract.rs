//! `busway contract`, from the binary itself.

use std::fs;

use serde_json::Value;

use super::harness::Sandbox;

const ORDERS: &str = "package shop:orders@1.0.0;
interface order-events {
  record order { id: string, total-cents: u64 }
  /// An order was placed.
  placed: func(key: string, event: order);
}
";

/// What uses the contract, as text: `import` or `export`.
fn component(direction: &str, cents: &str) -> Vec<u8> {
    let instance = format!(
        r#"(instance
            (type $o (record (field "id" string) (field "total-cents" {cents})))
            (export "order" (type $order (eq $o)))
            (export "placed" (func (param "key" string) (param "event" $order))))"#
    );
    let name = r#""shop:orders/order-events@1.0.0""#;
    let text = match direction {
        "import" => format!("(component (import {name} {instance}))"),
        // What is exported has to be there: it is handed on from an import that is no contract.
        _ => format!(
            r#"(component (import "inner" {instance_named}) (export {name} (instance $i)))"#,
            instance_named = instance.replacen("(instance", "(instance $i", 1)
        ),
    };
    wat::parse_str(text).expect("a component")
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let put = |name: &str, bytes: &[u8]| fs::write(sandbox.path().join(name), bytes).expect("written");
    put("orders.wit", ORDERS.as_bytes());
    put("newer.wit", ORDERS.replace("@1.0.0", "@1.1.0").replace("u64 }", "u64, note: option<string> }").as_bytes());
    put("broken.wit", ORDERS.replace("u64", "u32").as_bytes());
    put("next.wit", ORDERS.replace("@1.0.0", "@2.0.0").as_bytes());
    put("other.wit", b"package a:b; interface c { f: func(); }");
    put("stream.wit", ORDERS.replace("u64 }", "u64, s: stream<u8> }").as_bytes());
    put("typo.wit", ORDERS.replace("u64", "u46").as_bytes());
    put("checkout.wasm", &component("import", "u64"));
    put("shipping.wasm", &component("export", "u32"));
    sandbox
}

#[test]
fn a_diff_fails_on_what_is_incompatible_and_says_how_to_mend_it() {
    let sandbox = sandbox();
    let run = sandbox.busway(&["contract", "diff", "orders.wit", "newer.wit"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let first =
        "compatible: shop:orders/order-events@1.0.0 from orders.wit to shop:orders/order-events@1.1.0 in newer.wit\n";
    assert!(run.stdout.starts_with(first), "{}", run.stdout);
    assert!(
        run.stdout.contains("placed(event.note): orders.wit does not send it, newer.wit gets none"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("placed(event.note): orders.wit does not take it"), "{}", run.stdout);
    let run = sandbox.busway(&["contract", "diff", "checkout.wasm", "shipping.wasm"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, ""));
    assert_eq!(
        run.stdout,
        "incompatible: shop:orders/order-events@1.0.0 from checkout.wasm to shipping.wasm\n  placed: incompatible\n    \
         broken  placed(event.total-cents): shipping.wasm cannot hold all values that checkout.wasm may send\n      \
         checkout.wasm  u64\n      shipping.wasm  u32\n      to mend: take a `u64` in shipping.wasm\n"
    );
    let same = sandbox.busway(&["contract", "diff", "shipping.wasm", "broken.wit"]);
    assert_eq!((same.code, same.stdout.lines().count()), (0, 2), "{}", same.stdout);
    let json = sandbox.busway(&["contract", "diff", "broken.wit", "orders.wit", "--json"]);
    let value: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((json.code, &value["verdict"]), (1, &"incompatible".into()));
    assert_eq!(value["pairs"].as_array().expect("pairs").len(), 2);
    let one_way = sandbox.busway(&["contract", "diff", "broken.wit", "orders.wit", "--one-way"]);
    assert_eq!(one_way.code, 0, "{}", one_way.stdout);
}

#[test]
fn a_diff_of_nothing_is_told_apart_from_one_of_two_majors() {
    let sandbox = sandbox();
    for (a, b, code, told) in [
        ("orders.wit", "other.wit", 1, "have no contract in common"),
        ("checkout.wasm", "checkout.wasm", 1, "both are on the same side of the contract"),
        ("orders.wit", "next.wit", 0, "they are not compared"),
        ("orders.wit", "stream.wit", 1, "placed(event.s): a stream cannot be stored"),
        ("orders.wit", "typo.wit", 1, "typo.wit:3:"),
        ("orders.wit", "missing.wit", 1, "missing.wit cannot be read"),
    ] {
        let run = sandbox.busway(&["contract", "diff", a, b]);
        assert_eq!(run.code, code, "{a} {b}: {run:?}");
        assert!(run.stderr.contains(told), "{a} {b}: {}", run.stderr);
    }
}

#[test]
fn a_document_is_made_from_wit_from_components_and_from_an_app() {
    let sandbox = sandbox();
    let run = sandbox.busway(&["contract", "show", "orders.wit"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(
        run.stdout.contains("/// An order was placed.\n  placed: func(key: string, event: order);"),
        "{}",
        run.stdout
    );
    let run = sandbox.busway(&["contract", "show", "orders.wit", "--format", "asyncapi", "--title", "Shop"]);
    let value: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((&value["asyncapi"], &value["info"]["title"]), (&"3.0.0".into(), &"Shop".into()));
    let run = sandbox.busway(&["contract", "show", "checkout.wasm", "--json"]);
    let value: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let function = &value["contracts"][0]["functions"][0];
    assert_eq!((&function["topic"], &function["key"]), (&"shop.orders.v1.order-events.placed".into(), &"key".into()));
    let app = sandbox.path().join("app");
    fs::create_dir(&app).expect("a folder");
    fs::copy(sandbox.path().join("checkout.wasm"), app.join("checkout.wasm")).expect("copied");
    let run = sandbox.busway(&["contract", "show", "app", "--format", "markdown"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("# app\n") && run.stdout.contains("- Produced by `checkout`\n"), "{}", run.stdout);
    let run = sandbox.busway(&["contract", "show", "orders.wit", "--format", "yaml"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("json-schema, asyncapi and openapi"), "{}", run.stderr);
}

#[test]
fn a_component_with_embedded_wit_shows_its_docs() {
    let sandbox = sandbox();
    let run = sandbox.busway(&["contract", "show", "checkout.wasm"]);
    assert!(!run.stdout.contains("An order was placed"), "{}", run.stdout);
    let run = sandbox.busway(&["contract", "embed", "checkout.wasm", "--wit", "orders.wit", "-o", "documented.wasm"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, "documented.wasm carries the docs of orders.wit\n"));
    let run = sandbox.busway(&["contract", "show", "documented.wasm"]);
    assert!(run.stdout.contains("/// An order was placed."), "{}", run.stdout);
    let run = sandbox.busway(&["contract", "embed", "checkout.wasm", "--wit", "broken.wit"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("broken.wit is not the WIT that checkout.wasm was built from"), "{}", run.stderr);
    let files: Vec<_> =
        fs::read_dir(sandbox.path()).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(!files.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{files:?}");
}
