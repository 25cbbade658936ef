//! Bridges of a node: the example as its README says, with one of its two over TLS, and what `[bridges.NAME]` does on a bus
//! on disk, at a server that asks for certificates and credentials.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions};
use busway_brokers::{Nats, Rabbit};
use busway_gateway::api::{BridgeStatus, DeadFilter, StatusReport};
use busway_tests::{programs, root, services};
use busway_types::{Clock as _, SystemClock};
use futures_util::StreamExt as _;

use crate::edge::tls::Root;
use crate::harness::App;
use crate::nats_accounts::Operator;
use crate::process::{NodeProcess, PATIENCE, ask, command};
use crate::rabbitmq::secured;

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

/// The example in a folder of its own, as `cargo xtask guests` leaves it.
struct Example {
    folder: tempfile::TempDir,
    runtime: tempfile::TempDir,
    /// Where the RabbitMQ is.
    url: String,
}

impl Example {
    /// With one of its bridges over TLS, by files beside the manifest that are somewhere else now; the other one without.
    fn new(rabbit: &Rabbit, certificates: &Path) -> Self {
        let url = rabbit.url();
        let (folder, runtime) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (from, to) = (root().join("examples/bridge"), folder.path().join("examples/bridge"));
        std::fs::create_dir_all(to.join("services")).expect("folders");
        let manifest = std::fs::read_to_string(from.join("busway.toml")).expect("the manifest");
        assert_eq!(manifest.matches("amqp://localhost/").count(), 2);
        let files = ["ca.pem", "node-certificate.pem", "node-key.pem"];
        for file in files {
            std::fs::copy(certificates.join(file), to.join(file)).expect("copied");
        }
        let [ca, cert, key] = files;
        let secured = format!("{}/queue/hello?ca={ca}&cert={cert}&key={key}", rabbit.tls_url());
        let manifest = manifest.replace("amqp://localhost/queue/hello", &secured).replace("amqp://localhost", &url);
        std::fs::write(to.join("busway.toml"), manifest).expect("written");
        for script in ["send.py", "receive.py"] {
            std::fs::copy(from.join(script), to.join(script)).expect("copied");
        }
        std::fs::copy(services::GREETER, to.join("services/greeter.wasm")).expect("copied");
        Self { folder, runtime, url }
    }

    /// Starts a script as its line in the README does.
    fn script(&self, line: &str) -> Running {
        let script = line.strip_prefix("target/pika/bin/python ").expect("a script").trim_end_matches(" &");
        // Where `cargo xtask test` puts the packages of examples/bridge/requirements.txt.
        let mut python = Command::new(root().join("target/tools/examples-bridge-requirements-txt/bin/python"));
        python.arg(self.folder.path().join(script)).env("AMQP_URL", &self.url);
        Running::start(python)
    }

    /// The arguments of a line with `busway`.
    fn arguments(&self, line: &str) -> Vec<String> {
        let of_folder = |word: &str| {
            if word.starts_with("examples/") {
                self.folder.path().join(word).display().to_string()
            } else {
                word.to_owned()
            }
        };
        line.split_whitespace().skip(1).filter(|word| *word != "&").map(of_folder).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.runtime.path().join("log")).expect("the log")
    }

    /// Runs what the README says; gives what goes on: the node and the receiver.
    fn run(&self) -> (NodeProcess, Running) {
        let readme = std::fs::read_to_string(root().join("examples/bridge/README.md")).expect("a README");
        let (mut node, mut receiver, mut done) = (None, None, 0);
        for (line, prints) in commands(&readme) {
            let arguments = self.arguments(&line);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let ask = || ask(self.runtime.path(), &arguments, "");
            if line.starts_with("cargo xtask guests")
                || line.ends_with("pip install -r examples/bridge/requirements.txt")
            {
                continue;
            }
            if line.starts_with("busway run") {
                let log = std::fs::File::create(self.runtime.path().join("log")).expect("a file");
                let child = command(self.runtime.path(), &arguments).stdout(Stdio::null()).stderr(log).spawn();
                node = Some(NodeProcess(child.expect("the node starts")));
            } else if line.starts_with("busway check") {
                let told = ask();
                assert!(told.contains("bridge hello: amqps://***@127.0.0.1") && !told.contains("guest"), "{told}");
            } else if line.starts_with("busway status") {
                let told = ask();
                let (came, went) = ("1 message came in", "1 message went out");
                for wanted in ["bridge hello connected", came, "bridge replies connected", went] {
                    assert!(told.contains(wanted) && !told.contains("guest:"), "{told}");
                }
            } else if line.contains("receive.py") {
                receiver = Some(self.script(&line));
            } else {
                self.script(&line).prints(&prints[0]);
                receiver.as_ref().expect("it runs").prints(&prints[1]);
                // The script prints when it has the message; the bridge hears of it a moment later.
                until(self.runtime.path(), "both have copied one", |bridge| bridge.copied == 1);
            }
            done += 1;
        }
        assert_eq!(done, 5);
        (node.expect("a node"), receiver.expect("a receiver"))
    }
}

