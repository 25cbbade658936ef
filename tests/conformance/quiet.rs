//! Behaviours of one node that nobody disturbs.

use std::collections::BTreeMap;

use base64::Engine as _;
use busway_engine::EngineKind;
use busway_gateway::api::{Envelope, HeaderField, PublishRequest, ReplayReply};
use busway_tests::programs;
use busway_types::DeadReason;

use crate::bus::{Bus, Published, Service, bytes, event, text, until, write_app};
use crate::engines::Place;
use crate::table::{Check, Found, Row};

const ORDER: &str = "order by key, strict order";
const FANOUT: &str = "fan-out, competing consumers, payloads and headers as published";
const REDELIVERY: &str = "back-off, delay, expiry, dead letters with reason and attempts";
const COMMIT: &str = "acknowledgement, publications and key-value in one commit";
const PRESSURE: &str = "backpressure: publishers wait, then are told `overloaded`";

pub(crate) fn rows() -> Vec<Row> {
    let row = |what, guarantee, check: Check| Row { what, guarantee, check };
    vec![
        row("order by key beside other keys", ORDER, order_by_key),
        row("a retry is not overtaken by its key", ORDER, retry_keeps_its_place),
        row("fan-out to several services", FANOUT, fan_out),
        row("competing instances share the events", FANOUT, competing),
        row("empty and large payloads", FANOUT, payloads),
        row("key, headers, media type, correlation", FANOUT, headers),
        row("redelivery with back-off", REDELIVERY, back_off),
        row("dead letters with reason and attempts", REDELIVERY, dead_letters),
        row("a dead letter is retried", REDELIVERY, dead_letter_retried),
        row("delay", REDELIVERY, delay),
        row("expiry", REDELIVERY, expiry),
        row("deduplication by id", "deduplication by topic and id, across owners", dedupe),
        row("a failed attempt leaves nothing", COMMIT, all_or_nothing),
        row("key-value conflicts run again", "key-value with conflicts found at commit", conflicts),
        row("replay", "replay, start at a time, trace", replay),
        row("backpressure with a slow service", PRESSURE, backpressure),
    ]
}

