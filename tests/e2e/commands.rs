//! Commands about contracts, as their user meets them: asking a request, publishing to it, reading typed events.

use std::process::Stdio;

use busway_tests::services;

use crate::harness::App;
use crate::process::{NodeProcess, ask, command, once};

const CART: &str = "{\n  \"key\": \"ada\", \"id\": \"o 1\",\n  \"lines\": [ { \"sku\": \"pot\", \"quantity\": 2 } ]\n}";

const THREE: &str = r#"{"key":"ada","id":"o1","lines":[{"sku":"pot","quantity":"three"}]}"#;
const MISSPELT: &str = r#"{"key":"ada","id":"o1","lines":[{"sku":"pot","quantitiy":3}]}"#;

#[test]
fn a_request_is_asked_and_a_typed_event_read_from_the_command_line() {
    let app = App::new().with(services::QUOTES, "quotes").with(services::CHECKOUT, "checkout");
    let runtime = tempfile::tempdir().expect("a folder");
    let runtime = runtime.path();
    let folder = app.path().to_str().expect("UTF-8");
    let node = command(runtime, &["run", folder]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _node = NodeProcess(node.expect("the node starts"));

    let pot = r#"{"sku":"pot","quantity":2}"#;
    let quote = ask(runtime, &["request", "shop:orders/quotes.quote", "--data", pot], "");
    assert_eq!(quote, "{\"cents\":5800}\n");
    let topic = "shop.orders.v1.quotes.quote";
    assert_eq!(ask(runtime, &["request", topic, "--data", pot], ""), quote);
    let json = ask(runtime, &["request", "shop:orders/quotes@1.0.0.quote", "--data", pot, "--json"], "");
    assert_eq!(json, format!("{{\"ok\":{}}}\n", quote.trim_end()));

    let told = |arguments: &[&str]| {
        let output = once(runtime, arguments, "");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = told(&["request", topic, "--data", r#"{"sku":"unicorn","quantity":1}"#]);
    assert_eq!(code, Some(1), "{out} {err}");
    assert!(out.contains("unicorn") && err.contains("the answer is this error"), "{out} {err}");
    let carts = "shop.orders.v1.carts.checked-out";
    for (arguments, says) in [
        (&["request", topic, "--data", r#"{"sku":7}"#][..], "`sku`: expected a string, got 7"),
        (&["request", topic, "--data", "{"], "--data is not JSON"),
        (&["request", "shop:orders/quotes.price"], "no service here answers `shop:orders/quotes.price`"),
        (&["request", "shop.orders.v1.carts.checked-out"], "no service here answers"),
        (&["publish", topic, "--data", pot], "you ask with `busway request shop.orders.v1.quotes.quote --data JSON`"),
        // What the README of the shop names.
        (
            &["publish", carts, "--data", THREE],
            "`lines[0].quantity`: expected an integer from 0 to 4294967295 (u32), got \"three\"",
        ),
        (&["publish", carts, "--data", MISSPELT], "got a member `quantitiy`"),
    ] {
        let (code, out, err) = told(arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }

    ask(runtime, &["publish", "shop.orders.v1.carts.checked-out", "--data", CART], "");
    let tail = ask(runtime, &["tail", "shop.orders.v1.carts.>", "--from", "start", "--no-follow"], "");
    let line = r#" {"key":"ada","id":"o 1","lines":[{"sku":"pot","quantity":2}]}"#;
    assert!(tail.ends_with(&format!("{line}\n")) && tail.lines().count() == 1, "{tail}");
    assert!(tail.contains(" shop.orders.v1.carts.checked-out ada "), "{tail}");
    assert!(!tail.contains('\u{1b}'), "colours are for terminals: {tail}");
    let status = ask(runtime, &["status"], "");
    assert!(status.contains("quotes: answers shop.orders.v1.quotes.quote ("), "{status}");
}
