//! How services come to run: names, first positions, failures to start, compilation, the first moments of a node.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{App, event};
use crate::logs;
use busway_tests::{assemble, bad, programs};

#[tokio::test(flavor = "multi_thread")]
async fn two_services_of_one_name_are_told_and_the_first_goes_on() {
    let app = App::new().service("count", programs::COUNT, "").with(programs::RAW_WITBINDGEN, "count");
    let bus = app.run().await;
    bus.until("the second is refused", |status| !status.refused.is_empty()).await;
    let reason = bus.status().await.refused.remove(0).reason;
    assert!(reason.contains("two services of one name") && reason.contains("rename"), "{reason}");
    bus.send("public.count", "x").await;
    bus.idle().await;
    assert_eq!(bus.service("count").await.acked, 1);
    bus.stop().await;
}

/// Its instances trap at their start; its manifest says what it subscribes to, so it runs as far as anybody can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_which_no_instance_can_be_made_is_parked_and_tried_again_ever_less_often() {
    logs::capture();
    let app = App::new().service("stillborn", "stillborn.wasm", "subscribe = [\"public.count\"]\n");
    app.write("stillborn.wasm", &assemble(bad::TRAPS_AT_START));
    let bus = app.run().await;
    assert_eq!(bus.service("stillborn").await.state.as_str(), "running");
    bus.send("public.count", "x").await;
    let attempts = || logs::with("no instance could be made").iter().filter(|l| l.contains("stillborn")).count();
    bus.until("it was tried again and again", |_| attempts() >= 4).await;
    let parked = bus.service("stillborn").await;
    assert_eq!(parked.state.as_str(), "parked");
    assert!(parked.reason.as_deref().is_some_and(|reason| reason.contains("unreachable")), "{parked:?}");
    // Four attempts take 100 + 200 + 400 ms; the next ones are 800 ms and more apart.
    let before = attempts();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(attempts() <= before + 2, "{} attempts more", attempts() - before);

    app.put(programs::COUNT, "stillborn");
    bus.until("its event is handled by the next version", |status| status.services[0].acked == 1).await;
    assert_eq!(bus.service("stillborn").await.state.as_str(), "running");
    bus.stop().await;
}

