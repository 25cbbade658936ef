//! A gateway that asks nobody who they are: which events it takes and shows, and what its operator is told.

use std::collections::BTreeSet;

use busway_gateway::edge::auth::{AuthConfig, CertificateConfig, CertificateMatch};
use busway_gateway::edge::rate::{Networks, RateConfig};
use busway_gateway::edge::{CertificateSource, EdgeConfig, EventsConfig, Served as Behind, Setup, TlsConfig};
use busway_types::ServiceName;

use crate::client::{get, request};
use crate::fake::Fake;
use crate::security::key;
use crate::served::{Served, route};

fn of_topics(topics: &[&str]) -> EdgeConfig {
    let topics = Some(topics.iter().map(|topic| topic.parse().expect("a pattern")).collect());
    EdgeConfig { events: EventsConfig { topics }, routes: vec![route("/echo", "echo")], ..EdgeConfig::default() }
}

async fn served(config: EdgeConfig, is_public: bool) -> Served {
    Served::start_as(Fake::default(), config, Setup { seed: 7, folder: None, is_public }).await
}

/// The status of an attempt to publish.
async fn publish(served: &Served, topic: &str) -> u16 {
    let answer = served.send(request("POST", &format!("/events/{topic}")).body("x")).await;
    if answer.status == 403 {
        assert_eq!(answer.problem(), "forbidden");
        assert!(answer.text().contains("[gateway.events] topics"), "{}", answer.text());
    }
    answer.status
}

#[tokio::test]
async fn whom_others_reach_takes_no_events_of_strangers_unless_their_topics_are_listed() {
    let local = served(of_topics(&[]), false).await;
    assert_eq!(publish(&local, "a.b").await, 403, "an empty list is none, everywhere");
    let local = served(EdgeConfig::default(), false).await;
    assert_eq!(publish(&local, "a.b").await, 202);
    let config = EdgeConfig { routes: vec![route("/echo", "echo")], ..EdgeConfig::default() };
    let public = served(config.clone(), true).await;
    assert_eq!(publish(&public, "a.b").await, 403);
    assert_eq!(public.send(get("/echo")).await.status, 200, "routes are there for everybody");
    public.gateway.reload(of_topics(&["visits.*"])).expect("sound");
    assert_eq!((publish(&public, "visits.home").await, publish(&public, "visits.a.b").await), (202, 403));
    assert_eq!(public.send(get("/echo")).await.status, 200);
    public.gateway.reload(config).expect("sound");
    assert_eq!(publish(&public, "visits.home").await, 403, "who is public stays so");
}

#[tokio::test]
async fn of_a_batch_with_one_topic_too_many_nothing_is_published() {
    let served = served(of_topics(&["visits.>"]), true).await;
    let lines = "{\"topic\":\"visits.a\",\"data\":1}\n{\"topic\":\"orders.a\",\"data\":2}\n";
    let lines = request("POST", "/events").header("content-type", "application/x-ndjson").body(lines);
    let answer = served.send(lines).await;
    assert_eq!((answer.status, answer.json()["index"].as_u64()), (403, Some(1)));
    assert!(crate::fake::lock(&served.fake.events).is_empty());
}

/// What is told of a gateway at an address.
fn told(config: &EdgeConfig, listen: &str, behind: &Behind) -> Vec<String> {
    config.advice(Some(listen.parse().expect("an address")), behind)
}

#[test]
fn a_gateway_that_others_reach_is_told_what_it_leaves_open() {
    let (public, nothing) = ("0.0.0.0:8080", Behind::default());
    let open = EdgeConfig::default();
    assert_eq!(told(&open, "127.0.0.1:8080", &nothing), Vec::<String>::new());
    assert_eq!(told(&open, "[::1]:8080", &nothing), Vec::<String>::new());
    let [warning] = &told(&open, public, &nothing)[..] else { panic!("one sentence") };
    assert!(warning.contains("0.0.0.0:8080") && warning.contains("busway gateway key NAME"), "{warning}");
    assert!(warning.contains("[gateway.tls]"), "{warning}");
    let listed = EdgeConfig { routes: Vec::new(), ..of_topics(&["visits.>"]) };
    assert!(told(&listed, public, &nothing)[0].contains("`visits.>`"));

    let tls = Some(TlsConfig { source: CertificateSource::SelfMade, client_ca: None });
    let encrypted = EdgeConfig { tls: tls.clone(), ..open };
    assert!(!told(&encrypted, public, &nothing)[0].contains("[gateway.tls]"));
    let locked = EdgeConfig {
        auth: AuthConfig { keys: vec![key("shop", &["publish:shop.>"]).1], ..AuthConfig::default() },
        ..EdgeConfig::default()
    };
    let [warning] = &told(&locked, public, &nothing)[..] else { panic!("one sentence") };
    assert!(warning.contains("not encrypted") && warning.contains("trusted-proxies"), "{warning}");
    assert_eq!(told(&EdgeConfig { tls, ..locked.clone() }, public, &nothing), Vec::<String>::new());
    let proxies = Networks(vec!["10.0.0.0/8".parse().expect("a network")]);
    let behind_a_proxy =
        EdgeConfig { rate: RateConfig { trusted_proxies: proxies, ..RateConfig::default() }, ..locked };
    assert_eq!(told(&behind_a_proxy, public, &nothing), Vec::<String>::new());
}

#[test]
fn scopes_and_routes_that_lead_nowhere_are_told() {
    let name = |name: &str| name.parse::<ServiceName>().expect("a name");
    let certificate = CertificateConfig {
        certificate: CertificateMatch::Name("till".into()),
        scopes: vec!["route:quotes".parse().expect("a scope")],
    };
    let keys = vec![key("shop", &["route:quote", "route:*", "publish:nobody.>"]).1];
    let config = EdgeConfig {
        auth: AuthConfig { keys, certificates: vec![certificate], ..AuthConfig::default() },
        routes: vec![route("quote", "quotes"), route("task", "task"), route("site", "site")],
        ..EdgeConfig::default()
    };
    let behind = Behind {
        services: BTreeSet::from([name("task"), name("site")]),
        http: BTreeSet::from([name("site")]),
        ..Behind::default()
    };
    let [scope, authority, gone, silent] = &config.advice(None, &behind)[..] else {
        panic!("{:?}", config.advice(None, &behind))
    };
    assert!(scope.contains("the certificate `till`") && scope.contains("`route:quotes`"), "{scope}");
    assert!(scope.contains("`quote`, `task`, `site`"), "{scope}");
    assert!(authority.contains("client-ca"), "{authority}");
    assert!(gone.contains("the service `quotes` does not run"), "{gone}");
    assert!(silent.contains("`task` does not export wasi:http/incoming-handler"), "{silent}");
}
