//! What `[bridges.NAME]` yields, and what its author is told.

use std::path::Path;
use std::time::Duration;

use super::super::{Finding, Manifest};
use super::*;

fn parse(text: &str) -> Result<Vec<BridgeConfig>, String> {
    let shown = |findings: Vec<Finding>| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Manifest::parse(Path::new("/app/busway.toml"), text).map(|manifest| manifest.bridges).map_err(shown)
}

fn refused(text: &str) -> String {
    parse(text).expect_err(text)
}

#[test]
fn both_ways_are_read_with_their_settings() {
    let bridges = parse(
        r#"
        [bridges.hello]
        from = "amqp://me:hush@h/queue/hello"
        to = "topic hello"
        key-header = "x-key"
        prefetch = 10
        deduplicate = false

        [bridges.replies]
        from = "topic replies replies.>"
        to = "nats://h/subject/replies"
        enabled = false
        ordering = "strict"
        retry = { attempts = 9, backoff = "1s" }
        "#,
    );
    let bridges = bridges.unwrap_or_else(|told| panic!("{told}"));
    let [hello, replies] = &bridges[..] else { panic!("{bridges:?}") };
    assert_eq!((hello.service.as_str(), hello.enabled, &*hello.key_header), ("bridge.hello", true, "x-key"));
    assert_eq!(hello.sides(), ("amqp://***@h:5672/%2f/queue/hello".to_owned(), "topic hello".to_owned()));
    assert!(
        matches!(hello.way, Way::In { prefetch: 10, deduplicate: false, .. }) && !format!("{hello:?}").contains("hush")
    );
    let Way::Out { topics, ordering, retry, .. } = &replies.way else { panic!("{replies:?}") };
    assert_eq!((topics.len(), *ordering, retry.attempts), (2, Ordering::Strict, 9));
    assert_eq!((retry.backoff, replies.enabled, &*replies.key_header), (Duration::from_secs(1), false, "busway-key"));
    assert_eq!(replies.sides(), ("topic replies replies.>".to_owned(), "nats://h:4222/subject/replies".to_owned()));
}

#[test]
fn every_mistake_says_what_is_wrong_and_what_to_write() {
    let both = "from = \"amqp://h/queue/a\"\nto = \"topic a\"\n";
    for (text, message) in [
        ("[bridges]\na = 1", "`a` in [bridges] is not a table"),
        ("[bridges.a]\nto = \"topic a\"", "[bridges.a] needs `from`"),
        ("[bridges.a]\nfrom = \"hello\"\nto = \"topic a\"", "neither a topic nor the address"),
        ("[bridges.a]\nfrom = \"topic b\"\nto = \"topic a\"", "one side is a topic, the other an address"),
        ("[bridges.a]\nfrom = \"nats://h/subject/a\"\nto = \"amqp://h/queue/a\"", "one side is a topic"),
        ("[bridges.a]\nfrom = \"amqp://h/queue/a\"\nto = \"topic a.*\"", "`a.*`"),
        ("[bridges.a]\nfrom = \"amqp://h/queue/a\"\nto = \"topic a b\"", "`to` is one topic"),
        ("[bridges.a]\nfrom = \"topic \"\nto = \"amqp://h/queue/a\"", "says no topic"),
        ("[bridges.a]\nfrom = \"topic a..b\"\nto = \"amqp://h/queue/a\"", "empty token"),
        ("[bridges.a]\nfrom = \"redis://h/a\"\nto = \"topic a\"", "begins with amqp://"),
        ("[bridges.\"a b\"]\nx = 1", "`a b` is not the name of a bridge"),
        (
            "[services.\"bridge.a\"]\n[bridges.a]\nfrom = \"amqp://h/queue/a\"\nto = \"topic a\"",
            "a service is called `bridge.a`",
        ),
        (&format!("[bridges.a]\n{both}prefech = 1"), "did you mean `prefetch`?"),
        (&format!("[bridges.a]\n{both}prefetch = 0"), "1 to 1000 are allowed"),
        (&format!("[bridges.a]\n{both}ordering = \"key\""), "`ordering` is only for a bridge that gives"),
        (&format!("[bridges.a]\n{both}key-header = \"a b\""), "the name of a header"),
        (
            "[bridges.a]\nfrom = \"topic a\"\nto = \"amqp://h/queue/a\"\nprefetch = 1",
            "`prefetch` is only for a bridge that takes",
        ),
        (
            "[bridges.a]\nfrom = \"topic a\"\nto = \"amqp://h/queue/a\"\nretry = { attempts = 0 }",
            "1 to 1000 are allowed",
        ),
    ] {
        let told = refused(text);
        assert!(told.contains(message), "{text}\ngave\n{told}");
    }
}

#[test]
fn a_login_is_in_no_message() {
    let told = refused("[bridges.a]\nfrom = \"amqp://me:hush@h/queue\"\nto = \"topic a\"");
    assert!(told.contains("says no queue") && !told.contains("hush"), "{told}");
    for mistake in [
        "form = \"amqp://me:hush@h/queue/a\"",
        "from = [\"amqp://me:hush@h/queue/a\"]",
        "from = \"amqp://me:hu/sh@h/queue/a",
        "from = 'amqp://me:hush@h/queue/a' to",
    ] {
        let told = refused(&format!("[bridges.a]\n{mistake}\nto = \"topic a\""));
        assert!(told.contains("amqp://**") && !told.contains("hush") && !told.contains("sh@"), "{told}");
    }
    let told = refused("bridges = { \"a b\" = { from = \"amqp://me:hush@h/queue/a\", to = \"topic a\" } }");
    assert!(told.contains("is not the name of a bridge") && !told.contains("hush"), "{told}");
}

#[test]
fn messages_that_would_go_in_a_circle_are_refused() {
    let bridge = |name: &str, from: &str, to: &str| format!("[bridges.{name}]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    let two = bridge("in", "amqp://h/queue/a", "topic t.a") + &bridge("out", "topic t.>", "amqp://u:p@h/queue/a");
    let told = refused(&two);
    assert!(told.contains("what `in` copies is copied again by `out`, then by `in`"), "{told}");
    assert_eq!(told.matches("circle").count(), 1, "{told}");
    assert!(parse(&two.replace("[bridges.out]", "[bridges.out]\nenabled = false")).is_ok());
    let four = bridge("a", "amqp://h/queue/1", "topic t.1")
        + &bridge("b", "topic t.1", "nats://h/stream/S?subject=s.2")
        + &bridge("c", "nats://h/stream/S", "topic t.2")
        + &bridge("d", "topic t.2", "amqp://h/queue/1");
    assert!(refused(&four).contains("`a` copies is copied again by `b`, then by `c`, then by `d`, then by `a`"));
    assert!(parse(&four.replace("topic t.2\"\nto = \"amqp", "topic t.3\"\nto = \"amqp")).is_ok());
    let chain = bridge("a", "amqp://h/queue/a", "topic t") + &bridge("b", "topic t", "amqp://h/queue/b");
    assert_eq!(parse(&chain).map(|bridges| bridges.len()), Ok(2));
}
