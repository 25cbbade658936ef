//! Bridges of a node: the example as its README says, and what `[bridges.NAME]` does on a bus on disk.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use async_nats::jetstream::{self, stream};
use busway_brokers::{Nats, Rabbit};
use busway_gateway::api::{BridgeStatus, DeadFilter, StatusReport};
use busway_tests::{programs, root, services};
use futures_util::StreamExt as _;

use crate::harness::App;
use crate::process::{NodeProcess, PATIENCE, ask, command};

/// A program and the lines that it prints; killed when the test ends.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; `cargo xtask test` installs it"));
        let (told, lines) = sync_channel(1_000);
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        Self { child, lines }
    }

    /// Waits for exactly this line.
    fn prints(&self, wanted: &str) {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line == wanted => return,
                Ok(line) => seen.push(line),
                Err(error) => panic!("it does not print {wanted:?} ({error}), but {seen:?}"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command lines of a README, without comments, each with the lines that it is said to print.
fn commands(readme: &str) -> Vec<(String, Vec<String>)> {
    let (_, rest) = readme.split_once("```console\n").expect("commands");
    let block = rest.split("```").next().expect("their end");
    let command = |text: &str| {
        let mut lines = text.lines().map(str::to_owned);
        let line = lines.next().expect("a command");
        let line = line.split(" #").next().expect("a command").trim().to_owned();
        (line, lines.collect())
    };
    block.split("$ ").skip(1).map(command).collect()
}

/// The example in a folder of its own, as `cargo xtask guests` leaves it, for a RabbitMQ at this address.
fn example(folder: &Path, url: &str) {
    let (from, to) = (root().join("examples/bridge"), folder.join("examples/bridge"));
    std::fs::create_dir_all(to.join("services")).expect("folders");
    let manifest = std::fs::read_to_string(from.join("busway.toml")).expect("the manifest");
    assert_eq!(manifest.matches("amqp://localhost/").count(), 2);
    std::fs::write(to.join("busway.toml"), manifest.replace("amqp://localhost", url)).expect("written");
    for script in ["send.py", "receive.py"] {
        std::fs::copy(from.join(script), to.join(script)).expect("copied");
    }
    std::fs::copy(services::GREETER, to.join("services/greeter.wasm")).expect("copied");
}

#[test]
fn the_example_runs_as_its_readme_says() {
    let rabbit = Rabbit::start().expect("RabbitMQ runs; `cargo xtask brokers up` tells what is missing");
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    example(folder.path(), &rabbit.url());
    let readme = std::fs::read_to_string(root().join("examples/bridge/README.md")).expect("a README");
    // Where `cargo xtask test` puts the packages of examples/bridge/requirements.txt.
    let python = root().join("target/tools/examples-bridge-requirements-txt/bin/python");
    let program = |line: &str| {
        let script = line.strip_prefix("target/pika/bin/python ").expect("a script").trim_end_matches(" &");
        let mut command = Command::new(&python);
        command.arg(folder.path().join(script)).env("AMQP_URL", rabbit.url());
        Running::start(command)
    };
    let busway = |line: &str| {
        let words: Vec<String> =
            line.split_whitespace().skip(1).filter(|word| *word != "&").map(str::to_owned).collect();
        let of_folder = |word: String| {
            if word.starts_with("examples/") { folder.path().join(word).display().to_string() } else { word }
        };
        words.into_iter().map(of_folder).collect::<Vec<_>>()
    };
    let mut node = None;
    let mut receiver = None;
    let mut done = Vec::new();
    for (line, prints) in commands(&readme) {
        let arguments: Vec<String> = busway(&line);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if line.starts_with("cargo xtask guests") || line.contains("pip install -r examples/bridge/requirements.txt") {
            continue;
        }
        if line.starts_with("busway run") {
            let child = command(runtime.path(), &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            node = Some(NodeProcess(child.expect("the node starts")));
        } else if line.starts_with("busway check") {
            let told = ask(runtime.path(), &arguments, "");
            assert!(told.contains("bridge hello: amqp://***@127.0.0.1") && !told.contains("guest"), "{told}");
        } else if line.starts_with("busway status") {
            let told = ask(runtime.path(), &arguments, "");
            for wanted in
                ["bridge hello connected", "1 message came in", "bridge replies connected", "1 message went out"]
            {
                assert!(told.contains(wanted), "{told}");
            }
            assert!(!told.contains("guest:"), "{told}");
        } else if line.contains("receive.py") {
            receiver = Some(program(&line));
        } else {
            let sender = program(&line);
            sender.prints(&prints[0]);
            receiver.as_ref().expect("it runs").prints(&prints[1]);
            // The script prints when it has the message; the bridge hears of it a moment later.
            busway_counts(runtime.path());
        }
        done.push(line);
    }
    assert_eq!(done.len(), 5, "{done:?}");
    drop(receiver);
    let mut node = node.expect("a node");
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
}

/// Waits until both bridges have counted their message.
fn busway_counts(runtime: &Path) {
    for _ in 0..500 {
        let told = ask(runtime, &["status", "--json"], "");
        let report: StatusReport = serde_json::from_str(&told).expect("JSON");
        if report.bridges.iter().all(|bridge| bridge.copied == 1) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("not both bridges have copied one");
}

fn bridge<'s>(status: &'s StatusReport, name: &str) -> &'s BridgeStatus {
    status
        .bridges
        .iter()
        .find(|bridge| bridge.name == name)
        .unwrap_or_else(|| panic!("no {name}: {:?}", status.bridges))
}

/// A stream `IN` that comes in, is forwarded, and goes out to the stream `OUT`.
fn app(nats: &Nats) -> App {
    let url = nats.url();
    App::new()
        .manifest(&format!(
            "[limits]\nevent-bytes = \"64KiB\"\n\n[bridges.in]\nfrom = \"{url}/stream/IN\"\nto = \"topic shop.in\"\n\n\
             [bridges.out]\nfrom = \"topic shop.out\"\nto = \"{url}/stream/OUT?subject=out.a\"\n\
             retry = {{ attempts = 2, backoff = \"10ms\" }}\n"
        ))
        .service(
            "forward",
            programs::FORWARD,
            "subscribe = [\"shop.in\"]\npublish = [\"shop.out\"]\nconfig = { to = \"shop.out\" }\n",
        )
}

async fn stream(context: &jetstream::Context, name: &str, subject: &str) {
    let config =
        stream::Config { name: name.to_owned(), subjects: vec![subject.to_owned()], ..stream::Config::default() };
    context.create_stream(config).await.expect("a stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_is_handled_and_goes_out_over_a_restart_of_the_node() {
    let nats = Nats::start().expect("nats-server runs; `cargo xtask brokers up` tells what is missing");
    let client = async_nats::connect(nats.url()).await.expect("connected");
    let context = jetstream::new(client.clone());
    stream(&context, "IN", "in.>").await;
    let app = app(&nats);
    let bus = app.run_on_disk().await;
    let send = async |text: String| {
        let sent = context.publish("in.a", text.into()).await.expect("sent");
        sent.await.expect("stored");
    };
    send("m0".to_owned()).await;
    send("x".repeat(100_000)).await;
    send("m1".to_owned()).await;
    bus.until("two came in, and one was too large", |status| {
        let bridge = bridge(status, "in");
        (bridge.copied, bridge.refused, &*bridge.state) == (2, 1, "connected")
    })
    .await;
    let waits = |status: &StatusReport| bridge(status, "out").reason.as_ref().is_some_and(|why| why.contains("OUT"));
    bus.until("the other stream is not there", waits).await;
    let first = bus.tail("shop.in").await.remove(0);
    assert_eq!(first.source.as_deref(), Some("bridge.in"));
    // What was forwarded waits over a restart, and nothing counted as an attempt.
    bus.node.drain().await.expect("drained");
    send("m2".to_owned()).await;
    stream(&context, "OUT", "out.a").await;
    let bus = app.run_on_disk().await;
    bus.until("all went out", |status| bridge(status, "out").copied == 3).await;
    let out = context.get_stream("OUT").await.expect("the stream");
    let consumer = out.create_consumer(jetstream::consumer::pull::Config::default()).await.expect("a consumer");
    let messages = consumer.fetch().max_messages(10).messages().await.expect("messages");
    let mut texts: Vec<String> = messages
        .map(|message| String::from_utf8(message.expect("a message").payload.to_vec()).expect("text"))
        .collect()
        .await;
    texts.sort();
    assert_eq!(texts, ["m0", "m1", "m2"]);
    assert!(bus.dead().await.is_empty());

    // What the broker does not take is tried again, then a dead letter that can be given back.
    let event = bus.send("shop.out", "direct").await;
    assert_eq!(event.subscribers, 1, "the bridge is one");
    context.delete_stream("OUT").await.expect("deleted");
    bus.send("shop.out", "nowhere").await;
    bus.until("given up", |status| bridge(status, "out").retried == 2).await;
    let dead = bus.dead().await;
    assert_eq!((dead.len(), dead[0].service.as_str(), dead[0].attempts), (1, "bridge.out", 2));
    assert!(dead[0].error.contains("no stream takes the subject out.a"), "{dead:?}");
    stream(&context, "OUT", "out.a").await;
    bus.node.admin().dead_retry(DeadFilter::default()).await.expect("given back");
    bus.until("it went out at last", |status| bridge(status, "out").copied == 5).await;
    bus.stop().await;
}
