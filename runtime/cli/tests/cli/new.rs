//! `busway new`: what it refuses, and what it says. That its services work is an end-to-end test.

use crate::harness::Sandbox;

#[test]
fn nothing_that_exists_is_written_over() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path().join("empty")).expect("made");
    std::fs::create_dir(sandbox.path().join("full")).expect("made");
    std::fs::write(sandbox.path().join("full/mine"), "mine").expect("written");
    let run = sandbox.busway(&["new", "empty"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("wit/deps/empty-events/events.wit"), "{run:?}");
    assert!(run.stderr.contains("cargo build --release"), "{run:?}");
    let run = sandbox.busway(&["new", "full"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(run.stderr.contains("full exists and is not empty"), "{run:?}");
    let mut left: Vec<_> =
        std::fs::read_dir(sandbox.path()).expect("listed").map(|entry| entry.expect("one").file_name()).collect();
    left.sort();
    assert_eq!(left, ["empty", "full"], "nothing half done lies about");
}

#[test]
fn what_cannot_be_made_is_said_with_what_can() {
    let sandbox = Sandbox::new();
    let told = |arguments: &[&str], code: i32, expected: &[&str]| {
        let run = sandbox.busway(arguments);
        assert_eq!(run.code, code, "{run:?}");
        for expected in expected {
            assert!(run.stderr.contains(expected), "{expected}: {run:?}");
        }
    };
    told(&["new", "Stock"], 2, &["lower-case letters"]);
    told(&["new", "fn"], 2, &["`fn-service` is free"]);
    told(&["new", "a", "--lang", "go"], 2, &["no template for `go`", "tinygo", "componentize-py", "busway inspect"]);
    told(&["new", "a", "--role", "raw", "--contract", "a:b"], 2, &["`raw` has bytes and no contract"]);
    told(&["new", "a", "--contract", "nothing.wit"], 2, &["neither a file or folder that exists nor the name"]);
    told(&["new", "a", "--contract", "shop:orders"], 1, &["neither a folder `wit` nor a component here"]);
    std::fs::create_dir(sandbox.path().join("wit")).expect("made");
    let orders = "package shop:orders@1.0.0;\ninterface order-events { placed: func(id: string); }\n";
    std::fs::write(sandbox.path().join("wit/orders.wit"), orders).expect("written");
    told(&["new", "a", "--contract", "shop:stock"], 1, &["wit/orders.wit: shop:orders/order-events@1.0.0"]);
    told(&["new", "a", "--contract", "shop:orders@2.0.0"], 1, &["no contract of `shop:orders@2.0.0`"]);
    let run = sandbox.busway(&["new", "a", "--contract", "shop:orders", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(said["contracts"][0], "shop:orders/order-events@1.0.0");
    assert_eq!(said["component"], "target/wasm32-wasip2/release/a.wasm");
    let copied = std::fs::read_to_string(sandbox.path().join("a/wit/deps/shop-orders-1.0.0/orders.wit"));
    assert_eq!(copied.expect("a copy"), orders);
}
