//! `busway run --engine amqp://...`: real nodes on a real server. One server for all of it: RabbitMQ takes long to start.

use std::path::Path;
use std::time::Duration;

use busway_brokers::{Rabbit, Tls};

use crate::edge::tls::Root;
use crate::harness::App;
use crate::sharing::{Running, app};

/// The certificates of a server and of whoever connects to it, in a folder: what the server is started with, and what an
/// address says.
pub(crate) fn secured(root: &Root, folder: &Path) -> (Tls, String) {
    let ca = root.write(folder, "ca.pem");
    let (server_cert, server_key) = root.signs("server").write(folder, "server");
    let (cert, key) = root.signs("node").write(folder, "node");
    let own = format!("ca={ca}&cert={cert}&key={key}");
    (Tls { ca: ca.into(), cert: server_cert.into(), key: server_key.into() }, own)
}

#[test]
fn an_app_runs_on_rabbitmq_and_survives_its_owner_and_its_broker() {
    let (root, folder, app) = (Root::new(), tempfile::tempdir().expect("a folder"), app());
    let (tls, own) = secured(&root, folder.path());
    let mut server =
        Rabbit::start_with_tls(tls).expect("RabbitMQ runs; `cargo xtask brokers up` tells what is missing");
    the_bus_moves_to_the_node_that_waits(&server, &app);
    crate::spread::spreads(&format!("{}?bus=spread", server.url()));
    crate::spread::guests_reach_the_bus_wherever_they_run(&format!("{}?bus=errands", server.url()));
    a_login_is_not_shown(&server, &app);
    tls_is_spoken_only_with_who_is_trusted_and_trusts(&server, &app, &own);
    a_broker_that_is_away_is_found_again(&mut server, &app);
}