/// A bus with some services that works.
fn bus(place: &mut Place, head: &str, services: &[Service<'_>]) -> Result<Bus, String> {
    let (folder, engine) = place.fresh();
    write_app(&folder, head, services);
    Bus::at_work(&folder, &engine, services.len())
}

/// Ends a bus well; what was found holds if it is so.
fn found(bus: Bus, holds: Result<(), String>) -> Result<Found, String> {
    holds?;
    bus.stop()?;
    Ok(Found::Holds)
}

/// An error unless something is as it should be.
pub(crate) fn check(is: bool, told: impl FnOnce() -> String) -> Result<(), String> {
    if is { Ok(()) } else { Err(told()) }
}

fn keyed(topic: &str, key: &str, data: impl Into<String>) -> PublishRequest {
    PublishRequest { key: Some(key.to_owned()), ..event(topic, data) }
}

fn texts(events: &[Envelope]) -> Vec<String> {
    events.iter().map(text).collect()
}

fn order_by_key(place: &mut Place) -> Result<Found, String> {
    let bus = bus(place, "", &[("order", programs::ORDER, "concurrency = 4\n")])?;
    for some in 0..4 {
        let numbers = some * 100..(some + 1) * 100;
        let events: Vec<_> = numbers.map(|n| keyed("public.order", &format!("k{}", n % 10), n.to_string())).collect();
        bus.publish(&events)?;
    }
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in bus.has("public.order.out", 400)? {
        seen.entry(event.key.clone().unwrap_or_default()).or_default().push(text(&event));
    }
    let wanted = |key: u32| (0..40).map(|n| (key + n * 10).to_string()).collect::<Vec<_>>();
    let ordered = (0..10).all(|key| seen.get(&format!("k{key}")) == Some(&wanted(key)));
    found(bus, check(ordered, || format!("{seen:?}")))
}

fn retry_keeps_its_place(place: &mut Place) -> Result<Found, String> {
    let settings = "concurrency = 4\nretry = { attempts = 5, backoff = \"50ms\" }\n";
    let bus = bus(place, "", &[("failing", programs::FAILING, settings)])?;
    let events = [
        keyed("public.failing", "a", "retry:2"),
        keyed("public.failing", "a", "second"),
        keyed("public.failing", "b", "other"),
        keyed("public.failing", "a", "third"),
    ];
    bus.publish(&events)?;
    let out = bus.has("public.failing.out", 4)?;
    let of =
        |key: &str| -> Vec<String> { out.iter().filter(|event| event.key.as_deref() == Some(key)).map(text).collect() };
    let kept = of("a") == ["retry:2", "second", "third"] && of("b") == ["other"];
    found(bus, check(kept, || format!("{:?} {:?}", of("a"), of("b"))))
}

fn fan_out(place: &mut Place) -> Result<Found, String> {
    let both = [
        ("left", programs::FORWARD, "subscribe = [\"conf.in\"]\nconfig = { to = \"conf.left\" }\n"),
        ("right", programs::FORWARD, "subscribe = [\"conf.in\"]\nconfig = { to = \"conf.right\" }\n"),
    ];
    let bus = bus(place, "", &both)?;
    bus.publish_numbers("conf.in", 0..200)?;
    for topic in ["conf.left", "conf.right"] {
        exactly(&bus, topic, 200)?;
    }
    found(bus, Ok(()))
}

/// Waits until a topic has the numbers from 0, each once.
pub(crate) fn exactly(bus: &Bus, topic: &str, count: usize) -> Result<(), String> {
    let mut numbers: Vec<u32> = bus.has(topic, count)?.iter().filter_map(|event| text(event).parse().ok()).collect();
    numbers.sort_unstable();
    let wanted: Vec<u32> = (0..).take(count).collect();
    check(numbers == wanted, || format!("{topic} has not each of {count} once: {numbers:?}"))
}

fn competing(place: &mut Place) -> Result<Found, String> {
    let settings = "subscribe = [\"conf.in\"]\nconcurrency = 4\nconfig = { to = \"conf.out\" }\n";
    let bus = bus(place, "", &[("share", programs::FORWARD, settings)])?;
    bus.publish_numbers("conf.in", 0..500)?;
    exactly(&bus, "conf.out", 500)?;
    bus.settled("share")?;
    let acked = bus.service("share")?.acked;
    found(bus, check(acked == 500, || format!("500 events, {acked} acknowledged")))
}

fn payloads(place: &mut Place) -> Result<Found, String> {
    let settings = "subscribe = [\"conf.in\"]\nconfig = { to = \"conf.out\" }\n";
    let bus = bus(place, "", &[("carry", programs::FORWARD, settings)])?;
    // The default bound of an event is 1 MiB with its key and headers.
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let code = base64::engine::general_purpose::STANDARD.encode(&large);
    let empty = PublishRequest { topic: "conf.in".to_owned(), ..PublishRequest::default() };
    bus.publish(std::slice::from_ref(&empty))?;
    bus.publish(&[PublishRequest { base64: Some(code), ..empty.clone() }])?;
    let out = bus.has("conf.out", 2)?;
    check(bytes(&out[0]).is_empty() && bytes(&out[1]) == large, || "payloads came out changed".to_owned())?;
    let beyond = PublishRequest { text: Some("x".repeat(2 << 20)), ..empty };
    match bus.try_publish(&[beyond])? {
        Published::Refused(413, _) => found(bus, Ok(())),
        other => Err(format!("an event of 2 MiB is answered with {other:?}")),
    }
}

fn headers(place: &mut Place) -> Result<Found, String> {
    let settings = "subscribe = [\"conf.in\"]\nconfig = { to = \"conf.out\" }\n";
    let bus = bus(place, "", &[("carry", programs::FORWARD, settings)])?;
    let field = |name: &str, value: &str| HeaderField { name: name.to_owned(), value: value.to_owned() };
    let headers = vec![field("tenant", "blue"), field("twice", "1"), field("twice", "2"), field("umlaut", "größer")];
    let sent = PublishRequest {
        headers: headers.clone(),
        content_type: Some("text/csv".to_owned()),
        correlation: Some("order-7".to_owned()),
        ..keyed("conf.in", "schlüssel", "a,b")
    };
    bus.publish(&[sent])?;
    let out = bus.has("conf.out", 1)?.remove(0);
    let same = out.headers == headers
        && out.key.as_deref() == Some("schlüssel")
        && out.content_type.as_deref() == Some("text/csv")
        && out.correlation.as_deref() == Some("order-7")
        && (out.hops, out.source.as_deref()) == (1, Some("carry"));
    found(bus, check(same, || format!("{out:?}")))
}

fn back_off(place: &mut Place) -> Result<Found, String> {
    let settings = "retry = { attempts = 4, backoff = \"200ms\", backoff-max = \"10s\" }\n";
    let bus = bus(place, "", &[("failing", programs::FAILING, settings)])?;
    bus.publish(&[event("public.failing", "retry:2")])?;
    let out = bus.has("public.failing.out", 1)?.remove(0);
    let sent = bus.events("public.failing")?.remove(0);
    let attempt = out.headers.iter().find(|header| header.name == "attempt").map(|header| header.value.clone());
    check(attempt.as_deref() == Some("3"), || format!("it was acknowledged at attempt {attempt:?}"))?;
    // 200 and 400 ms, of which a quarter is random.
    let took = out.time_ms.since(sent.time_ms).as_millis();
    found(bus, check(took >= 450, || format!("two retries took {took} ms")))
}

fn dead_letters(place: &mut Place) -> Result<Found, String> {
    let settings = "retry = { attempts = 3, backoff = \"5ms\" }\n";
    let bus = bus(place, "", &[("failing", programs::FAILING, settings)])?;
    bus.publish(&[event("public.failing", "reject")])?;
    bus.dead("failing", 1)?;
    bus.publish(&[event("public.failing", "error:no stock")])?;
    let letters = bus.dead("failing", 2)?;
    let told: Vec<_> = letters.iter().map(|letter| (letter.reason, letter.attempts)).collect();
    let right =
        told == [(DeadReason::Rejected, 1), (DeadReason::Exhausted, 3)] && letters[1].error.contains("no stock");
    found(bus, check(right, || format!("{letters:?}")))
}

fn dead_letter_retried(place: &mut Place) -> Result<Found, String> {
    let bus = bus(place, "", &[("mended", programs::MENDED, "")])?;
    bus.publish(&[event("public.mended", "first")])?;
    bus.dead("mended", 1)?;
    bus.publish(&[event("public.mended", "mend")])?;
    bus.settled("mended")?;
    bus.post("/v1/dead/retry", "{\"service\":\"mended\"}")?;
    let out = bus.has("public.mended.out", 1)?;
    bus.dead("mended", 0)?;
    found(bus, check(texts(&out) == ["first"], || format!("{out:?}")))
}

fn delay(place: &mut Place) -> Result<Found, String> {
    let settings = "subscribe = [\"conf.in\"]\nconfig = { to = \"conf.out\" }\n";
    let bus = bus(place, "", &[("carry", programs::FORWARD, settings)])?;
    let late = PublishRequest { delay_ms: Some(900), ..event("conf.in", "late") };
    let taken = bus.publish(&[late, event("conf.in", "early")])?;
    check(taken[0].offset.is_none(), || "a delayed event has a place at once".to_owned())?;
    let out = bus.has("conf.out", 2)?;
    check(texts(&out) == ["early", "late"], || format!("{:?}", texts(&out)))?;
    let apart = out[1].time_ms.since(out[0].time_ms).as_millis();
    found(bus, check(apart >= 700, || format!("delayed by 900 ms, it came {apart} ms after the one that was not")))
}

fn expiry(place: &mut Place) -> Result<Found, String> {
    let bus = bus(place, "", &[("sleepy", programs::SLEEPY, "concurrency = 1\n")])?;
    let brief = PublishRequest { expires_ms: Some(200), ..event("public.sleepy", "1") };
    bus.publish(&[event("public.sleepy", "900")])?;
    bus.publish(&[brief, event("public.sleepy", "2")])?;
    bus.settled("sleepy")?;
    let status = bus.service("sleepy")?;
    let right = (status.acked, status.dead_lettered, status.subscriptions[0].expired) == (2, 0, 1);
    found(bus, check(right, || format!("{status:?}")))
}

fn dedupe(place: &mut Place) -> Result<Found, String> {
    let settings = "subscribe = [\"conf.in\"]\nconfig = { to = \"conf.out\" }\n";
    let bus = bus(place, "", &[("carry", programs::FORWARD, settings)])?;
    let id = "018f4e5c-1111-7abc-8def-0123456789ab";
    let once = PublishRequest { id: Some(id.to_owned()), ..keyed("conf.in", "one", "once") };
    let first = bus.publish(std::slice::from_ref(&once))?;
    let again = bus.publish(&[once.clone(), keyed("conf.in", "one", "other"), once])?;
    check(first[0].offset == again[0].offset && first[0].offset == again[2].offset, || format!("{first:?} {again:?}"))?;
    bus.settled("carry")?;
    let out = texts(&bus.has("conf.out", 2)?);
    found(bus, check(out == ["once", "other"], || format!("{out:?}")))
}

fn all_or_nothing(place: &mut Place) -> Result<Found, String> {
    let bus = bus(place, "", &[("trap", programs::TRAP, "retry = { attempts = 2, backoff = \"5ms\" }\n")])?;
    bus.publish(&[event("public.trap", "trap it"), event("public.trap", "fine")])?;
    let letter = bus.dead("trap", 1)?.remove(0);
    bus.settled("trap")?;
    let (out, handled) = (texts(&bus.has("public.trap.out", 1)?), bus.value("trap", "handled")?);
    let right = out == ["fine"] && handled.as_deref() == Some("1") && letter.reason == DeadReason::Trapped;
    found(bus, check(right, || format!("{out:?} {handled:?} {letter:?}")))
}

fn conflicts(place: &mut Place) -> Result<Found, String> {
    let settings = "concurrency = 4\nconfig = { hold-ms = \"1\" }\nretry = { attempts = 1000, backoff = \"1ms\" }\n";
    let bus = bus(place, "", &[("rewrite", programs::KV_RMW, settings)])?;
    bus.publish_numbers("public.kv-rmw", 0..200)?;
    let counted = bus.counted("rewrite", "counter")?;
    found(bus, check(counted.as_deref() == Some("200"), || format!("200 increments make {counted:?}")))
}

fn replay(place: &mut Place) -> Result<Found, String> {
    let settings = "subscribe = [\"conf.in\"]\nconfig = { to = \"conf.out\" }\n";
    let bus = bus(place, "", &[("carry", programs::FORWARD, settings)])?;
    let events: Vec<_> = (0..50).map(|number| keyed("conf.in", "one", number.to_string())).collect();
    bus.publish(&events)?;
    exactly(&bus, "conf.out", 50)?;
    let told = bus.post("/v1/replay", "{\"service\":\"carry\",\"from\":\"start\"}")?;
    let told: ReplayReply = serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
    check(told.moved && told.events == Some(50), || format!("{told:?}"))?;
    let again = texts(&bus.has("conf.out", 100)?);
    let in_order = (0..100).all(|n: usize| again[n] == (n % 50).to_string());
    found(bus, check(in_order, || format!("{again:?}")))
}

/// A bus in memory is full when too much waits for a service, one on disk or on a broker when its log is.
fn backpressure(place: &mut Place) -> Result<Found, String> {
    let (limit, hold) = match place.kind {
        EngineKind::Memory => ("backlog-bytes = \"8MiB\"", "2000"),
        _ => ("disk-bytes = \"256MiB\"", "20000"),
    };
    let head = format!("[limits]\n{limit}\npublish-wait = \"300ms\"\n");
    let bus = bus(place, &head, &[("sleepy", programs::SLEEPY, "concurrency = 1\ntimeout = \"60s\"\n")])?;
    bus.publish(&[event("public.sleepy", hold)])?;
    // Data is a number after much white space.
    let large = event("public.sleepy", format!("{}1", " ".repeat(900_000)));
    let mut taken = 1_u64;
    let (status, told) = loop {
        match bus.try_publish(&vec![large.clone(); 4])? {
            Published::Taken(replies) => taken += replies.len() as u64,
            Published::Refused(status, told) => break (status, told),
        }
        check(taken < 2_000, || format!("{taken} events of 0.9 MB wait, and more are taken"))?;
    };
    check(told.contains("overloaded"), || format!("refused with {status}: {told}"))?;
    until("emptied", || {
        let acked = bus.service("sleepy")?.acked;
        Ok(if acked == taken { Ok(()) } else { Err(format!("{acked} of {taken} handled")) })
    })?;
    until("with room", || match bus.try_publish(&[event("public.sleepy", "1")])? {
        Published::Taken(_) => Ok(Ok(())),
        Published::Refused(_, told) => Ok(Err(told)),
    })?;
    bus.settled("sleepy")?;
    let acked = bus.service("sleepy")?.acked;
    found(bus, check(acked == taken + 1, || format!("{acked} of {} handled", taken + 1)))
}