#[test]
fn the_example_runs_as_its_readme_says_and_goes_on_when_the_server_is_back() {
    let certificates = tempfile::tempdir().expect("a folder");
    let (tls, _) = secured(&Root::new(), certificates.path());
    let mut rabbit =
        Rabbit::start_with_tls(tls).expect("RabbitMQ runs; `cargo xtask brokers up` tells what is missing");
    let example = Example::new(&rabbit, certificates.path());
    let (mut node, receiver) = example.run();
    // The server ends, and with it the queues, which are not durable.
    drop(receiver);
    rabbit.kill().expect("killed");
    until(example.runtime.path(), "both wait", |bridge| bridge.state == "waiting");
    rabbit.start_again().expect("started");
    until(example.runtime.path(), "the queues are not there", |bridge| {
        bridge.reason.as_ref().is_some_and(|reason| reason.contains("NOT_FOUND"))
    });
    let receiver = example.script("target/pika/bin/python examples/bridge/receive.py");
    receiver.prints("waits for messages; Ctrl-C ends it");
    example.script("target/pika/bin/python examples/bridge/send.py").prints(" [x] Sent 'Hello World!'");
    receiver.prints(" [x] Received Hello World! And hello, RabbitMQ!");
    drop(receiver);
    let told = example.log();
    let lines: Vec<&str> = told.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    // Of each bridge one when the server went, and one before if its queue was not there yet.
    assert!((2..=4).contains(&lines.len()), "{told}");
    assert!(lines.iter().all(|line| line.contains("waiting, trying again by itself")), "{told}");
    assert!(!told.contains("guest:guest"), "{told}");
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0), "{}", example.log());
}

/// Waits until something is so of every bridge.
fn until(runtime: &Path, what: &str, is_so: impl Fn(&BridgeStatus) -> bool) {
    let (clock, mut told) = (SystemClock::new(), String::new());
    let began = clock.now();
    while clock.now().since(began) < PATIENCE {
        told = ask(runtime, &["status", "--json"], "");
        let report: StatusReport = serde_json::from_str(&told).expect("JSON");
        if report.bridges.iter().all(&is_so) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{what}: not within {PATIENCE:?}: {told}");
}

fn bridge<'s>(status: &'s StatusReport, name: &str) -> &'s BridgeStatus {
    status
        .bridges
        .iter()
        .find(|bridge| bridge.name == name)
        .unwrap_or_else(|| panic!("no {name}: {:?}", status.bridges))
}

/// A NATS server that asks for the certificate of whoever connects and for the credentials of a user, and what has both.
struct Guarded {
    nats: Nats,
    client: Client,
    /// What an address says behind its `?`.
    own: String,
    _files: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let (files, root, operator) = (tempfile::tempdir().expect("a folder"), Root::new(), Operator::new());
        let folder = files.path();
        let (ca, settings) = (root.write(folder, "ca.pem"), operator.settings(folder));
        let (server_cert, server_key) = root.signs("server").write(folder, "server");
        let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &server_cert, "--tlskey", &server_key];
        let nats = Nats::start_with(&[&["--config", &settings], &tls[..]].concat());
        let nats = nats.expect("nats-server runs; `cargo xtask brokers up` tells what is missing");
        let (cert, key) = root.signs("bridge").write(folder, "bridge");
        let credentials = operator.user().credentials(folder, "user.creds");
        let options = ConnectOptions::with_credentials_file(&credentials).await.expect("credentials");
        let options =
            options.add_root_certificates((&*ca).into()).add_client_certificate((&*cert).into(), (&*key).into());
        let client = options.connect(nats.url()).await.expect("connected");
        let own = format!("credentials={credentials}&ca={ca}&cert={cert}&key={key}");
        Self { nats, client, own, _files: files }
    }
}

