//! Several nodes that share the work of one bus: real processes on a real server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use busway_gateway::api::{NodeRole, StatusReport};
use busway_tests::programs;
use busway_types::{Clock as _, SystemClock};
use serde_json::Value;

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

/// What each node has handled.
fn handled(status: &StatusReport) -> BTreeMap<String, u64> {
    status.nodes.iter().map(|node| (node.name.clone(), node.handled)).collect()
}

/// Starts nodes of an app until there are so many, and waits until all of them work.
fn share(app: &Path, engine: &str, nodes: &mut Vec<Running>, wanted: usize) {
    while nodes.len() < wanted {
        let node = Running::start(app, engine, &[], &[]);
        node.says(if nodes.is_empty() { "service " } else { "stands by" });
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
        let before = handled(&status(&nodes[0]));
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

/// The topic of the questions, and what its handler was told.
const QUESTIONS: &str = "test.values.v1.questions.ask";
const TOLD: &str = "test.values.v1.answers.told";

#[test]
fn handlers_on_nodes_that_do_not_own_the_bus_ask_services_and_change_key_value() {
    let server = server(&[]);
    guests_reach_the_bus_wherever_they_run(&format!("{}/errands", server.url()));
}

/// Has three nodes run handlers that ask another service and change key-value.
pub(crate) fn guests_reach_the_bus_wherever_they_run(engine: &str) {
    let changes = "subscribe = [\"public.in\"]\nconcurrency = 1\n";
    let app = App::new()
        .service("asker", programs::ASKER, "concurrency = 1\ntimeout = \"3s\"\nretry = { attempts = 1 }\n")
        .service("count", programs::COUNT, changes)
        .service("rewrite", programs::KV_RMW, &format!("{changes}config = {{ hold-ms = \"2\" }}\n"))
        .with(programs::ANSWERER, "answerer");
    app.written();
    let mut nodes = Vec::new();
    share(app.path(), engine, &mut nodes, 3);
    answers_are_right(&nodes[0]);
    changes_are_exact(&nodes[0]);
    a_request_ends_in_time(&nodes[0]);
    std::fs::remove_file(app.path().join("answerer.wasm")).expect("removed");
    nobody_answers(&nodes[0]);
}

/// Asks so often, and waits until every handler has said what it was told; gives the answers, sorted, and how many of them were
/// told on each of the nodes that work for the owner.
fn asked(owner: &Running, questions: &[(&str, u32)]) -> (Vec<String>, Vec<u64>) {
    let told = || -> Vec<String> {
        let lines = owner.ask(&["tail", TOLD, "--from", "start", "--json", "--no-follow"]);
        let text = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line["event"]["data"]["text"].as_str().expect("text").to_owned()
        };
        // The answerer says something as well, which is kept only with an answer.
        lines.lines().map(text).filter(|text| !text.starts_with("answering ")).collect()
    };
    let (known, before) = (told().len(), status(owner));
    let wanted = known + questions.len();
    let line = |(about, n): &(&str, u32)| format!("{{\"data\":{{\"about\":\"{about}\",\"n\":{n}}}}}\n");
    owner.publish_lines_to(QUESTIONS, &questions.iter().map(line).collect::<String>());
    let after = until(owner, "all told", |status| acked(status) >= acked(&before) + questions.len() as u64);
    let (clock, mut answers) = (SystemClock::new(), told());
    let began = clock.now();
    // What is settled is on the bus a moment later.
    while answers.len() < wanted && clock.now().since(began) < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
        answers = told();
    }
    let mut answers = answers.split_off(known);
    answers.sort();
    (answers, of_workers(&before, &after))
}

/// What each node that works for the owner has handled meanwhile.
fn of_workers(before: &StatusReport, after: &StatusReport) -> Vec<u64> {
    let known = handled(before);
    let workers = after.nodes.iter().filter(|node| node.role == NodeRole::Worker);
    workers.map(|node| node.handled - known.get(&node.name).copied().unwrap_or(0)).collect()
}

/// A number of key-value.
fn number(owner: &Running, service: &str, key: &str) -> u64 {
    let page = owner.ask(&["kv", "list", service, "--prefix", key, "--json"]);
    let page: Value = serde_json::from_str(&page).expect("JSON");
    page["entries"][0]["data"].as_u64().unwrap_or_else(|| panic!("no number: {page}"))
}

fn answers_are_right(owner: &Running) {
    // Half of them take a while, so that there is work for everybody.
    let questions: Vec<_> = (0..120).map(|n| if n % 2 == 0 { ("double", n) } else { ("wait", 5 + n % 8) }).collect();
    let (answers, on_workers) = asked(owner, &questions);
    let answer = |(about, n): &(&str, u32)| format!("{about}: Ok({})", if *about == "double" { n * 2 } else { *n });
    let mut right: Vec<String> = questions.iter().map(answer).collect();
    right.sort();
    assert_eq!(answers, right);
    assert!(on_workers.len() == 2 && on_workers.iter().all(|count| *count >= 10), "{on_workers:?} on workers");
    assert_eq!(number(owner, "answerer", "asked"), 120, "each was answered once");
}

fn changes_are_exact(owner: &Running) {
    let before = status(owner);
    owner.publish_lines(&"{\"text\":\"x\"}\n".repeat(200));
    let after = until(owner, "all changed", |status| acked(status) >= acked(&before) + 400);
    let on_workers = of_workers(&before, &after);
    // What adds without reading never has to run again, and what reads does when somebody else has changed it meanwhile.
    assert_eq!((number(owner, "count", "total"), number(owner, "rewrite", "counter")), (200, 200));
    assert!(on_workers.iter().all(|count| *count >= 10), "{on_workers:?} on workers");
    let failed = |status: &StatusReport| status.services.iter().map(|service| service.retried).sum::<u64>();
    assert_eq!(failed(&after), 0, "a conflict costs no attempt");
}

/// Whoever answers takes far too long: the caller hears of it in time to say so, on every node.
fn a_request_ends_in_time(owner: &Running) {
    // What each node takes first is one: there are as many as nodes.
    let (answers, on_workers) = asked(owner, &[("wait", 600_000); 3]);
    let right = |text: &String| {
        text.starts_with("wait: Err(") && (text.contains("no answer to `test") || text.contains("ran longer than"))
    };
    assert!(answers.len() == 3 && answers.iter().all(right), "{answers:?}");
    assert_eq!(on_workers, [1, 1], "one for each");
    let after = status(owner);
    let of = |name: &str| after.services.iter().find(|service| service.name.as_str() == name).expect("a service");
    assert_eq!((of("asker").timed_out, of("answerer").unanswered), (0, 3));
    assert_eq!(number(owner, "answerer", "asked"), 120, "what is not answered leaves nothing behind");
}

fn nobody_answers(owner: &Running) {
    until(owner, "without the answerer", |status| status.services.iter().all(|one| one.name.as_str() != "answerer"));
    let (answers, on_workers) = asked(owner, &[("double", 1); 30]);
    let right = "double: Err(\"no service answers `test.values.v1.quotes.quote`\")";
    assert!(answers.len() == 30 && answers.iter().all(|answer| answer == right), "{answers:?}");
    assert!(on_workers.iter().all(|count| *count > 0), "{on_workers:?} on workers");
}
