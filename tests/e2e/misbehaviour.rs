//! What badly behaved programs do to others: nothing. Each program has a test of its name.

use std::time::Duration;

use crate::harness::{App, Bus, event};
use busway_tests::programs;
use busway_types::{Clock as _, SystemClock};

const IMPATIENT: &str = "timeout = \"200ms\"\nretry = { attempts = 2, backoff = \"20ms\" }\npublish = [\"public.>\"]\n";

/// A node with `name` from `component` under test, and a healthy neighbour.
async fn beside_a_healthy_one(component: &str, name: &str, settings: &str) -> (App, Bus) {
    let app = App::new().service(name, component, &format!("concurrency = 1\n{settings}")).service(
        "healthy",
        programs::COUNT,
        "",
    );
    let bus = app.run().await;
    (app, bus)
}

/// The neighbour handled what it got, and the bus goes on.
async fn neighbour_is_well(bus: &Bus) {
    bus.publish((0..200).map(|_| event("public.count", "x")).collect()).await;
    let counted = |status: &busway_gateway::api::StatusReport| {
        status.services.iter().any(|service| service.name.as_str() == "healthy" && service.acked == 200)
    };
    bus.until("the neighbour handles its events", counted).await;
    assert_eq!(bus.kv("healthy", "total").await.as_deref(), Some("200"));
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn trap() {
    let (_app, bus) = beside_a_healthy_one(programs::TRAP, "trap", IMPATIENT).await;
    bus.publish(vec![event("public.trap", "a"), event("public.trap", "trap now"), event("public.trap", "b")]).await;
    neighbour_is_well(&bus).await;
    bus.idle().await;
    let mut out = bus.texts("public.trap.out").await;
    out.sort();
    assert_eq!(out, ["a", "b"], "what a trapped delivery published is not seen");
    assert_eq!(bus.kv("trap", "handled").await.as_deref(), Some("2"), "nor what it wrote");
    let dead = bus.dead().await;
    assert_eq!((dead.len(), dead[0].attempts), (1, 2));
    assert!(dead[0].error.contains("told to trap by event"), "the panic's text is the reason: {}", dead[0].error);
    for event in bus.tail("public.trap.out").await {
        let count: u32 = event.headers[0].value.parse().expect("a number");
        assert!(count <= 2, "an instance that trapped is not used again: {count}");
    }
    let trap = bus.service("trap").await;
    assert_eq!((trap.trapped, trap.dead_lettered), (2, 1));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn spin() {
    let (_app, bus) = beside_a_healthy_one(programs::SPIN, "spin", IMPATIENT).await;
    bus.publish(vec![event("public.spin", "spin"), event("public.spin", "fine")]).await;
    neighbour_is_well(&bus).await;
    bus.idle().await;
    assert_eq!(bus.texts("public.spin.out").await, ["fine"]);
    let dead = bus.dead().await;
    assert_eq!((dead.len(), dead[0].attempts), (1, 2));
    assert!(dead[0].error.contains("200 ms") || dead[0].error.contains("200ms"), "{}", dead[0].error);
    assert!(dead[0].error.contains("about to spin"), "stderr is attached: {}", dead[0].error);
    assert_eq!(bus.service("spin").await.timed_out, 2);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn sleepy() {
    let (_app, bus) = beside_a_healthy_one(programs::SLEEPY, "sleepy", IMPATIENT).await;
    let clock = SystemClock::new();
    let began = clock.now();
    bus.publish(vec![event("public.sleepy", "600000"), event("public.sleepy", "10")]).await;
    neighbour_is_well(&bus).await;
    bus.idle().await;
    assert!(clock.now().since(began) < Duration::from_secs(50), "a sleeping guest does not outlive its time");
    let sleepy = bus.service("sleepy").await;
    assert_eq!((sleepy.acked, sleepy.timed_out, sleepy.dead_lettered), (1, 2, 1));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn memory_bomb() {
    let settings = "memory = \"16MiB\"\nretry = { attempts = 1 }\n";
    let (_app, bus) = beside_a_healthy_one(programs::MEMORY_BOMB, "bomb", settings).await;
    bus.publish(vec![event("public.memory-bomb", "bomb"), event("public.memory-bomb", "fine")]).await;
    neighbour_is_well(&bus).await;
    bus.idle().await;
    let bomb = bus.service("bomb").await;
    assert_eq!((bomb.acked, bomb.trapped, bomb.dead_lettered), (1, 1, 1));
    assert!(bomb.memory_bytes <= 16 * 1024 * 1024, "{}", bomb.memory_bytes);
    let error = &bus.dead().await[0].error;
    assert!(error.contains("memory") && error.contains("16"), "the limit is named: {error}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn recurse() {
    let (_app, bus) = beside_a_healthy_one(programs::RECURSE, "recurse", "retry = { attempts = 1 }\n").await;
    bus.publish(vec![event("public.recurse", "recurse"), event("public.recurse", "fine")]).await;
    neighbour_is_well(&bus).await;
    bus.idle().await;
    let recurse = bus.service("recurse").await;
    assert_eq!((recurse.acked, recurse.trapped), (1, 1));
    assert!(bus.dead().await[0].error.contains("stack"), "{}", bus.dead().await[0].error);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn chatty() {
    let (_app, bus) = beside_a_healthy_one(programs::CHATTY, "chatty", "timeout = \"30s\"\n").await;
    bus.publish(vec![event("public.chatty", "3000"), event("public.chatty", "1")]).await;
    neighbour_is_well(&bus).await;
    bus.idle().await;
    let chatty = bus.service("chatty").await;
    assert_eq!((chatty.acked, chatty.dead_lettered), (2, 0), "much output is cut off, not punished");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn flood() {
    let (_app, bus) =
        beside_a_healthy_one(programs::FLOOD, "flood", "timeout = \"30s\"\npublish = [\"public.>\"]\n").await;
    // The outbox is bounded by events and by bytes.
    bus.publish(vec![event("public.flood", "16"), event("public.flood", "65536")]).await;
    neighbour_is_well(&bus).await;
    bus.idle().await;
    assert_eq!(bus.tail("public.flood.out").await.len(), 0, "nothing of a failed delivery is seen");
    let errors: Vec<String> = bus.dead().await.into_iter().map(|letter| letter.error).collect();
    assert!(errors.iter().any(|error| error.contains("refused after 1000")), "{errors:?}");
    assert!(
        errors.iter().any(|error| error.contains("refused after 63") || error.contains("refused after 64")),
        "{errors:?}"
    );
    bus.send("public.flood", "keep").await;
    bus.idle().await;
    assert_eq!(bus.tail("public.flood.out").await.len(), 1_000, "what fits is published when it acknowledges");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn denied() {
    let (_app, bus) = beside_a_healthy_one(programs::DENIED, "denied", "publish = [\"public.>\"]\n").await;
    bus.send("public.denied", "secret.plans").await;
    neighbour_is_well(&bus).await;
    bus.idle().await;
    let told = bus.texts("public.denied.out").await;
    assert!(told[0].starts_with("denied: ") && told[0].contains("secret.plans"), "{told:?}");
    assert!(told[0].contains("publish = ["), "the manifest's lines are printed: {told:?}");
    assert!(bus.tail("secret.>").await.is_empty());
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn sneaky() {
    let (_app, bus) = beside_a_healthy_one(programs::SNEAKY, "sneaky", "publish = [\"public.>\"]\n").await;
    bus.send("public.sneaky", "x").await;
    neighbour_is_well(&bus).await;
    bus.idle().await;
    let report = bus.texts("public.sneaky.out").await.remove(0);
    assert!(!report.contains("allowed"), "{report}");
    assert!(report.contains("environment: 0 variables"), "{report}");
    for what in ["read", "write", "connect", "listen", "resolve"] {
        assert!(report.contains(&format!("{what}: refused")), "{what} in {report}");
    }
    bus.stop().await;
}

/// What is granted works, and no more than that.
#[tokio::test(flavor = "multi_thread")]
async fn a_granted_host_folder_and_variable_are_there_and_nothing_else() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let settings = format!(
        "publish = [\"public.>\"]\nconfig = {{ connect = \"{address}\" }}\nnetwork = [\"{address}\"]\n\
         env = {{ COLOUR = \"blue\" }}\nfiles = [{{ host = {:?}, guest = \"/tmp\", write = true }}]\n",
        folder.path()
    );
    let (_app, bus) = beside_a_healthy_one(programs::SNEAKY, "sneaky", &settings).await;
    bus.send("public.sneaky", "x").await;
    bus.idle().await;
    let report = bus.texts("public.sneaky.out").await.remove(0);
    for granted in ["connect: allowed", "write: allowed", "environment: 1 variables"] {
        assert!(report.contains(granted), "{granted} in {report}");
    }
    for refused in ["read: refused", "listen: refused", "arguments: 0"] {
        assert!(report.contains(refused), "{refused} in {report}");
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("sneaky")).expect("written"), "was here");
    neighbour_is_well(&bus).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn aliased() {
    let settings = "retry = { attempts = 1 }\npublish = [\"public.>\"]\n";
    let (_app, bus) = beside_a_healthy_one(programs::ALIASED, "aliased", settings).await;
    let before = resident_bytes();
    bus.publish(vec![event("public.aliased", "headers"), event("public.aliased", "messages")]).await;
    bus.idle().await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 256 * 1024 * 1024, "the host held {grown} bytes for a guest that may have 64 MiB");
    neighbour_is_well(&bus).await;
    let told = bus.texts("public.aliased.out").await;
    assert!(told.iter().all(|text| text.starts_with("refused")), "{told:?}");
    let aliased = bus.service("aliased").await;
    assert_eq!(aliased.trapped as usize + told.len(), 2, "each was refused or trapped");
    bus.stop().await;
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}
