//! `examples/shop`: services that know only their contract, built against several versions of it, in one node.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use busway_gateway::api::{Envelope, PublishRequest};
use busway_tests::{SHOP, root, services};

use crate::harness::{App, Bus, text};
use crate::logs;

fn shop() -> App {
    SHOP.into_iter().fold(App::new(), |app, (name, component)| app.with(component, name))
}

fn of_cart(function: &str, data: String) -> PublishRequest {
    let topic = format!("shop.orders.v1.carts.{function}");
    PublishRequest { topic, text: Some(data), ..PublishRequest::default() }
}

fn cart(customer: &str, id: &str, sku: &str, quantity: u32) -> PublishRequest {
    let lines = format!(r#"[{{"sku":"{sku}","quantity":{quantity}}}]"#);
    of_cart("checked-out", format!(r#"{{"key":"{customer}","id":"{id}","lines":{lines},"note":"by post"}}"#))
}

/// The ids in the data of events, by customer, in the order of the log.
fn ids(events: &[Envelope]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let data: serde_json::Value = serde_json::from_str(&text(event)).expect("JSON");
        let id = data["id"].as_str().or_else(|| data["order"]["id"].as_str()).expect("an id");
        found.entry(event.key.clone().expect("a key")).or_default().push(id.to_owned());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_shop_runs_on_two_versions_of_its_contract_and_keeps_the_order_of_each_customer() {
    const CUSTOMERS: usize = 20;
    const ORDERS: usize = 400;
    let bus = shop().run().await;
    let carts = (0..ORDERS).map(|n| cart(&format!("c{}", n % CUSTOMERS), &format!("o{n}"), "tea", 2));
    bus.publish(carts.collect()).await;
    bus.idle().await;
    let placed = bus.tail("shop.orders.v1.orders.placed").await;
    let wanted: BTreeMap<String, Vec<String>> = (0..CUSTOMERS)
        .map(|c| (format!("c{c}"), (c..ORDERS).step_by(CUSTOMERS).map(|n| format!("o{n}")).collect()))
        .collect();
    assert_eq!(ids(&placed), wanted);
    assert_eq!(ids(&bus.tail("shop.orders.v1.payments.paid").await), wanted);
    assert_eq!(ids(&bus.tail("shop.orders.v1.deliveries.shipped").await), wanted);
    let granted = bus.tail("shop.orders.v2.loyalty.granted").await;
    let reserved = bus.tail("shop.orders.v1.warehouse.reserved").await;
    assert_eq!((granted.len(), reserved.len()), (ORDERS, ORDERS));
    let status = bus.status().await;
    let quotes = bus.service("quotes").await;
    let answers: Vec<_> = quotes.answers.iter().map(busway_types::Topic::as_str).collect();
    assert_eq!(
        (&answers[..], quotes.answered, quotes.unanswered),
        (&["shop.orders.v1.quotes.quote"][..], ORDERS as u64, 0)
    );
    assert!(quotes.instances > 0 && quotes.memory_bytes > 0, "what it only answers with counts as well");
    assert_eq!(status.services.iter().map(|service| service.dead_lettered + service.trapped).sum::<u64>(), 0);
    assert_eq!(bus.tail("shop.orders.v1.quotes.>").await.len(), 0, "requests are not stored");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_of_the_shop_reads_an_event_by_its_own_version() {
    let bus = shop().run().await;
    bus.publish(vec![cart("ada", "o1", "pot", 3)]).await;
    bus.idle().await;
    for (topic, data) in [
        (
            "v1.orders.placed",
            r#"{"key":"ada","order":{"id":"o1","lines":[{"sku":"pot","quantity":3}],"total-cents":8700,"note":"by post"}}"#,
        ),
        // Of 1.0.0, which has no `method`.
        ("v1.payments.paid", r#"{"key":"ada","id":"o1","cents":8700}"#),
        ("v1.deliveries.shipped", r#"{"key":"ada","id":"o1","note":"8700 cents, paid in a way of 1.0.0"}"#),
        ("v1.warehouse.reserved", r#"{"key":"pot","quantity":3}"#),
        (
            "v2.orders.placed",
            r#"{"key":"ada","order":{"number":"o1","positions":[{"article":"pot","count":3}],"total":{"amount":8700,"currency":"EUR"}}}"#,
        ),
        ("v2.loyalty.granted", r#"{"key":"ada","number":"o1","points":87}"#),
    ] {
        assert_eq!(bus.texts(&format!("shop.orders.{topic}")).await, [data], "{topic}");
    }
    let withdrawn = r#"{"key":"ada","id":"o1","reason":"too late"}"#;
    bus.publish(vec![of_cart("withdrawn", withdrawn.into()), cart("ada", "o2", "unicorn", 1)]).await;
    bus.idle().await;
    assert_eq!(bus.texts("shop.orders.v1.orders.cancelled").await, [withdrawn]);
    assert_eq!(bus.texts("shop.orders.v2.loyalty.revoked").await, [r#"{"key":"ada","number":"o1"}"#]);
    assert_eq!(bus.service("payment").await.acked, 1, "what 1.0.0 does not have passes it by");
    let dead: Vec<_> = bus.dead().await.into_iter().map(|dead| (dead.service.to_string(), dead.error)).collect();
    assert_eq!(
        dead,
        [("checkout".to_owned(), "there is no price for `unicorn`".to_owned())],
        "the answer's own reject"
    );
    bus.stop().await;
}

/// What the broken stock's refusal says.
const DIFFERENCE: &str = "incompatible: shop:orders/orders@1.2.0 from checkout to shop:orders/orders@1.0.0 in stock";

async fn refusal(bus: &Bus) -> String {
    bus.until("stock is refused", |status| !status.refused.is_empty()).await;
    bus.status().await.refused.remove(0).reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_understand_the_others_is_not_started_and_the_others_run() {
    let app = shop();
    app.put(services::STOCK_BROKEN, "stock");
    let bus = app.run().await;
    let reason = refusal(&bus).await;
    assert!(reason.contains(DIFFERENCE) && reason.contains("placed(order.lines[].quantity)"), "{reason}");
    bus.publish(vec![cart("ada", "o1", "tea", 1)]).await;
    bus.idle().await;
    assert_eq!(bus.tail("shop.orders.v1.deliveries.shipped").await.len(), 1);
    assert_eq!(bus.tail("shop.orders.v1.warehouse.>").await.len(), 0);
    // Mended while the node runs.
    app.put(services::STOCK, "stock");
    bus.until("stock runs", |status| status.services.iter().any(|service| service.name.as_str() == "stock")).await;
    bus.publish(vec![cart("ada", "o2", "tea", 5)]).await;
    bus.idle().await;
    assert_eq!(bus.texts("shop.orders.v1.warehouse.reserved").await, [r#"{"key":"tea","quantity":5}"#]);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_does_not_understand_the_others_is_refused_and_the_old_one_goes_on() {
    let app = shop();
    let bus = app.run().await;
    app.put(services::STOCK_BROKEN, "stock");
    let reason = refusal(&bus).await;
    assert!(reason.contains(DIFFERENCE), "{reason}");
    bus.publish(vec![cart("ada", "o1", "tea", 7)]).await;
    bus.idle().await;
    assert_eq!(bus.texts("shop.orders.v1.warehouse.reserved").await, [r#"{"key":"tea","quantity":7}"#]);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_without_another_side_is_warned_of_once_at_the_start() {
    logs::capture();
    let app = App::new().with(services::SHIPPING, "ships-into-nothing").with(services::QUOTES, "quotes-for-nobody");
    let bus = app.run().await;
    app.put(services::PAYMENT, "payment");
    bus.until("payment runs", |status| status.services.len() == 3).await;
    for (name, warnings) in [
        (
            "ships-into-nothing",
            &[
                "ships-into-nothing produces shop:orders/deliveries@1.2.0, and no service handles that",
                "ships-into-nothing handles shop:orders/payments@1.2.0, and no service produces that",
            ][..],
        ),
        ("quotes-for-nobody", &["quotes-for-nobody handles shop:orders/quotes@1.0.0, and no service produces that"]),
    ] {
        let lines = logs::with(name);
        let lines: Vec<_> = lines.iter().filter(|line| line.contains("WARN")).collect();
        assert_eq!(lines.len(), warnings.len(), "{lines:?}");
        for warning in warnings {
            assert_eq!(lines.iter().filter(|line| line.contains(warning)).count(), 1, "{warning}: {lines:?}");
        }
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_do_not_fit_the_handler_is_not_started_and_what_fits_is_a_line_of_the_log() {
    logs::capture();
    // By name the handler comes first, and the producer handles something itself.
    let app = App::new().with(services::STOCK_BROKEN, "a-broken-stock").with(services::CHECKOUT, "the-checkout");
    let app = app.with(services::QUOTES, "the-quotes");
    let bus = app.run().await;
    let status = bus.status().await;
    let names: Vec<_> = status.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["the-checkout", "the-quotes"]);
    assert!(status.refused[0].path.ends_with("a-broken-stock.wasm"), "{:?}", status.refused);
    let lines = logs::with("from the-checkout to");
    let lines: Vec<_> = lines.iter().filter(|line| line.contains("INFO")).collect();
    let pair = "compatible: shop:orders/quotes@1.2.0 from the-checkout to shop:orders/quotes@1.0.0 in the-quotes";
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(&format!("{pair}, 1 difference; `busway check` shows more")), "{lines:?}");
    bus.stop().await;
}

/// The folders of the example as `cargo xtask guests` leaves them, and a command in the folder above `examples`.
fn busway(arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = folder.path().join("examples/shop");
    let place = |component: &str, path: &Path| {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::copy(component, path).expect("copied");
    };
    for (name, component) in SHOP {
        place(component, &shop.join("services").join(name).with_extension("wasm"));
    }
    place(services::STOCK_BROKEN, &shop.join("broken/stock_broken.wasm"));
    std::fs::copy(root().join("examples/shop/broken/busway.toml"), shop.join("broken/busway.toml")).expect("copied");
    let mut command = Command::new(busway_tests::busway());
    command.current_dir(folder.path()).env("NO_COLOR", "1").args(arguments);
    let output = command.output().expect("busway runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn what_the_readme_shows_of_check_is_what_check_says() {
    let readme = std::fs::read_to_string(root().join("examples/shop/README.md")).expect("the README");
    for (app, code) in [("examples/shop/services", 0), ("examples/shop/broken", 1)] {
        let (status, said) = busway(&["check", app]);
        assert_eq!(status, Some(code), "{said}");
        let block = format!("```console\n$ busway check {app}\n{said}```\n");
        assert!(readme.contains(&block), "examples/shop/README.md has to contain\n{block}");
    }
}