fn the_bus_moves_to_the_node_that_waits(server: &Rabbit, app: &App) {
    let engine = format!("{}?bus=hello", server.url());
    let listen = ["--listen", "127.0.0.1:0"];
    let mut owner = Running::start(app.path(), &engine, &listen, &[]);
    owner.says("service forward");
    owner.publish("one");
    owner.has_forwarded(&["one"]);
    assert_eq!((owner.gateway("/"), owner.gateway("/health/ready")), (200, 200));
    let status = owner.ask(&["status"]);
    assert!(status.contains("?bus=hello") && status.contains("durability broker"), "{status}");

    let waits = Running::start(app.path(), &engine, &listen, &[]);
    let told = waits.says("stands by");
    assert!(told.contains("node "), "{told}");
    assert_eq!((waits.gateway("/"), waits.gateway("/health/ready")), (503, 503));
    waits.publish("forwarded");
    owner.has_forwarded(&["one", "forwarded"]);
    let refused = waits.refuses(&["tail", "public.>", "--no-follow"]);
    assert!(refused.contains("does not own the bus"), "{refused}");
    let shown = waits.ask(&["engine", "show", &engine]);
    assert!(shown.contains("`hello`: node ") && shown.contains("host (reads back)"), "{shown}");
    let shown = waits.ask(&["engine", "show", &format!("{}?bus=nowhere", server.url()), "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert!(shown["facts"]["bus"].as_str().is_some_and(|bus| bus.contains("not there yet")), "{shown}");

    // The broker notices at once that the connection of a process that is killed has gone, and the lease with it.
    owner.process.0.kill().expect("killed");
    waits.says("service forward");
    waits.publish("two");
    waits.has_forwarded(&["one", "forwarded", "two"]);
    assert_eq!((waits.gateway("/"), waits.gateway("/health/ready")), (200, 200));
    waits.ends();
}

fn a_login_is_not_shown(server: &Rabbit, app: &App) {
    let host = server.url().replace("amqp://guest:guest@", "");
    let login = [("BUSWAY_AMQP_USER", "guest"), ("BUSWAY_AMQP_PASSWORD", "guest")];
    let node = Running::start(app.path(), &format!("amqp://{host}?bus=login"), &["--log", "debug"], &login);
    node.says("service forward");
    node.ends();
    let secret = "pa55-of-nobody";
    for (engine, login) in [
        (format!("amqp://me:{secret}@{host}"), vec![]),
        (format!("amqp://{host}"), vec![("BUSWAY_AMQP_USER", "me"), ("BUSWAY_AMQP_PASSWORD", secret)]),
        (format!("amqp://me:{secret}@{host}?x"), vec![]),
    ] {
        let mut node = Running::start(app.path(), &engine, &["--log", "debug"], &login);
        let code = node.process.ended();
        assert!(matches!(code, Some(1 | 2)), "{engine} ended with {code:?}");
        let told = node.told();
        assert!(!told.contains(secret) && told.contains("amqp://"), "{told}");
    }
    let promise = App::new().manifest("[bus]\ndurability = \"sync\"\n");
    promise.written();
    let mut node = Running::start(promise.path(), &server.url(), &[], &[]);
    assert_eq!(node.process.ended(), Some(1));
    let told = node.told();
    assert!(told.contains("durability = \"sync\"") && told.contains("RabbitMQ"), "{told}");
}

fn tls_is_spoken_only_with_who_is_trusted_and_trusts(server: &Rabbit, app: &App, own: &str) {
    let engine = format!("{}?bus=tls", server.tls_url());
    let node = Running::start(app.path(), &format!("{engine}&{own}"), &["--log", "debug"], &[]);
    node.says("service forward");
    node.publish("one");
    node.has_forwarded(&["one"]);
    let told = node.ends();
    assert!(told.contains("amqps://***@127.0.0.1") && !told.contains("guest:"), "{told}");

    let (ca, pair) = own.strip_prefix("ca=").and_then(|own| own.split_once('&')).expect("an authority and the rest");
    let (cert, key) = pair.strip_prefix("cert=").and_then(|pair| pair.split_once("&key=")).expect("two files");
    let host = engine.replace("guest:guest@", "");
    let login = [("BUSWAY_AMQP_USER", "guest"), ("BUSWAY_AMQP_PASSWORD", "guest")];
    let files = [("BUSWAY_AMQP_CA", ca), ("BUSWAY_AMQP_CERT", cert), ("BUSWAY_AMQP_KEY", key)];
    let node = Running::start(app.path(), &host, &[], &[&login[..], &files].concat());
    node.says("service forward");
    node.has_forwarded(&["one"]);
    node.ends();

    let folder = tempfile::tempdir().expect("a folder");
    let (other, other_key) = Root::new().signs("node").write(folder.path(), "node");
    let plain = server.url().replace("amqp://", "amqps://");
    for (engine, why) in [
        (format!("{engine}&{pair}"), "UnknownIssuer"),
        (format!("{engine}&ca={ca}"), "certificate"),
        (format!("{engine}&ca={ca}&cert={other}&key={other_key}"), "certificate"),
        (format!("{engine}&ca={ca}&cert={cert}&key={other_key}"), "no TLS with"),
        (format!("{engine}&ca={ca}&cert={cert}&key={cert}"), "has no PRIVATE KEY"),
        (format!("{engine}&ca={key}&{pair}"), "has no CERTIFICATE"),
        (format!("{engine}&ca={ca}.none&{pair}"), "cannot be read"),
        (format!("{plain}?{own}"), "no TLS with"),
    ] {
        let mut stranger = Running::start(app.path(), &engine, &[], &[]);
        assert_eq!(stranger.process.ended(), Some(1), "{engine}");
        let told = stranger.told();
        assert!(told.contains("amqps://***@127.0.0.1") && told.contains(why), "{engine}: {told}");
    }
}

fn a_broker_that_is_away_is_found_again(server: &mut Rabbit, app: &App) {
    let engine = format!("{}?bus=gone", server.url());
    let node = Running::start(app.path(), &engine, &[], &[]);
    node.loses_its_broker(|runs| if runs { server.start_again() } else { server.kill() }.expect("the broker"));
    // Nothing answers, connections stay.
    assert!(server.freeze());
    std::thread::sleep(Duration::from_secs(2));
    assert!(server.thaw());
    node.publish("four");
    node.has_forwarded(&["one", "two", "three", "four"]);
    let told = node.ends();
    let (_, since) = told.split_once("does not confirm").expect("it was said");
    let complaints = since.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert!(complaints <= 4, "{complaints} lines about one thing: {told}");
}