/// A component that cannot be asked for its subscriptions may be able to later.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_fails_to_start_is_tried_again() {
    let app = App::new().with(programs::COUNT, "healthy");
    app.write("fails.wasm", &assemble(bad::TRAPS_AT_START));
    let bus = app.run().await;
    let first = bus.status().await.refused.remove(0);
    assert!(first.reason.contains("unreachable"), "{first:?}");
    bus.until("it is tried again", |status| status.refused[0].since_ms > first.since_ms).await;
    let second = bus.status().await.refused.remove(0).since_ms;
    bus.until("and again", |status| status.refused[0].since_ms > second).await;
    let third = bus.status().await.refused.remove(0).since_ms;
    let (one, two) = (second.since(first.since_ms), third.since(second));
    let at_least = |gap: Duration, ms| gap >= Duration::from_millis(ms);
    assert!(at_least(one, 900) && at_least(two, 1_900), "the second wait is longer: {one:?}, {two:?}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_reads_from_the_start_when_it_is_set_to() {
    let app = App::new().service("first", programs::COUNT, "");
    let bus = app.run_on_disk().await;
    bus.publish((0..5).map(|_| event("public.count", "x")).collect()).await;
    bus.idle().await;
    bus.stop().await;
    let app = app.service("late", programs::COUNT, "").service("all", programs::COUNT, "from = \"start\"\n");
    let bus = app.run_on_disk().await;
    bus.send("public.count", "x").await;
    bus.idle().await;
    for (service, total) in [("first", "6"), ("late", "1"), ("all", "6")] {
        assert_eq!(bus.kv(service, "total").await.as_deref(), Some(total), "{service}");
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_receives_what_it_published_itself_only_when_it_is_set_to() {
    let to = "config = { to = \"public.forward\" }\n";
    let app = App::new()
        .manifest("[limits]\nhops = 5")
        .service("own", programs::FORWARD, &format!("self = true\npublish = [\"public.>\"]\n{to}"))
        .service("others", programs::FORWARD, "publish = [\"public.>\"]\nconfig = { to = \"public.elsewhere\" }\n");
    let bus = app.run().await;
    bus.send("public.forward", "x").await;
    bus.idle().await;
    let own = bus.service("own").await;
    assert_eq!((own.acked, own.dead_lettered), (6, 1), "round and round until its hops are spent");
    assert_eq!(bus.dead().await.iter().filter(|dead| dead.service.as_str() == "own").count(), 1);
    bus.stop().await;

    let app = App::new().service("own", programs::FORWARD, to);
    let bus = app.run().await;
    bus.send("public.forward", "x").await;
    bus.idle().await;
    assert_eq!(bus.service("own").await.handled, 1);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compiling_is_told_and_the_second_start_takes_the_code_from_the_cache() {
    let app = App::new().with(programs::COUNT, "count");
    for expected in [["Started", "Compiled"].as_slice(), &["Loaded"]] {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let cache = app.path().join("cache");
        let bus = app
            .start(|options| {
                options.cache_dir = Some(cache);
                options.progress = Some(Arc::new(move |name, bytes, what| {
                    let what = format!("{what:?}");
                    let what = what.split('(').next().unwrap_or_default().to_owned();
                    hears.lock().expect("what was heard").push((name.to_owned(), bytes > 10_000, what));
                }));
            })
            .await;
        bus.stop().await;
        let heard = heard.lock().expect("what was heard").clone();
        let wanted: Vec<_> = expected.iter().map(|what| ("count".to_owned(), true, (*what).to_owned())).collect();
        assert_eq!(heard, wanted);
    }
}

/// Publishes over HTTP as soon as the address answers.
async fn publish_early(address: SocketAddr) -> String {
    let body = "{\"topic\":\"public.count\",\"data\":1}";
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_while_services_are_still_being_compiled_reaches_them_all() {
    // Two programs more, so that starting takes a while.
    let app = App::new()
        .with(programs::COUNT, "count")
        .with(programs::RAW_WITBINDGEN, "a-first")
        .with(programs::FORWARD, "z-last");
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = free.local_addr().expect("its address");
    drop(free);
    let starting = app.start(|options| options.admin = address);
    let (bus, answer) = tokio::join!(starting, publish_early(address));
    assert!(answer.contains("\"subscribers\":1"), "{answer}");
    bus.idle().await;
    assert_eq!(bus.kv("count", "total").await.as_deref(), Some("1"));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_names_go_with_their_files() {
    let app = App::new().with(programs::COUNT, "my svc").service("count", programs::COUNT, "");
    let bus = app.run().await;
    app.put(programs::RAW_WITBINDGEN, "count");
    bus.until("both are refused", |status| status.refused.len() == 2).await;
    std::fs::remove_file(app.path().join("my svc.wasm")).expect("removed");
    bus.until("one is forgotten", |status| status.refused.len() == 1).await;
    std::fs::rename(app.path().join("count.wasm"), app.path().join("other.wasm")).expect("renamed");
    bus.until("the other one runs", |status| status.refused.is_empty() && status.services.len() == 2).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_again_for_the_same_reason_is_told_once() {
    logs::capture();
    let app = App::new();
    app.write("empty-told-once.wasm", b"");
    let bus = app.run().await;
    let first = bus.status().await.refused.remove(0).since_ms;
    bus.until("it is tried again", |status| status.refused[0].since_ms > first).await;
    let told = || logs::with("refused, it does not run").into_iter().filter(|l| l.contains("empty-told-once")).count();
    assert_eq!(told(), 1);
    app.write("empty-told-once.wasm", b"hello");
    bus.until("another reason", |status| status.refused[0].reason.contains("not WebAssembly")).await;
    assert_eq!(told(), 2);
    bus.stop().await;
}
