//! `busway run --engine nats://...`: real nodes on a real server.

use busway_brokers::Nats;
use busway_tests::programs;

use crate::edge::tls::Root;
use crate::harness::App;
use crate::nats_accounts::Operator;
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
fn a_credentials_file_is_taken_from_the_address_and_the_environment_and_its_seed_never_shown() {
    let (folder, app, operator) = (tempfile::tempdir().expect("a folder"), app(), Operator::new());
    let server = server(&["--config", &operator.settings(folder.path())]);
    let user = operator.user();
    let file = user.credentials(folder.path(), "user.creds");
    let debug = ["--log", "debug"];
    let from_address = Running::start(app.path(), &format!("{}/a?credentials={file}", server.url()), &debug, &[]);
    let login = [("BUSWAY_NATS_CREDENTIALS", &*file)];
    let from_environment = Running::start(app.path(), &format!("{}/b", server.url()), &debug, &login);
    for node in [from_address, from_environment] {
        node.says("service forward");
        node.publish("one");
        node.has_forwarded(&["one"]);
        let status = format!("{}{}", node.ask(&["status"]), node.ask(&["status", "--json"]));
        let told = node.ends();
        assert!(!told.contains(&user.seed()) && !status.contains(&user.seed()), "{told}{status}");
    }
    let other = operator.user();
    let mixed = user.credentials_with(&other.seed(), folder.path(), "mixed.creds");
    let foreign = Operator::new().user().credentials(folder.path(), "foreign.creds");
    let broken = user.credentials_with("no seed", folder.path(), "broken.creds");
    let none = folder.path().join("none.creds").display().to_string();
    for (file, why) in [
        (None, "authorization violation"),
        (Some(mixed), "authorization violation"),
        (Some(foreign), "authorization violation"),
        (Some(broken), "broken.creds cannot be read"),
        (Some(none), "none.creds cannot be read"),
    ] {
        let engine = file.map_or_else(|| server.url(), |file| format!("{}/c?credentials={file}", server.url()));
        let mut stranger = Running::start(app.path(), &engine, &debug, &[]);
        assert_eq!(stranger.process.ended(), Some(1), "{engine}");
        let told = stranger.told();
        assert!(told.contains(why) && told.contains("check the address, the login"), "{engine}: {told}");
        assert!(!told.contains(&user.seed()) && !told.contains(&other.seed()), "{told}");
    }
}

#[test]
fn tls_is_spoken_where_the_address_says_so_and_only_with_who_is_trusted_and_trusts() {
    let (folder, app, root) = (tempfile::tempdir().expect("a folder"), app(), Root::new());
    let ca = root.write(folder.path(), "ca.pem");
    let (server_cert, server_key) = root.signs("server").write(folder.path(), "server");
    let (cert, key) = root.signs("node").write(folder.path(), "node");
    let (other, other_key) = Root::new().signs("node").write(folder.path(), "other");
    let own = format!("cert={cert}&key={key}");
    let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &server_cert, "--tlskey", &server_key];
    let server = server(&tls);
    let engine = format!("{}/tls", server.url().replace("nats://", "tls://"));
    let node = Running::start(app.path(), &format!("{engine}?ca={ca}&{own}"), &[], &[]);
    node.says("service forward");
    node.publish("one");
    node.has_forwarded(&["one"]);
    assert!(node.ends().contains(&engine));
    let files = [("BUSWAY_NATS_CA", &*ca), ("BUSWAY_NATS_CERT", &*cert), ("BUSWAY_NATS_KEY", &*key)];
    let node = Running::start(app.path(), &engine, &[], &files);
    node.says("service forward");
    node.ends();
    for (engine, why) in [
        (format!("{engine}?{own}"), "cannot connect to"),
        (format!("{engine}?ca={ca}"), "cannot connect to"),
        (format!("{engine}?ca={ca}&cert={other}&key={other_key}"), "cannot connect to"),
        (format!("{engine}?ca={ca}&cert={cert}&key={cert}"), "has no PRIVATE KEY"),
        (format!("{engine}?ca={key}&{own}"), "has no CERTIFICATE"),
        (format!("{engine}?ca={ca}.none&{own}"), "ca.pem.none cannot be read"),
    ] {
        let mut stranger = Running::start(app.path(), &engine, &[], &[]);
        assert_eq!(stranger.process.ended(), Some(1), "{engine}");
        let told = stranger.told();
        assert!(told.contains(why) && told.contains("tls://127.0.0.1"), "{engine}: {told}");
    }
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
