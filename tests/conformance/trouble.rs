//! Behaviours of nodes and brokers that end, freeze and come back.

use std::path::Path;
use std::time::Duration;

use busway_engine::EngineKind;
use busway_gateway::api::NodeRole;
use busway_tests::node::Node;
use busway_tests::programs;
use busway_types::{Clock as _, SystemClock};

use crate::bus::{Bus, Published, Service, event, log, until, write_app};
use crate::engines::Place;
use crate::quiet::{check, exactly};
use crate::table::{Check, Found, Row};

const SURVIVES: &str = "acknowledged survives the process";
const TAKEOVER: &str = "several nodes, of which one owns the bus and another takes over";
const SPREAD: &str = "the work of one bus spread over nodes";
const STALE: &str = "a stale owner changes nothing";
const BROKER: &str = "goes on by itself when the broker was restarted or away";

/// Events of each check.
const EVENTS: u32 = 300;

/// What counts and passes on: effects in key-value and in events, each of which may be there once.
const SERVICES: [Service<'static>; 2] = [
    (
        "rewrite",
        programs::KV_RMW,
        "subscribe = [\"conf.in\"]\nconcurrency = 2\nconfig = { hold-ms = \"1\" }\nretry = { attempts = 1000, backoff = \"1ms\" }\n",
    ),
    ("carry", programs::FORWARD, "subscribe = [\"conf.in\"]\nconfig = { to = \"conf.out\" }\n"),
];

pub(crate) fn rows() -> Vec<Row> {
    let row = |what, guarantee, check: Check| Row { what, guarantee, check };
    vec![
        row("a node killed with SIGKILL while handling", SURVIVES, killed_while_handling),
        row("a second node takes the bus over", TAKEOVER, taken_over),
        row("two nodes share the work", SPREAD, work_shared),
        row("a node that shares the work is killed with SIGKILL", SPREAD, worker_killed),
        row("an owner that was frozen changes nothing", STALE, frozen_owner),
        row("the broker is killed and started again", BROKER, broker_restarted),
        row("the broker is away for a while", BROKER, broker_away),
    ]
}

fn app(place: &mut Place) -> (std::path::PathBuf, String) {
    let (folder, engine) = place.fresh();
    write_app(&folder, "[limits]\npublish-wait = \"1s\"\n", &SERVICES);
    (folder, engine)
}

/// Waits until all of the events had their effects, each once.
fn all_once(bus: &Bus, count: u32) -> Result<(), String> {
    exactly(bus, "conf.out", count as usize)?;
    let counted = bus.counted("rewrite", "counter")?;
    check(counted == Some(count.to_string()), || format!("{count} events were counted {counted:?} times"))
}

fn killed_while_handling(place: &mut Place) -> Result<Found, String> {
    let (folder, engine) = app(place);
    let bus = Bus::at_work(&folder, &engine, SERVICES.len())?;
    bus.publish_numbers("conf.in", 0..EVENTS)?;
    bus.has("conf.out", 20)?;
    let open = bus.service("rewrite")?.acked < u64::from(EVENTS);
    bus.kill()?;
    check(open, || "all of it was handled before the node could be killed".to_owned())?;
    let bus = Bus::at_work(&folder, &engine, SERVICES.len())?;
    if bus.status()?.bus.head == 0 {
        return Ok(Found::Absent);
    }
    all_once(&bus, EVENTS)?;
    bus.stop()?;
    Ok(Found::Holds)
}

/// What another node does with the same engine: it waits for its turn, it ends with a reason, or it has a bus of its own.
enum Second {
    Waits(Bus),
    Refused(String),
    Other(Bus),
}

fn second(folder: &Path, engine: &str, kind: EngineKind) -> Result<Second, String> {
    if kind == EngineKind::File {
        let mut node = Node::start(folder, engine, &["--no-watch"]);
        return match node.ready() {
            Ok(_) => Err("two nodes have the same folder".to_owned()),
            Err(_) => Ok(Second::Refused(log(folder))),
        };
    }
    let bus = Bus::start(folder, engine)?;
    if kind == EngineKind::Memory {
        return Ok(Second::Other(bus));
    }
    let status = bus.status()?;
    check(status.node.standby.is_some(), || format!("two nodes own the bus: {:?}", status.node))?;
    Ok(Second::Waits(bus))
}

fn taken_over(place: &mut Place) -> Result<Found, String> {
    let (folder, engine) = app(place);
    let first = Bus::at_work(&folder, &engine, SERVICES.len())?;
    first.publish_numbers("conf.in", 0..EVENTS)?;
    match second(&folder, &engine, place.kind)? {
        Second::Waits(second) => {
            first.kill()?;
            second.works(SERVICES.len())?;
            second.publish_numbers("conf.in", EVENTS..EVENTS + 50)?;
            all_once(&second, EVENTS + 50)?;
            second.stop()?;
            Ok(Found::Holds)
        }
        Second::Refused(told) => {
            check(told.contains("another node") || told.contains("in use"), || told)?;
            all_once(&first, EVENTS)?;
            first.stop()?;
            Ok(Found::Absent)
        }
        Second::Other(second) => {
            second.works(SERVICES.len())?;
            check(second.status()?.bus.head == 0, || "two buses in memory are one".to_owned())?;
            second.stop()?;
            first.stop()?;
            Ok(Found::Absent)
        }
    }
}

