//! A `busway` process, and its admin API.
//!
//! Invariants: the process is this test's own child and is gone when it is dropped; it announces itself in a runtime
//! folder of its own, and nothing else of this user is found or disturbed.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use busway_tests::programs;
use busway_types::{Clock as _, SystemClock};
use serde::Deserialize;
use ureq::Agent;

/// How long a node may take to answer or to end, on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(2);

/// How many services the application has.
pub(crate) const SERVICES: usize = 8;

/// The folders of the test.
#[derive(Debug)]
pub(crate) struct Place {
    binary: PathBuf,
    folder: PathBuf,
    /// Where the queues live.
    engine: String,
}

/// What a node announces.
#[derive(Clone, Debug, Deserialize)]
struct Announced {
    address: SocketAddr,
    token: String,
}

/// How to reach a node.
#[derive(Clone, Debug)]
pub(crate) struct Address(Arc<Announced>);

impl Address {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.address)
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0.token)
    }
}

/// A client that keeps no answer waiting for ever.
pub(crate) fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_recv_response(Some(Duration::from_mins(1)))
        .build();
    config.into()
}

impl Place {
    /// Writes the application into an empty folder. Its queues live there too, unless they live at `engine`.
    pub(crate) fn new(folder: &Path, engine: Option<&str>) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for the test");
        let settings = "retry = { attempts = 1000, backoff = \"1ms\", backoff-max = \"30ms\" }\nfrom = \"start\"\n";
        let services = [
            ("forward", programs::FORWARD, "crash.in", "config = { to = \"crash.forwarded\" }\n"),
            ("relay", programs::FORWARD, "crash.forwarded", "config = { to = \"crash.relayed\" }\n"),
            ("later", programs::FORWARD, "crash.later", "config = { to = \"crash.later.done\" }\n"),
            ("count", programs::COUNT, "crash.in", ""),
            ("recount", programs::COUNT, "crash.relayed", "concurrency = 2\n"),
            ("rewrite", programs::KV_RMW, "crash.in", "concurrency = 2\n"),
            ("tally", programs::TALLY, "crash.in", "config = { to = \"crash.tallied\" }\n"),
            ("flaky", programs::FLAKY, "crash.in", "config = { to = \"crash.flaky\" }\ntimeout = \"300ms\"\n"),
        ];
        let table = |(name, component, topic, more): &(&str, &str, &str, &str)| {
            let (subscribe, publish) = (format!("subscribe = [\"{topic}\"]\n"), "publish = [\"crash.>\"]\n");
            format!("[services.{name}]\ncomponent = {component:?}\n{subscribe}{publish}{settings}{more}\n")
        };
        let manifest: String = services.iter().map(table).collect();
        std::fs::write(folder.join("busway.toml"), manifest).expect("the manifest is written");
        let on_disk = || format!("file:{}", folder.join("data").display());
        let engine = engine.map_or_else(on_disk, ToOwned::to_owned);
        Self { binary: busway_tests::busway(), folder: folder.to_owned(), engine }
    }

    /// Starts a node on what the last one left.
    pub(crate) fn start(&self) -> Node {
        let log = File::options().create(true).append(true).open(self.folder.join("node.log")).expect("a file");
        let mut command = Command::new(&self.binary);
        command.arg("run").arg(&self.folder).args(["--engine", &self.engine]);
        command.env("BUSWAY_RUNTIME_DIR", self.folder.join("runtime")).env_remove("BUSWAY_TOKEN");
        command.env("XDG_CACHE_HOME", self.folder.join("cache")).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        let announced = self.folder.join("runtime").join(format!("node-{}.json", child.id()));
        Node { child, announced }
    }

    /// The end of what the nodes said.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read(self.folder.join("node.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    announced: PathBuf,
}

impl Node {
    /// Waits until it answers.
    pub(crate) fn ready(&mut self) -> Result<Address, String> {
        let clock = SystemClock::new();
        let began = clock.now();
        while clock.now().since(began) < PATIENCE {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("the node ended by itself while it started: {status}"));
            }
            // The file appears whole, and only when the node can be asked.
            if let Ok(text) = std::fs::read(&self.announced) {
                let announced = serde_json::from_slice(&text).map_err(|e| format!("its announcement: {e}"))?;
                return Ok(Address(Arc::new(announced)));
            }
            std::thread::sleep(POLL);
        }
        Err(format!("the node does not answer after {PATIENCE:?}"))
    }

    /// Ends it at once, as a power cut ends a process.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
            return Err(format!("the node ended by itself: {status}"));
        }
        // `kill` is SIGKILL.
        self.child.kill().map_err(|e| e.to_string())?;
        self.child.wait().map(drop).map_err(|e| e.to_string())
    }

    /// Lets it finish what is in flight.
    pub(crate) fn stop(mut self) -> Result<ExitStatus, String> {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        sent.map_err(|e| format!("kill: {e}"))?;
        let clock = SystemClock::new();
        let began = clock.now();
        while clock.now().since(began) < PATIENCE {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        Err(format!("the node did not end within {PATIENCE:?}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