/// A stream `IN` that comes in, is forwarded, and goes out to the stream `OUT`.
fn app(guarded: &Guarded) -> App {
    let (url, own) = (guarded.nats.url().replace("nats://", "tls://"), &guarded.own);
    App::new()
        .manifest(&format!(
            "[limits]\nevent-bytes = \"64KiB\"\n\n[bridges.in]\nfrom = \"{url}/stream/IN?{own}\"\nto = \"topic shop.in\"\n\n\
             [bridges.typed]\nfrom = \"{url}/stream/TYPED?{own}\"\nto = \"topic test.values.v1.inputs.nothing\"\n\n\
             [bridges.out]\nfrom = \"topic shop.out\"\nto = \"{url}/stream/OUT?subject=out.a&{own}\"\n\
             retry = {{ attempts = 2, backoff = \"10ms\" }}\n"
        ))
        .service(
            "forward",
            programs::FORWARD,
            "subscribe = [\"shop.in\"]\npublish = [\"shop.out\"]\nconfig = { to = \"shop.out\" }\n",
        )
        .service("mirror", programs::MIRROR, "")
}

async fn stream(context: &jetstream::Context, name: &str, subject: &str) {
    let config =
        stream::Config { name: name.to_owned(), subjects: vec![subject.to_owned()], ..stream::Config::default() };
    context.create_stream(config).await.expect("a stream");
}

/// The stream `OUT` with room for so many messages.
fn holds(messages: i64) -> stream::Config {
    stream::Config {
        name: "OUT".to_owned(),
        subjects: vec!["out.a".to_owned()],
        max_messages: messages,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_is_handled_and_goes_out_over_a_restart_of_the_node() {
    let guarded = Guarded::start().await;
    let context = jetstream::new(guarded.client.clone());
    stream(&context, "IN", "in.>").await;
    let app = app(&guarded);
    let bus = app.run_on_disk().await;
    let send = async |subject: &'static str, text: String| {
        let sent = context.publish(subject, text.into()).await.expect("sent");
        sent.await.expect("stored");
    };
    stream(&context, "TYPED", "typed").await;
    send("typed", "{}".to_owned()).await;
    send("typed", "no JSON".to_owned()).await;
    bus.until("what does not fit the contract is refused", |status| {
        let bridge = bridge(status, "typed");
        (bridge.copied, bridge.refused) == (1, 1)
    })
    .await;
    assert_eq!(bus.texts("test.values.v1.inputs.nothing").await, ["{}"]);
    send("in.a", "m0".to_owned()).await;
    send("in.a", "x".repeat(100_000)).await;
    send("in.a", "m1".to_owned()).await;
    bus.until("two came in, and one was too large", |status| {
        let bridge = bridge(status, "in");
        (bridge.copied, bridge.refused, &*bridge.state) == (2, 1, "connected")
    })
    .await;
    bus.until("the other stream is not there", |status| bridge(status, "out").state == "waiting").await;
    let first = bus.tail("shop.in").await.remove(0);
    assert_eq!(first.source.as_deref(), Some("bridge.in"));
    // What was forwarded waits over a restart, and nothing counted as an attempt.
    bus.node.drain().await.expect("drained");
    send("in.a", "m2".to_owned()).await;
    context.create_stream(holds(4)).await.expect("a stream");
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
    bus.until("it is full", |status| bridge(status, "out").copied == 4).await;
    bus.send("shop.out", "one too many").await;
    bus.until("given up", |status| bridge(status, "out").retried == 2).await;
    let dead = bus.dead().await;
    assert_eq!((dead.len(), dead[0].service.as_str(), dead[0].attempts), (1, "bridge.out", 2));
    assert!(dead[0].error.contains("the stream OUT did not take it"), "{dead:?}");
    context.update_stream(holds(10)).await.expect("updated");
    bus.node.admin().dead_retry(DeadFilter::default()).await.expect("given back");
    bus.until("it went out at last", |status| bridge(status, "out").copied == 5).await;

    // A stream that goes while it is in use is waited for, as one that was not there.
    context.delete_stream("OUT").await.expect("deleted");
    bus.send("shop.out", "held").await;
    bus.until("it waits", |status| bridge(status, "out").state == "waiting").await;
    context.create_stream(holds(10)).await.expect("a stream");
    bus.until("it went out as well", |status| bridge(status, "out").copied == 6).await;
    assert_eq!((bridge(&bus.status().await, "out").retried, bus.dead().await.len()), (2, 0));
    bus.stop().await;
}
