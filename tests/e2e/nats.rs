//! `busway run --engine nats://...`: real nodes on a real server.

use busway_brokers::Nats;
use busway_tests::programs;

use crate::harness::App;
use crate::sharing::{Running, app};

/// A login that must not be seen anywhere.
const SECRET: &str = "pa55-of-nobody";

pub(crate) fn server(more: &[&str]) -> Nats {
    Nats::start_with(more).expect("nats-server runs; `cargo xtask brokers up` tells what is missing")
}

#[test]
fn an_app_runs_on_nats_and_moves_to_the_node_that_waits_when_its_owner_ends() {
    let (server, app) = (server(&[]), app());
    let engine = format!("{}/hello", server.url());
    let listen = ["--listen", "127.0.0.1:0"];
    let owner = Running::start(app.path(), &engine, &listen, &[]);
    owner.says("service forward");
    owner.publish("one");
    owner.has_forwarded(&["one"]);
    assert_eq!((owner.gateway("/"), owner.gateway("/health/ready")), (200, 200));
    let status = owner.ask(&["status"]);
    assert!(status.contains(&engine) && status.contains("durability broker"), "{status}");

    let waits = Running::start(app.path(), &engine, &listen, &[]);
    waits.says("stands by");
    assert_eq!((waits.gateway("/"), waits.gateway("/health/ready")), (503, 503));
    let status = waits.ask(&["status"]);
    assert!(status.contains("stands by") && status.contains("does not own the bus"), "{status}");
    waits.publish("forwarded");
    owner.has_forwarded(&["one", "forwarded"]);
    let told = waits.refuses(&["tail", "public.>", "--no-follow"]);
    assert!(told.contains("does not own the bus"), "{told}");
    let shown = waits.ask(&["engine", "show", &engine]);
    assert!(shown.contains("server: NATS 2.") && shown.contains("`hello`: "), "{shown}");
    let shown = waits.ask(&["engine", "show", &format!("{}/nowhere", server.url()), "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert!(shown["facts"]["bus"].as_str().is_some_and(|bus| bus.contains("not there yet")), "{shown}");
    assert_eq!(shown["guarantees"][0]["how"], "native");

    // The lease is given back: nobody waits for its end.
    owner.ends();
    waits.says("service forward");
    waits.publish("two");
    waits.has_forwarded(&["one", "forwarded", "two"]);
    assert_eq!((waits.gateway("/"), waits.gateway("/health/ready")), (200, 200));
    waits.ends();
}

#[test]
fn an_owner_that_was_away_too_long_waits_for_its_turn_again() {
    let (server, app) = (server(&[]), app());
    let engine = format!("{}/away", server.url());
    let first = Running::start(app.path(), &engine, &[], &[]);
    first.says("service forward");
    first.publish("one");
    first.has_forwarded(&["one"]);
    let mut second = Running::start(app.path(), &engine, &[], &[]);
    second.says("stands by");
    first.process.signal("-STOP");
    second.says("service forward");
    second.publish("two");
    second.has_forwarded(&["one", "two"]);
    first.process.signal("-CONT");
    first.says("this node waits for its turn again");
    first.says("stands by");
    first.publish("late");
    second.has_forwarded(&["one", "two", "late"]);
    second.process.0.kill().expect("killed");
    first.says_times("service forward", 2);
    first.publish("three");
    first.has_forwarded(&["one", "two", "late", "three"]);
    first.ends();
}

#[test]
fn a_broker_that_is_away_keeps_publishers_waiting_and_is_found_again_in_few_words() {
    let (mut server, app) = (server(&[]), app());
    let engine = format!("{}/gone", server.url());
    let node = Running::start(app.path(), &engine, &[], &[]);
    node.loses_its_broker(|runs| if runs { server.start_again() } else { server.kill() }.expect("the broker"));
    node.has_forwarded(&["one", "two", "three"]);
    let told = node.ends();
    let (_, since) = told.split_once("does not confirm").expect("it was said");
    let complaints = since.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert!(complaints <= 3, "{complaints} lines about one thing: {told}");
}

#[test]
fn a_login_is_taken_from_the_address_and_the_environment_and_never_shown() {
    let (server, app) = (server(&["--user", "me", "--pass", SECRET]), app());
    let host = server.url().replace("nats://", "");
    let from_address = Running::start(app.path(), &format!("nats://me:{SECRET}@{host}/a"), &["--log", "debug"], &[]);
    let login = [("BUSWAY_NATS_USER", "me"), ("BUSWAY_NATS_PASSWORD", SECRET)];
    let from_environment = Running::start(app.path(), &format!("nats://{host}/b"), &["--log", "debug"], &login);
    for node in [from_address, from_environment] {
        node.says("service forward");
        let status = format!("{}{}", node.ask(&["status"]), node.ask(&["status", "--json"]));
        let told = node.ends();
        assert!(!told.contains(SECRET) && !status.contains(SECRET), "{told}{status}");
    }
    let wrong = format!("{SECRET}-or-not");
    for engine in
        [format!("nats://me:{wrong}@{host}/c"), format!("nats://{host}/c"), format!("nats://me:{wrong}@{host}?x")]
    {
        let mut node = Running::start(app.path(), &engine, &["--log", "debug"], &[]);
        let code = node.process.ended();
        assert!(matches!(code, Some(1 | 2)), "{engine} ended with {code:?}");
        let told = node.told();
        assert!(!told.contains(SECRET) && told.contains("nats://"), "{told}");
    }
}

#[test]
fn a_token_is_taken_from_the_address_and_the_environment_and_never_shown() {
    let (server, app) = (server(&["--auth", SECRET]), app());
    let host = server.url().replace("nats://", "");
    let from_address = Running::start(app.path(), &format!("nats://{SECRET}@{host}/a"), &["--log", "debug"], &[]);
    let login = [("BUSWAY_NATS_TOKEN", SECRET)];
    let from_environment = Running::start(app.path(), &format!("nats://{host}/b"), &["--log", "debug"], &login);
    for node in [from_address, from_environment] {
        node.says("service forward");
        node.publish("one");
        node.has_forwarded(&["one"]);
        let told = node.ends();
        assert!(!told.contains(SECRET), "{told}");
    }
    let mut stranger = Running::start(app.path(), &format!("nats://{host}/c"), &[], &[]);
    assert_eq!(stranger.process.ended(), Some(1));
    assert!(stranger.told().contains("check the address, the login"), "{}", stranger.told());
}

#[test]
fn tls_is_spoken_where_the_address_says_so_and_only_with_who_is_trusted() {
    let (folder, app) = (tempfile::tempdir().expect("a folder"), app());
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let file = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).expect("written");
        folder.path().join(name).display().to_string()
    };
    let (cert, key) = (file("cert.pem", made.cert.pem()), file("key.pem", made.signing_key.serialize_pem()));
    let server = server(&["--tls", "--tlscert", &cert, "--tlskey", &key]);
    let engine = format!("{}/tls", server.url().replace("nats://", "tls://"));
    let node = Running::start(app.path(), &format!("{engine}?ca={cert}"), &[], &[]);
    node.says("service forward");
    node.publish("one");
    node.has_forwarded(&["one"]);
    assert!(node.ends().contains(&engine));
    let node = Running::start(app.path(), &engine, &[], &[("BUSWAY_NATS_CA", &cert)]);
    node.says("service forward");
    node.ends();
    let mut stranger = Running::start(app.path(), &engine, &[], &[]);
    assert_eq!(stranger.process.ended(), Some(1));
    assert!(stranger.told().contains("cannot connect to"), "{}", stranger.told());
}

#[test]
fn what_nats_cannot_promise_is_refused_at_the_start() {
    let app = App::new()
        .with(programs::ECHO, "echo")
        .manifest("[bus]\nengine = \"nats://me:hush@127.0.0.1:1\"\ndurability = \"sync\"\n");
    app.written();
    let mut node = Running::start(app.path(), "nats://me:hush@127.0.0.1:1", &[], &[]);
    assert_eq!(node.process.ended(), Some(1));
    let told = node.told();
    assert!(
        told.contains("durability = \"sync\"") && told.contains("sync_interval") && !told.contains("hush"),
        "{told}"
    );
}
