//! Contracts: services that know nothing of busway, and what comes through between them.

use busway_gateway::api::{PublishRequest, ServiceState};
use busway_tests::programs;

use crate::harness::{App, Bus, text};

/// A value of every type, in the mapping's own words.
const EVERYTHING: &str = r#"{"yes":true,"i8":-128,"n8":255,"i16":-32768,"n16":65535,"i32":-2147483648,"n32":4294967295,"i64":-9223372036854775808,"n64":18446744073709551615,"small":0.1,"large":"-Infinity","letter":"ü","text":"a\"b\\c","bytes":"AP8=","numbers":[1,65535],"pair":[7,"seven"],"shapes":["nothing",{"dot":{"x":1e300,"y":"NaN"}},{"polygon":[]},{"named":["n",  "green"]}],"favourite":"blue","rights":["read","run"],"maybe":null,"maybe-maybe":{"some":null},"outcome":{"err":"no"},"bare":{"ok":null},"three":[1,2,3],"sizes":[["a",1],["b",2]]}"#;

fn typed(function: &str, data: &str) -> PublishRequest {
    let topic = format!("test.values.v1.{function}");
    PublishRequest { topic, text: Some(data.to_owned()), ..PublishRequest::default() }
}

async fn refusal(bus: &Bus, request: PublishRequest) -> String {
    format!("{:?}", bus.node.admin().publish(vec![request]).await.expect_err("refused"))
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn mirror() {
    let app = App::new().with(programs::MIRROR, "mirror");
    let bus = app.run().await;
    let event = format!(r#"{{"key":"k","value":{EVERYTHING}}}"#);
    bus.publish(vec![typed("inputs.all", &event), typed("inputs.nothing", "{}")]).await;
    bus.idle().await;
    let mirror = bus.service("mirror").await;
    assert_eq!((mirror.acked, mirror.published, mirror.dead_lettered), (2, 2, 0));
    assert_eq!(mirror.subscriptions[0].name, "mirror:test.values.v1.inputs");
    let all = bus.tail("test.values.v1.outputs.all").await.remove(0);
    let plain = |text: &str| text.replace("  ", "");
    assert_eq!(plain(&text(&all)), plain(&event), "what comes back is what was sent");
    assert_eq!((all.key.as_deref(), all.content_type.as_deref()), (Some("k"), Some("application/json")));
    assert_eq!(all.source.as_deref(), Some("mirror"));
    let nothing = bus.tail("test.values.v1.outputs.nothing").await;
    assert_eq!(nothing.iter().map(text).collect::<Vec<_>>(), ["{}"]);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_event_carries_what_the_context_says_of_it() {
    let app = App::new().with(programs::MIRROR, "mirror");
    let bus = app.run().await;
    bus.publish(vec![typed("inputs.dressed", r#"{"text":"x"}"#)]).await;
    bus.idle().await;
    let dressed = bus.tail("test.values.v1.outputs.dressed").await;
    let [first, second] = &dressed[..] else { panic!("{dressed:?}") };
    assert_eq!(first.key.as_deref(), Some("dress"));
    assert_eq!(
        first.headers[0].value, "test.values.v1.inputs.dressed 1 0",
        "the envelope is readable in a typed handler"
    );
    assert_eq!((second.key.as_deref(), second.headers.len()), (None, 0), "said of the next one only");
    bus.stop().await;
}

/// A byte list takes forty times its size on the host.
#[tokio::test(flavor = "multi_thread")]
async fn a_byte_list_that_is_too_large_harms_nobody_and_says_so() {
    let bytes = |count: usize| {
        let list = "AAAA".repeat(count / 3);
        typed("inputs.all", &format!(r#"{{"key":"k","value":{}}}"#, EVERYTHING.replace("AP8=", &list)))
    };
    let limits = "[limits]\nevent-bytes = \"8MiB\"\noutbox-bytes = \"8MiB\"\n";
    let app = App::new().manifest(limits).service("mirror", programs::MIRROR, "memory = \"32MiB\"\n");
    let bus = app.run().await;
    let refused = refusal(&bus, bytes(4 << 20)).await;
    assert!(refused.contains("at most 1000000 values in one event"), "{refused}");
    bus.publish(vec![bytes(300_000), bytes(990_000), bytes(3)]).await;
    bus.idle().await;
    let mirror = bus.service("mirror").await;
    let dead = bus.dead().await;
    assert!(mirror.acked == 2 && mirror.memory_bytes <= 32 << 20, "{mirror:?} {dead:?}");
    assert!(dead.len() == 1 && dead[0].error.contains("fit into what is left of the service's `memory`"), "{dead:?}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_names_the_key_of_contracts_that_have_none() {
    let key = |path: &str| {
        let of =
            |interface: &str| format!("[contracts.\"test:values/{interface}\"]\nkey = {{ dressed = \"{path}\" }}\n");
        App::new().manifest(&(of("inputs") + &of("outputs"))).service("mirror", programs::MIRROR, "")
    };
    let app = key("text");
    let bus = app.run().await;
    bus.publish(vec![typed("inputs.dressed", r#"{"text":"x"}"#)]).await;
    bus.idle().await;
    assert_eq!(bus.tail("test.values.v1.inputs.dressed").await[0].key.as_deref(), Some("x"), "published by hand");
    let dressed = bus.tail("test.values.v1.outputs.dressed").await;
    let data: serde_json::Value = serde_json::from_str(&text(&dressed[1])).expect("JSON");
    assert_eq!(dressed[0].key.as_deref(), Some("dress"), "what the guest says goes first");
    assert_eq!(dressed[1].key.as_deref(), data["text"].as_str(), "published by a service");
    bus.stop().await;
    let app = key("body");
    let bus = app.run().await;
    let status = bus.status().await;
    let reason = &status.refused[0].reason;
    let wanted = "the key `body` of `dressed` in the contract `test:values/outputs@1.0.0` is not there";
    assert!(reason.contains(wanted) && reason.contains("`text`, not `body`"), "{reason}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_typed_handler_answers_decides_what_becomes_of_the_event() {
    let retry = "retry = { attempts = 2, backoff = \"10ms\" }\n";
    let app = App::new().service("mirror", programs::MIRROR, retry);
    let bus = app.run().await;
    for (function, data) in [
        ("inputs.fail", r#"{"how":{"retry":"later"}}"#),
        ("inputs.fail", r#"{"how":{"wait":5}}"#),
        ("inputs.fail", r#"{"how":{"reject":"never"}}"#),
        ("inputs.complain", r#"{"text":"all is lost"}"#),
        // The producer's refusal, as the handler got it.
        ("inputs.complain", r#"{"text":"refused"}"#),
    ] {
        bus.publish(vec![typed(function, data)]).await;
    }
    bus.idle().await;
    let dead = bus.dead().await;
    let mut told: Vec<_> = dead.iter().map(|dead| (dead.attempts, dead.error.as_str())).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (1, "never"),
            (2, "all is lost"),
            (2, "later"),
            (2, r#"the handler returned the error {"wait":5}"#),
            (2, "the key has 300 bytes; 1 to 255 are allowed (leave the key out for no order)"),
        ]
    );
    assert_eq!(bus.tail("test.values.v1.outputs.>").await.len(), 0, "nothing of a failed delivery is seen");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_breaks_the_contract_is_refused_before_it_is_accepted() {
    let app = App::new().with(programs::MIRROR, "mirror");
    let bus = app.run().await;
    let broken = EVERYTHING.replace("\"n8\":255", "\"n8\":256");
    let told = refusal(&bus, typed("inputs.all", &format!(r#"{{"key":"k","value":{broken}}}"#))).await;
    assert!(told.contains("`value.n8`: expected an integer from 0 to 255 (u8), got 256"), "{told}");
    let told = refusal(&bus, typed("inputs.complain", r#"{"txt":"x"}"#)).await;
    assert!(told.contains("expected one of `text`, got a member `txt`"), "{told}");
    let other_key =
        PublishRequest { key: Some("other".into()), ..typed("outputs.refused", r#"{"key":"k","text":""}"#) };
    let told = refusal(&bus, other_key).await;
    assert!(told.contains("the key `other` is not the one in the data, `k`"), "{told}");
    bus.publish(vec![typed("outputs.refused", r#"{"key":"k","text":""}"#)]).await;
    assert_eq!(bus.tail("test.values.v1.outputs.refused").await[0].key.as_deref(), Some("k"), "taken from the data");
    bus.stop().await;
}

/// An event that was published while nobody knew its contract meets the handler later.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_event_that_does_not_fit_becomes_a_dead_letter_with_the_place() {
    let app = App::new();
    let bus = app.run_on_disk().await;
    bus.publish(vec![typed("inputs.complain", r#"{"text":7}"#), typed("inputs.nothing", r#"{"unknown":1}"#)]).await;
    bus.stop().await;
    let app = app.service("later", programs::MIRROR, "from = \"start\"\n");
    let bus = app.run_on_disk().await;
    bus.idle().await;
    let dead = bus.dead().await;
    let told: Vec<_> = dead.iter().map(|dead| dead.error.as_str()).collect();
    assert_eq!(told, ["the event does not fit `complain`: `text`: expected a string, got 7"]);
    assert_eq!(bus.service("later").await.acked, 1, "unknown members of a stored event are passed over");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn typed_source() {
    let app = App::new().with(programs::TYPED_SOURCE, "source");
    let bus = app.run().await;
    bus.until("the task is done", |status| status.services[0].state == ServiceState::Finished).await;
    let nothing = bus.tail("test.values.v1.outputs.>").await;
    assert_eq!(nothing.iter().map(text).collect::<Vec<_>>(), ["{}", r#"{"key":"k","text":"accepted"}"#]);
    bus.stop().await;
}

/// Without a list a service may publish what it was built to publish; with one the list is all, whatever it was built for.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_topics_holds_for_contracts_too() {
    let app = App::new().service("source", programs::TYPED_SOURCE, "publish = []\n");
    let bus = app.run().await;
    let refused = bus.status().await.refused.remove(0).reason;
    assert!(refused.contains("produce the contract `test:values/outputs@1.0.0`"), "{refused}");
    assert!(refused.contains("publish = [\"test.values.v1.outputs.*\"]"), "{refused}");
    bus.stop().await;
    let given = "publish = [\"test.values.v1.outputs.*\"]\n";
    let bus = App::new().service("source", programs::TYPED_SOURCE, given).run().await;
    bus.until("the task is done", |status| status.services[0].state == ServiceState::Finished).await;
    assert_eq!(bus.tail("test.values.v1.outputs.>").await.len(), 2);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn typed_echo() {
    let app = App::new().with(programs::TYPED_ECHO, "echo");
    let bus = app.run().await;
    let small = |n: u32| {
        let event = format!(r#"{{"id":"{n}","sku":"s","quantity":{n},"cents":1,"paid":true}}"#);
        typed("bench.small", &format!(r#"{{"key":"k{n}","event":{event}}}"#))
    };
    let lines: Vec<_> = (0..10_000).map(|n| format!(r#"{{"sku":"s{n}","quantity":{n},"cents":{n}}}"#)).collect();
    let large = typed("bench.large", &format!(r#"{{"key":"k","lines":[{}]}}"#, lines.join(",")));
    bus.publish((0..500).map(small).chain([large]).collect()).await;
    bus.idle().await;
    let echo = bus.service("echo").await;
    assert_eq!((echo.acked, echo.dead_lettered, echo.trapped), (501, 0, 0));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn typed_forward() {
    let app = App::new().with(programs::TYPED_FORWARD, "forward");
    let bus = app.run().await;
    let event = r#"{"key":"k","event":{"id":"1","sku":"s","quantity":1,"cents":2,"paid":false}}"#;
    bus.publish(vec![typed("bench.small", event)]).await;
    bus.idle().await;
    let forward = bus.service("forward").await;
    assert_eq!((forward.acked, forward.published), (1, 1), "{forward:?}");
    assert_eq!(bus.texts("test.values.v1.bench-out.small").await, [event]);
    bus.stop().await;
}

/// Contract handlers and raw ones meet on the same topics.
#[tokio::test(flavor = "multi_thread")]
async fn a_raw_service_gets_typed_events_as_json() {
    let app = App::new().service("mirror", programs::MIRROR, "").service(
        "raw",
        programs::FORWARD,
        "subscribe = [\"test.>\"]\npublish = [\"seen\"]\nconfig = { to = \"seen\" }\n",
    );
    let bus = app.run().await;
    bus.publish(vec![typed("inputs.nothing", "{}")]).await;
    bus.idle().await;
    let seen: Vec<_> = bus.tail("seen").await.iter().map(text).collect();
    assert_eq!(seen, ["{}", "{}"], "the event for the mirror, and the one of the mirror");
    bus.stop().await;
}
