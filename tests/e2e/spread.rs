//! Several nodes that share the work of one bus: real processes on a real server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use busway_gateway::api::{NodeRole, StatusReport};
use busway_tests::programs;
use busway_types::{Clock as _, SystemClock};

use crate::harness::App;
use crate::nats::server;
use crate::process::PATIENCE;
use crate::sharing::Running;

/// An app with a service that sleeps as long as an event says, one at a time.
fn sleepy() -> App {
    let app = App::new().service("sleepy", programs::SLEEPY, "subscribe = [\"public.in\"]\nconcurrency = 1\n");
    app.written();
    app
}

fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

fn status(node: &Running) -> StatusReport {
    serde_json::from_str(&node.ask(&["status", "--json"])).expect("a status")
}

/// Waits until a node's status is so.
fn until(node: &Running, what: &str, is_so: impl Fn(&StatusReport) -> bool) -> StatusReport {
    let clock = SystemClock::new();
    let began = clock.now();
    loop {
        let status = status(node);
        if is_so(&status) {
            return status;
        }
        assert!(clock.now().since(began) < PATIENCE, "not {what}: {status:#?}; {}", node.told());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn workers(status: &StatusReport) -> usize {
    status.nodes.iter().filter(|node| node.role == NodeRole::Worker).count()
}

fn acked(status: &StatusReport) -> u64 {
    status.services.iter().map(|service| service.acked).sum()
}

/// Starts nodes of an app until there are so many, and waits until all of them work.
fn share(app: &Path, engine: &str, nodes: &mut Vec<Running>, wanted: usize) {
    while nodes.len() < wanted {
        let node = Running::start(app, engine, &[], &[]);
        node.says(if nodes.is_empty() { "service sleepy" } else { "stands by" });
        nodes.push(node);
    }
    until(&nodes[0], "all at work", |status| workers(status) == wanted - 1);
}

/// Has `events` of 5 ms each handled; gives how long that took.
fn handle(owner: &Running, events: usize) -> Duration {
    let before = acked(&status(owner));
    let lines: String = "{\"text\":\"5\"}\n".repeat(events);
    let clock = SystemClock::new();
    let began = clock.now();
    owner.publish_lines(&lines);
    until(owner, "all handled", |status| acked(status) >= before + events as u64);
    clock.now().since(began)
}

#[test]
fn the_work_of_one_bus_spreads_over_two_nodes_and_over_four() {
    let server = server(&[]);
    spreads(&format!("{}/spread", server.url()));
}

/// Has one node, then two, then four work on one bus.
pub(crate) fn spreads(engine: &str) {
    let app = sleepy();
    let (mut nodes, mut took) = (Vec::new(), BTreeMap::new());
    for count in [1, 2, 4] {
        share(app.path(), engine, &mut nodes, count);
        let before: BTreeMap<String, u64> =
            status(&nodes[0]).nodes.into_iter().map(|node| (node.name, node.handled)).collect();
        took.insert(count, handle(&nodes[0], 600));
        let after = status(&nodes[0]);
        assert_eq!(after.nodes.len(), count);
        let share: Vec<u64> = after.nodes.iter().map(|node| node.handled - before[&node.name]).collect();
        assert_eq!(share.iter().sum::<u64>(), 600, "{share:?}");
        // The guests sleep, so each node takes about as much as any other; half of that is enough on a loaded machine.
        assert!(share.iter().all(|own| *own >= 600 / count as u64 / 2), "{share:?} of {count} nodes");
    }
    let rate = |count| 600.0 / took[&count].as_secs_f64();
    say(&format!(
        "events of 5 ms, one at a time on each node: {:.0}/s on one node, {:.0}/s on two ({:.2} times), {:.0}/s on four ({:.2} \
         times)",
        rate(1),
        rate(2),
        rate(2) / rate(1),
        rate(4),
        rate(4) / rate(1)
    ));
    assert!(rate(2) > rate(1) * 1.2 && rate(4) > rate(2) * 1.1, "{took:?}");
    // Every node shows the same nodes.
    let shown = nodes[3].ask(&["status"]);
    assert!(shown.contains("stands by") && shown.contains("owner") && shown.matches("worker").count() == 3, "{shown}");
}

#[test]
fn versions_of_a_service_mix_during_a_rollout_and_every_event_is_handled_by_one_of_them() {
    let server = server(&[]);
    let engine = format!("{}/rollout", server.url());
    let table =
        "subscribe = [\"public.in\"]\npublish = [\"public.>\"]\nconcurrency = 1\nconfig = { to = \"public.out\" }\n";
    let old = App::new().service("mixed", programs::FORWARD, table);
    let new = App::new().service("mixed", programs::TALLY, table);
    old.written();
    new.written();
    let owner = Running::start(old.path(), &engine, &[], &[]);
    owner.says("service mixed");
    let other = Running::start(new.path(), &engine, &[], &[]);
    let seen = until(&owner, "both at work", |status| workers(status) == 1);
    let versions: Vec<&String> = seen.nodes.iter().flat_map(|node| node.services.values()).collect();
    assert!(versions.len() == 2 && versions[0] != versions[1], "{versions:?}");
    assert!(owner.ask(&["status"]).contains(&format!("mixed ({})", versions[1])));
    let lines: String = (0..2_000).fold(String::new(), |mut lines, i| {
        // Writing to a String does not fail.
        let _ = writeln!(lines, "{{\"key\":\"k{}\",\"text\":\"{i}\"}}", i % 50);
        lines
    });
    owner.publish_lines(&lines);
    until(&owner, "all handled", |status| acked(status) >= 2_000);
    let told = owner.ask(&["tail", "public.out", "--from", "start", "--json", "--no-follow"]);
    let text = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let event = &line["event"];
        event["text"].as_str().map_or_else(|| event["data"].to_string(), str::to_owned)
    };
    let all: Vec<String> = told.lines().map(text).collect();
    let mut of_new = 0;
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    for text in &all {
        of_new += usize::from(text.contains('|'));
        let number: u32 = text.split('|').next().and_then(|number| number.parse().ok()).expect("a number");
        let before = last.insert(number % 50, number);
        assert!(before.is_none_or(|before| before < number), "key {} is out of order", number % 50);
    }
    assert_eq!(all.len(), 2_000, "each once");
    assert!((100..=1_900).contains(&of_new), "{of_new} by the new version");
    other.ends();
}

#[test]
fn the_newest_deployment_gets_the_bus_and_its_settings_stay_when_an_older_node_owns_it_again() {
    let server = server(&[]);
    let engine = format!("{}/generations", server.url());
    let app = |topics: &str| {
        let table = format!("subscribe = [{topics}]\npublish = [\"public.>\"]\nconfig = {{ to = \"public.out\" }}\n");
        let app = App::new().service("forward", programs::FORWARD, &table);
        app.written();
        app
    };
    let (old, new) = (app("\"public.in\""), app("\"public.in\", \"public.more\""));
    let first = Running::start(old.path(), &engine, &["--generation", "1"], &[]);
    first.says("service forward");
    first.publish("one");
    first.has_forwarded(&["one"]);
    let third = Running::start(old.path(), &engine, &["--generation", "1"], &[]);
    third.says("stands by");
    let second = Running::start(new.path(), &engine, &["--generation", "2"], &[]);
    // The older owner gives it away, and to that node.
    second.says("service forward");
    first.says("gives it the bus");
    first.says("this node waits for its turn again");
    second.ask(&["publish", "public.more", "--data", "two"]);
    second.has_forwarded(&["one", "two"]);
    let shown = until(&second, "both work for it", |status| workers(status) == 2);
    assert_eq!(shown.nodes.iter().map(|node| node.generation).collect::<Vec<_>>(), [2, 1, 1]);
    // It goes: an older node owns the bus, with the settings of the newer one.
    second.ends();
    let clock = SystemClock::new();
    let began = clock.now();
    let owner = loop {
        let owner = [&first, &third].into_iter().find(|node| status(node).node.standby.is_none());
        if let Some(owner) = owner.filter(|owner| !status(owner).services.is_empty()) {
            break owner;
        }
        assert!(clock.now().since(began) < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    };
    owner.says("a newer deployment has set it");
    owner.ask(&["publish", "public.more", "--data", "three"]);
    owner.has_forwarded(&["one", "two", "three"]);
}