/// Two nodes that share the work; none where a second one has no part in it.
fn sharing(place: &mut Place) -> Result<Option<(Bus, Bus)>, String> {
    let (folder, engine) = app(place);
    let first = Bus::at_work(&folder, &engine, SERVICES.len())?;
    match second(&folder, &engine, place.kind)? {
        Second::Waits(second) => {
            until("shared", || {
                let nodes = first.status()?.nodes;
                let works = nodes.iter().any(|node| node.role == NodeRole::Worker);
                Ok(if works { Ok(()) } else { Err(format!("{nodes:?}")) })
            })?;
            Ok(Some((first, second)))
        }
        Second::Refused(_) => first.stop().map(|()| None),
        Second::Other(second) => {
            check(second.status()?.nodes.is_empty(), || "two buses in memory share something".to_owned())?;
            second.stop()?;
            first.stop().map(|()| None)
        }
    }
}

fn work_shared(place: &mut Place) -> Result<Found, String> {
    let Some((first, second)) = sharing(place)? else { return Ok(Found::Absent) };
    first.publish_numbers("conf.in", 0..EVENTS)?;
    all_once(&first, EVENTS)?;
    let nodes = first.status()?.nodes;
    let both = nodes.len() == 2 && nodes.iter().all(|node| node.handled > 0);
    check(both, || format!("the work is not shared: {nodes:?}"))?;
    second.stop()?;
    first.stop()?;
    Ok(Found::Holds)
}

fn worker_killed(place: &mut Place) -> Result<Found, String> {
    let Some((first, second)) = sharing(place)? else { return Ok(Found::Absent) };
    first.publish_numbers("conf.in", 0..EVENTS)?;
    first.has("conf.out", 20)?;
    second.kill()?;
    all_once(&first, EVENTS)?;
    first.stop()?;
    Ok(Found::Holds)
}

fn frozen_owner(place: &mut Place) -> Result<Found, String> {
    let (folder, engine) = app(place);
    let first = Bus::at_work(&folder, &engine, SERVICES.len())?;
    match second(&folder, &engine, place.kind)? {
        Second::Waits(second) => {
            first.publish_numbers("conf.in", 0..EVENTS)?;
            first.signal("-STOP")?;
            second.works(SERVICES.len())?;
            first.signal("-CONT")?;
            until("waiting for its turn", || {
                // For a moment it does not listen: it ends, and another one begins in its place.
                let status = first.status();
                Ok(status
                    .and_then(|status| status.node.standby.map(drop).ok_or_else(|| "it still owns the bus".to_owned())))
            })?;
            all_once(&second, EVENTS)?;
            // It may still be starting in its new place, and one that is asked to end then ends with an error.
            first.kill()?;
            second.stop()?;
            Ok(Found::Holds)
        }
        Second::Refused(_) => {
            first.publish_numbers("conf.in", 0..EVENTS)?;
            all_once(&first, EVENTS)?;
            first.stop()?;
            Ok(Found::Holds)
        }
        Second::Other(_) => Err("there are two owners".to_owned()),
    }
}

fn broker_restarted(place: &mut Place) -> Result<Found, String> {
    let (folder, engine) = app(place);
    let bus = Bus::at_work(&folder, &engine, SERVICES.len())?;
    bus.publish_numbers("conf.in", 0..EVENTS)?;
    let broker = place.broker()?;
    broker.kill()?;
    broker.start_again()?;
    // What was not taken may be sent again.
    for number in EVENTS..EVENTS + 50 {
        sent(&bus, number)?;
    }
    all_once(&bus, EVENTS + 50)?;
    bus.stop()?;
    Ok(Found::Holds)
}

/// Publishes under an id of its own until it is taken.
fn sent(bus: &Bus, number: u32) -> Result<(), String> {
    let mut event = event("conf.in", number.to_string());
    event.id = Some(format!("018f4e5c-2222-7abc-8def-{number:012x}"));
    until("taken", || match bus.try_publish(std::slice::from_ref(&event)) {
        Ok(Published::Taken(_)) => Ok(Ok(())),
        // Of one that got no answer nobody knows whether it was taken: its id makes that harmless.
        Ok(Published::Refused(503, told)) | Err(told) => Ok(Err(told)),
        Ok(Published::Refused(status, told)) => Err(format!("refused with {status}: {told}")),
    })
}

fn broker_away(place: &mut Place) -> Result<Found, String> {
    let (folder, engine) = app(place);
    let bus = Bus::at_work(&folder, &engine, SERVICES.len())?;
    bus.publish_numbers("conf.in", 0..EVENTS)?;
    all_once(&bus, EVENTS)?;
    let before = complaints(&bus);
    place.broker()?.kill()?;
    std::thread::scope(|scope| {
        // Whatever was on its way when the broker went is neither lost nor refused: it is answered when the broker is back.
        let waiting = scope.spawn(|| sent(&bus, EVENTS));
        until("without room", || {
            let status = bus.status()?;
            Ok(if status.bus.room == "enough" { Err(status.bus.room) } else { Ok(()) })
        })?;
        let clock = SystemClock::new();
        let began = clock.now();
        match bus.try_publish(&[event("conf.in", "never")])? {
            Published::Refused(503, told) if told.contains("overloaded") => {}
            other => return Err(format!("without a broker publishing is answered with {other:?}")),
        }
        check(clock.now().since(began) >= Duration::from_millis(900), || "publishers do not wait".to_owned())?;
        place.broker()?.start_again()?;
        waiting.join().map_err(|_| "the publisher panicked".to_owned())?
    })?;
    sent(&bus, EVENTS + 1)?;
    all_once(&bus, EVENTS + 2)?;
    let said = complaints(&bus) - before;
    check(said <= 5, || format!("{said} complaints about one thing: {}", bus.said()))?;
    bus.stop()?;
    Ok(Found::Holds)
}

/// Lines of the log that say that something is wrong.
fn complaints(bus: &Bus) -> usize {
    bus.said().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count()
}
